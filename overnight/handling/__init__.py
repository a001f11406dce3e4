"""The user's code once a batch is over: hydrate and dispatch, in the main worker or in a process of the user's own.

It stands on the library alone, so that a process whose environment has another distribution's `workflows` can do it
(docs/decisions/0015).
"""

from collections.abc import Callable, Sequence
from typing import Any

from overnight.handling.dispatch import DispatchActivities
from overnight.handling.hydrate import HydrateActivities
from overnight.handling.rounds import RoundActivities
from overnight.handling.services import Services

__all__ = ["Services", "handler_activities"]


def handler_activities(services: Services) -> Sequence[Callable[..., Any]]:
    """What runs the user's code; it needs no key."""
    hydrate, dispatch = HydrateActivities(services), DispatchActivities(services)
    return [hydrate.hydrate_results, dispatch.dispatch_handler, RoundActivities(services).plan_round]
