"""The provider simulator: OpenAI's Files and Batches and Anthropic's Message Batches, without paying.

    with running(SimulatorConfig(stages=Stages(in_progress=0.5))) as simulator:
        client = AsyncOpenAI(base_url=simulator.openai_base_url, api_key="any")

It validates, ages, answers and fails as the real services do; see `Fault` for failing on purpose, `Responder` for
answers of your own, and `/_simulator/` on a running one for looking inside and moving its clock.
"""

from overnight.simulator.app import create_app
from overnight.simulator.config import Limits, SimulatorConfig, Stages
from overnight.simulator.faults import (
    BatchEffect,
    CutEffect,
    DelayEffect,
    DropEffect,
    Fault,
    HtmlEffect,
    LineEffect,
    ListLagEffect,
    Match,
    ShortEffect,
    StatusEffect,
    read_faults,
)
from overnight.simulator.models import (
    Message,
    ModelError,
    ModelReply,
    ModelRequest,
    Responder,
    Tool,
    ToolCall,
)
from overnight.simulator.responders import DefaultResponder, ScriptedAnswer
from overnight.simulator.schema_instance import make_instance
from overnight.simulator.serve import NotLoopbackError, Running, run, running
from overnight.simulator.store import StateInUseError

__all__ = [
    "BatchEffect",
    "CutEffect",
    "DefaultResponder",
    "DelayEffect",
    "DropEffect",
    "Fault",
    "HtmlEffect",
    "Limits",
    "LineEffect",
    "ListLagEffect",
    "Match",
    "Message",
    "ModelError",
    "ModelReply",
    "ModelRequest",
    "NotLoopbackError",
    "Responder",
    "Running",
    "ScriptedAnswer",
    "ShortEffect",
    "SimulatorConfig",
    "Stages",
    "StateInUseError",
    "StatusEffect",
    "Tool",
    "ToolCall",
    "create_app",
    "make_instance",
    "read_faults",
    "run",
    "running",
]
