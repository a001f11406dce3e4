"""Looking for the provider batch that an unanswered create may have made."""

from activities.services import Services
from overnight.batches import Batch
from overnight.errors import AmbiguousProviderError
from overnight.providers.base import ProviderReport, Submission


class StillInDoubtError(AmbiguousProviderError):
    """Lists had time to settle, and still there are batches that could be ours and could be others'."""


async def certain(services: Services, batch: Batch, submission: Submission) -> ProviderReport | None:
    """What an earlier create made; None when it is certain that it made nothing.

    Raises:
        StillInDoubtError: only the end of a candidate will tell.
        AmbiguousProviderError: it is too early to tell.
    """
    provider = services.provider(batch.provider)
    in_doubt_for = await services.store.submissions.doubt(batch.id)
    claimed = await services.store.submissions.claimed(provider.name)
    found = await provider.find(submission, claimed=claimed)
    if isinstance(found, ProviderReport):
        return found
    settled = in_doubt_for > services.settings.list_settles
    if found is None and settled:
        return None
    kind = StillInDoubtError if settled else AmbiguousProviderError
    text = "An earlier attempt may have created the batch. It is not created again before that is certain."
    raise kind(provider.name, "create", text)
