"""The one error tree. Every error says what happened, to what, and what to do.

::

    OvernightError
    ├── UsageError                  the caller can mend it; nothing was written, sent or paid
    │   ├── ConfigurationError      a setting is absent or senseless
    │   │   ├── MissingKeyError
    │   │   ├── MissingExtraError
    │   │   └── CodecKeyError       a payload from Temporal cannot be decrypted here
    │   ├── UnknownNameError        a name that resolves to nothing
    │   │   ├── UnknownProviderError
    │   │   ├── UnknownModelError
    │   │   ├── UnknownTaskError
    │   │   ├── UnknownHandlerError
    │   │   ├── UnknownBatchError
    │   │   └── UnknownCampaignError
    │   ├── AmbiguousNameError      one registered name, two classes
    │   ├── AmbiguousBatchError     the beginning of several batches' ids
    │   ├── ToolDefinitionError     a function or class that cannot be a tool
    │   ├── EntryError              one entry cannot be taken
    │   │   ├── CustomIdError
    │   │   ├── DuplicateCustomIdError
    │   │   └── RequestError        the provider could not take this request
    │   ├── LineError               one line of a request file cannot be taken
    │   ├── BatchTooLargeError
    │   ├── EmptyBatchError
    │   ├── CostLimitError          the batch could cost more than its max_cost
    │   ├── BatchClosedError        entries added, or a submit, after submit
    │   ├── BatchOpenError          forgetting a batch that is in flight
    │   ├── BatchTakenOverError     somebody else creates and fills the batch of this key
    │   ├── CancelRefusedError
    │   ├── RetryRefusedError       nothing to retry, or not over yet
    │   └── OfCampaignError         a batch of a campaign is only filled and submitted with the whole
    ├── NoOutputError               the output of an entry that did not succeed was asked for
    ├── ResponseError               an answer that is not an output; makes one entry `invalid`
    ├── HandlerFailedError          a handler raised; what it raised is the cause
    ├── StuckBatchError             in a test: a batch that does not go on by itself
    ├── ProviderError               the provider, or the wire to it
    │   ├── TransientProviderError  waiting mends it
    │   │   └── IncompleteResultsError  fewer results than the provider counts, or half a line
    │   ├── PermanentProviderError  somebody must mend it: a key, a setting, a limit
    │   └── AmbiguousProviderError  the request may or may not have been accepted
    └── ServerError                 a server of ours
        ├── DatabaseError
        ├── SchemaVersionError
        ├── TemporalError
        └── EmbeddedServerError
"""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal


class OvernightError(Exception):
    """Root of every error that this library raises on purpose."""

    @property
    def public(self) -> str:
        """The text as far as it may leave the database: into workflow history, logs and notices."""
        return str(self)


class UsageError(OvernightError):
    """Something the caller can mend. Nothing was written, sent or paid."""


class ConfigurationError(UsageError):
    """A setting is absent or makes no sense."""


class MissingKeyError(ConfigurationError):
    """No API key for a provider."""

    def __init__(self, provider: str, variable: str) -> None:
        super().__init__(
            f"No API key for provider {provider!r}. Set {variable} in the environment. If only the workers hold keys, "
            f"set OVERNIGHT_KEYS_IN_WORKER_ONLY=true where the client runs."
        )
        self.provider, self.variable = provider, variable


class MissingExtraError(ConfigurationError):
    """A part of the library was used whose packages are not installed."""

    def __init__(self, part: str, extra: str) -> None:
        super().__init__(f"{part} needs packages that are not installed. Run: pip install 'overnight[{extra}]'")
        self.part, self.extra = part, extra


class CodecKeyError(ConfigurationError):
    """A payload from Temporal that cannot be decrypted here."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"A payload from Temporal was encrypted with key {key_id!r}, which does not open it here. Put that key "
            f"into OVERNIGHT_CODEC_KEYS, behind the one that encrypts, and keep it there until no workflow needs it."
        )
        self.key_id = key_id


class UnknownNameError(UsageError):
    """A name that resolves to nothing."""

    def __init__(self, what: str, name: str, way_out: str) -> None:
        super().__init__(f"Unknown {what} {name!r}. {way_out}")
        self.name = name


class UnknownProviderError(UnknownNameError):
    """No adapter of this name."""


class UnknownModelError(UnknownNameError):
    """A model that the price table does not know, or that has no batch endpoint."""


class UnknownTaskError(UnknownNameError):
    """No task class of this name is registered in this process."""


class UnknownHandlerError(UnknownNameError):
    """No handler class of this name is registered in this process."""


class UnknownBatchError(UnknownNameError):
    """No batch with this id in the database."""

    def __init__(self, batch_id: object) -> None:
        super().__init__("batch", str(batch_id), "`overnight list` shows the batches of this database.")


class UnknownCampaignError(UnknownNameError):
    """No campaign with this id in the database."""

    def __init__(self, campaign_id: object) -> None:
        super().__init__("campaign", str(campaign_id), "`overnight campaigns` shows the campaigns of this database.")


class AmbiguousNameError(UsageError):
    """Two registered classes share one name, so a row that carries it could mean either."""

    def __init__(self, what: str, name: str, places: list[str]) -> None:
        super().__init__(
            f"Two {what} classes are called {name!r}: {' and '.join(places)}. "
            f'Give one of them another name: class {name}(..., name="another-name").'
        )
        self.name, self.places = name, places


class AmbiguousBatchError(UsageError):
    """Several batches have an id that begins like this."""

    def __init__(self, prefix: str, ids: Sequence[object]) -> None:
        super().__init__(f"Several batches begin with {prefix!r}: {', '.join(map(str, ids))}. Give more of the id.")
        self.prefix, self.ids = prefix, ids


class ToolDefinitionError(UsageError):
    """A function or class that a model cannot be told of."""

    def __init__(self, tool: str, why: str) -> None:
        super().__init__(f"{tool} cannot be a tool: {why}. Use a function with typed arguments, or a pydantic model.")
        self.tool = tool


class EntryError(UsageError):
    """One entry cannot be taken."""


class CustomIdError(EntryError):
    """A custom id that the provider would refuse."""

    def __init__(self, custom_id: str, pattern: str) -> None:
        super().__init__(
            f"The custom id {custom_id!r} does not match {pattern}. "
            f"Use letters, digits, '-' and '_', within the length that the provider allows."
        )
        self.custom_id = custom_id


class DuplicateCustomIdError(EntryError):
    """The batch or campaign has an entry with this custom id already."""

    def __init__(self, custom_id: str, *, what: str = "batch") -> None:
        super().__init__(
            f"The custom id {custom_id!r} is in this {what} already, and results are matched by it alone. "
            f"Give each entry its own; none of the entries of this call was added."
        )
        self.custom_id = custom_id


class RequestError(EntryError):
    """The provider could not take this request."""


class LineError(UsageError):
    """A line of a request file cannot be taken."""

    def __init__(self, source: str, number: int, why: object) -> None:
        super().__init__(f"{source}, line {number}: {why}")
        self.source, self.number = source, number


class BatchTooLargeError(UsageError):
    """More entries or bytes than the provider takes in one batch."""

    def __init__(self, provider: str, what: str, limit: int) -> None:
        super().__init__(
            f"A batch of provider {provider!r} holds at most {limit:,} {what}, and this call would exceed that. "
            f"None of its entries was added. A campaign takes any number: `overnight.create_campaign(...)`."
        )
        self.provider, self.limit = provider, limit


class EmptyBatchError(UsageError):
    """A submit without entries."""

    def __init__(self, batch_id: object, *, what: str = "batch") -> None:
        super().__init__(
            f"{what.capitalize()} {batch_id} has no entries. Add at least one with `await {what}.add(task)`."
        )


class CostLimitError(UsageError):
    """A batch or campaign could cost more than its `max_cost`, or nobody can say what it costs at most."""

    def __init__(
        self,
        batch_id: object,
        max_cost: Decimal,
        at_most: Decimal | None,
        unknown: Sequence[str],
        *,
        what: str = "batch",
    ) -> None:
        if at_most is None:
            why = f"What it can cost at most is not known. {' '.join(unknown)}"
            way_out = "Take out what cannot be bounded, or submit it without a max_cost"
        else:
            why = f"It could cost up to ${at_most.normalize():f}."
            way_out = "Give it a higher max_cost, its tasks a lower max_tokens, or split it"
        super().__init__(
            f"{what.capitalize()} {batch_id} has a max_cost of ${max_cost.normalize():f}. {why} Nothing was sent. "
            f"{way_out}; `{what}.estimate()` has the figures."
        )
        self.max_cost, self.at_most = max_cost, at_most


class BatchClosedError(UsageError):
    """The batch was submitted; neither its entries nor its submission can change any more."""

    def __init__(self, batch_id: object, attempted: str, *, what: str = "batch") -> None:
        super().__init__(
            f"Cannot {attempted} {what} {batch_id}: it was submitted already. "
            f"Create another {what} for further entries."
        )


class BatchOpenError(UsageError):
    """A batch that is in flight cannot be forgotten: its results are still to come."""

    def __init__(self, batch_id: object) -> None:
        super().__init__(
            f"Batch {batch_id} is not over yet. Wait until its handler has run, or cancel it first: "
            f"overnight cancel {batch_id}"
        )
        self.batch_id = batch_id


class BatchTakenOverError(UsageError):
    """Another process has created the batch or campaign of this key again, and fills it."""

    def __init__(self, batch_id: object, *, what: str = "batch") -> None:
        super().__init__(
            f"{what.capitalize()} {batch_id} is filled by another process, which created it again by the same key. "
            f"Nothing was added; if both should go on, give each its own key."
        )


class CancelRefusedError(UsageError):
    """There is nothing to cancel: never submitted, or over."""

    def __init__(self, batch_id: object, reason: str, *, what: str = "batch") -> None:
        super().__init__(f"{what.capitalize()} {batch_id} cannot be canceled: {reason}.")
        self.reason = reason


class RetryRefusedError(UsageError):
    """There is nothing to retry, or the batch is not over."""

    def __init__(self, batch_id: object, reason: str) -> None:
        super().__init__(f"Batch {batch_id} cannot be retried: {reason}.")
        self.reason = reason


class OfCampaignError(UsageError):
    """A batch of a campaign was to be filled or submitted by itself."""

    def __init__(self, batch_id: object, campaign_id: object) -> None:
        super().__init__(
            f"Batch {batch_id} is a part of campaign {campaign_id}, which fills and submits its batches itself. "
            f"Use `overnight.campaign(...)`."
        )


class NoOutputError(OvernightError):
    """The output of an entry was asked for that has none."""

    def __init__(self, custom_id: str, outcome: str | None, reason: str | None) -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(
            f"Entry {custom_id!r} has no output: it is {outcome or 'not answered yet'}{why}. "
            f"Ask for outcomes=[Outcome.SUCCEEDED], or look at `entry.succeeded` first."
        )
        self.custom_id, self.outcome, self.reason = custom_id, outcome, reason

    @property
    def public(self) -> str:
        """Without the reason, which can quote the answer."""
        return f"Entry {self.custom_id!r} has no output: it is {self.outcome or 'not answered yet'}."


class ResponseError(OvernightError):
    """A response that cannot become an output: refused, cut off, or not fitting the Task's output type."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandlerFailedError(OvernightError):
    """A handler raised. Its words may quote what it handled, so only kind and place are public."""

    def __init__(self, handler: str, where: str) -> None:
        super().__init__(f"Handler {handler} raised {where}; its text is in batches.last_error.")
        self.handler = handler


class StuckBatchError(OvernightError):
    """A batch of a test does not go on by itself: its handler raises, a key is wrong, or it takes too long."""

    def __init__(self, batch_id: object, status: str, what: str, last_error: str | None) -> None:
        super().__init__(
            f"Batch {batch_id} is {status}, and does not go on by itself: {what}"
            + (f"\nThe newest failure in full: {last_error}" if last_error else "")
        )

    @property
    def public(self) -> str:
        """Without the failure's own words, which can quote entries."""
        return str(self).partition("\n")[0]


class ProviderError(OvernightError):
    """The provider answered with an error, or did not answer.

    Attributes:
        provider: name of the provider.
        operation: what was asked, in our words.
        status: HTTP status, or None when there was no answer.
        code: the provider's own error code or type, where it gave one.
        retry_after: how long the provider asked to wait, where it did.
    """

    _without_status = "no answer"

    def __init__(  # noqa: PLR0913 - one argument per fact that somebody on call needs
        self,
        provider: str,
        operation: str,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        answer = f"HTTP {status}" if status else self._without_status
        super().__init__(f"{provider} {operation}: {answer}{f' ({code})' if code else ''}: {message}")
        self.provider, self.operation, self.message = provider, operation, message
        self.status, self.code, self.retry_after = status, code, retry_after

    @property
    def public(self) -> str:
        """Without the provider's own words, which may quote the request that they refuse."""
        if self.status is None:
            return str(self)
        code = f" ({self.code})" if self.code else ""
        return f"{self.provider} {self.operation}: HTTP {self.status}{code}"


class TransientProviderError(ProviderError):
    """Waiting mends it: rate limits, overload, timeouts, cut connections of reads."""


class IncompleteResultsError(TransientProviderError):
    """The provider gives fewer results than it counts, or a file that ends within a line: the rest may still come."""

    _without_status = "incomplete"

    def __init__(self, provider: str, message: str) -> None:
        super().__init__(provider, "read results", message, code="results_incomplete")


class PermanentProviderError(ProviderError):
    """Somebody must mend it: a key, a setting, a limit. Retrying at once would only repeat it."""


class AmbiguousProviderError(ProviderError):
    """The request may or may not have been accepted; only a look at the provider can tell."""


class ServerError(OvernightError):
    """A server of ours does not answer, or not as it must."""


class DatabaseError(ServerError):
    """Postgres cannot be reached, or refuses us."""


class SchemaVersionError(ServerError):
    """The database's schema is not the one that this code was written for."""


class TemporalError(ServerError):
    """Temporal cannot be reached, or refuses us."""


class EmbeddedServerError(ServerError):
    """A server that we start ourselves did not start, or died."""
