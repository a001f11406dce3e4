"""How Temporal is reached: from the client, from workers, from the command line, always in the same way."""

import re

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from overnight.codec import data_converter
from overnight.errors import TemporalError
from overnight.settings import Settings
from overnight.tracing import interceptors

DEFAULT_ADDRESS = "localhost:7233"

_OWN_WORDS = re.compile(r'\bcode: \d+, .*?message: "([^"]+)"')


async def connect_temporal(settings: Settings, *, runtime: Runtime | None = None) -> Client:
    """Connect as the environment and Temporal's own TOML profiles say (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, ...), and
    encrypt what crosses where the settings have keys for it.

    Args:
        settings: for the keys.
        runtime: with metrics, for a worker that has some; by default the process's own.

    Raises:
        ConfigurationError: the keys make no sense, or the extra for them, or for traces, is not installed.
        TemporalError: it does not answer, refuses us, or the configuration makes no sense.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except (OSError, RuntimeError, ValueError) as error:
        raise TemporalError(f"Temporal's configuration makes no sense: {error}") from None
    config.setdefault("target_host", DEFAULT_ADDRESS)
    converter, traced = data_converter(settings), interceptors()
    try:
        return await Client.connect(**config, data_converter=converter, runtime=runtime, interceptors=traced)
    except (RuntimeError, RPCError) as error:
        raise TemporalError(
            f"Temporal does not answer at {config['target_host']}: {_cause(error)}. "
            f"Check TEMPORAL_ADDRESS and that the server runs; `overnight dev` starts one for development."
        ) from None


def _cause(error: Exception) -> str:
    """The operating system's words, where the error has some behind those of the SDK's libraries."""
    found = _OWN_WORDS.search(str(error))
    return found[1] if found else str(error)


async def check_namespace(client: Client) -> None:
    """Make sure that the namespace exists and may be used.

    Raises:
        TemporalError: it does not, or we may not.
    """
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest  # noqa: PLC0415 - 20 ms of protobuf

    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        raise TemporalError(
            f"Temporal's namespace {client.namespace!r} cannot be used: {error.message}. "
            f"Set TEMPORAL_NAMESPACE, or create it: temporal operator namespace create -n {client.namespace}"
        ) from None


async def status_of(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """How the newest run of a workflow is; None where Temporal knows no such workflow.

    Raises:
        TemporalError: Temporal does not answer.
    """
    try:
        return (await client.get_workflow_handle(workflow_id).describe()).status
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise TemporalError(f"Temporal cannot say how workflow {workflow_id} is: {error.message}") from None
