"""Say what the workflow alone can see: that nobody takes a step, or that nobody will try it again."""

from temporalio import activity

from activities.services import Services
from overnight.contracts import Trouble
from overnight.handling.failures import translated
from overnight.notices import NoticeKind


class TroubleActivities:
    """Telling."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @activity.defn(name="report_trouble")
    @translated
    async def report_trouble(self, request: Trouble) -> None:
        subject = self._services.subject(request)
        await self._services.in_trouble(subject, request.code, request.text, NoticeKind.ATTENTION)
