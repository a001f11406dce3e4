"""Settings: the environment, read once, into one frozen value.

The connection to Temporal is not in here: it is read by Temporal's own `temporalio.envconfig` (TEMPORAL_ADDRESS,
TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS_*, TEMPORAL_PROFILE and its TOML file), so that whatever works for
the `temporal` command works here.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from overnight.errors import ConfigurationError
from overnight.fees import ToolFees, read_fees
from overnight.prices import PriceOverrides, read_overrides
from overnight.schedule import DEFAULT_MAX_AGE, DEFAULT_WAITS, PollSchedule

_PORTS = 65_535


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _safe_url(url: str) -> str:
    """Keys and prompts go to these addresses, so nothing but loopback may be reached without TLS."""
    url = url.strip().rstrip("/")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        return url
    shown = f"{parts.scheme}://{host}"  # not the whole of it: a URL can carry a password
    raise ValueError(f"{shown!r} must be https:// and a host (plain http:// is taken for loopback addresses only)")


def _socket_address(address: str | None) -> str | None:
    """Names are not resolved: which address of several would be listened on is nobody's guess."""
    if address is None:
        return None
    host, _, port = address.strip().rpartition(":")
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)
    try:
        ip_address(host.strip("[]"))
        if 0 <= int(port) <= _PORTS:
            return f"{host}:{port}"
    except ValueError:
        pass
    raise ValueError("must be an IP address and a port, e.g. 127.0.0.1:9464")


def _psycopg_url(url: str) -> str:
    """Accept the URL that every Postgres tool prints; the driver is ours to choose."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        # What was set instead is not shown: it may be a password.
        raise ConfigurationError("OVERNIGHT_DATABASE_URL must begin with postgresql://.")
    return f"postgresql+psycopg://{rest}"


def _seconds(value: object) -> object:
    """Durations arrive from the environment as text: plain seconds, or ISO 8601 ("PT5M")."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]
BaseUrl = Annotated[str, AfterValidator(_safe_url)]


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets as files, the way container platforms mount them: OPENAI_API_KEY_FILE names a file with the key."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = field.validation_alias or f"{self.config.get('env_prefix')}{field_name}".upper()
        path = os.environ.get(f"{variable}_FILE")
        return (_secret_in(path, str(variable)) if path and _is_secret(field) else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def secret_from_environment(variable: str) -> str | None:
    """A secret that only one command takes: the variable, or what is in the file that `<variable>_FILE` names.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    path = os.environ.get(f"{variable}_FILE")
    return os.environ.get(variable) or (_secret_in(path, variable) if path else None) or None


def _secret_in(path: str, variable: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"{variable}_FILE names a file that cannot be read: {why}.") from None


class Settings(BaseSettings):
    """Everything that a deployment sets. Field names are environment variables, prefixed with OVERNIGHT_ unless the
    field says otherwise. A secret may also be a file, named by the same variable with _FILE behind it.
    """

    model_config = SettingsConfigDict(
        env_prefix="OVERNIGHT_",
        env_ignore_empty=True,  # compose files pass what is not set as an empty string
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    database_url: Annotated[SecretStr | None, Field(description="postgresql:// URL of the database.")] = None
    task_queue: Annotated[str, Field(description="Temporal task queue of the Batch workflow and its activities.")] = (
        "overnight"
    )
    cached_workflows: Annotated[
        int,
        Field(
            ge=1,
            description="Batches whose workflow a worker keeps in memory. Another one's history is read again when it "
            "wakes.",
        ),
    ] = 1000
    poll_waits: Annotated[
        tuple[Duration, ...],
        NoDecode,
        BeforeValidator(_split),
        Field(
            description="Waits between polls, in seconds, comma-separated; the last repeats. A batch takes them from "
            "the client that creates it (from the worker, where a workflow is started with a whole `spec`), and keeps "
            "them."
        ),
    ] = DEFAULT_WAITS
    max_age: Annotated[
        Duration,
        Field(
            description="How long after submission a batch is waited for. It is taken from where "
            "OVERNIGHT_POLL_WAITS is, when the batch is created."
        ),
    ] = DEFAULT_MAX_AGE
    list_settles: Annotated[
        Duration,
        Field(
            description="How long a provider's list of batches may lag behind a create. For so long after a create "
            "without an answer, a list without our batch proves nothing."
        ),
    ] = timedelta(minutes=2)
    results_settle: Annotated[
        Duration,
        Field(
            description="How long result lines are waited for that the provider counts and does not give. Then their "
            "entries are `missing`, and somebody is told. Shorten it for a server that counts too many."
        ),
    ] = timedelta(hours=1)
    search_attributes: Annotated[
        bool | None,
        Field(
            description="Whether workflows set the search attributes that `overnight temporal setup` registers. By "
            "default the namespace is asked; set it where a worker may not ask."
        ),
    ] = None
    codec_keys: Annotated[
        SecretStr | None,
        Field(
            description="`id:base64key` pairs, comma-separated: encrypts all that goes to Temporal (extra `codec`). "
            "The first key encrypts, all decrypt."
        ),
    ] = None
    delete_at_provider: Annotated[
        bool,
        Field(
            description="Delete input files, result files and, where it can be done, batches at the provider once the "
            "handler has run. A database that is restored to an earlier moment then cannot read them again."
        ),
    ] = False
    prices: Annotated[
        PriceOverrides,
        NoDecode,
        BeforeValidator(read_overrides),
        Field(
            description="Prices of your own, as JSON or the path of a JSON file: provider, model, then US dollars per "
            "million tokens for input, output, cached, cache_write and cache_write_1h, and batch_factor."
        ),
    ] = Field(default_factory=dict)
    tool_fees: Annotated[
        ToolFees,
        NoDecode,
        BeforeValidator(read_fees),
        Field(
            description="What you pay for calls of tools that providers run, as JSON or the path of a JSON file: "
            "provider, tool (`web_search`), then US dollars per thousand calls. Without it the cost of an answer with "
            "such calls is unknown."
        ),
    ] = Field(default_factory=dict)
    webhook_url: Annotated[BaseUrl | None, Field(description="Where notices are posted (extra `webhook`).")] = None
    webhook_secret: Annotated[SecretStr | None, Field(description="Standard Webhooks secret, whsec_...")] = None
    sentry_dsn: Annotated[SecretStr | None, Field(description="Where notices become events (extra `sentry`).")] = None
    keys_in_worker_only: Annotated[
        bool, Field(description="The client process has no provider keys by design; do not ask it for one.")
    ] = False

    log_error_texts: Annotated[
        bool, Field(description="Log what handlers raise in full. It may quote prompts and answers: for development.")
    ] = False

    metrics_address: Annotated[
        str | None,
        AfterValidator(_socket_address),
        Field(
            description="Where a worker serves Prometheus metrics, e.g. 127.0.0.1:9464; a port alone is on loopback."
        ),
    ] = None

    openai_api_key: Annotated[
        SecretStr | None, Field(validation_alias="OPENAI_API_KEY", description="OpenAI's key.")
    ] = None
    openai_base_url: Annotated[
        BaseUrl, Field(validation_alias="OPENAI_BASE_URL", description="Where OpenAI, or what stands in for it, is.")
    ] = "https://api.openai.com/v1"
    openai_organization: Annotated[
        str | None, Field(validation_alias="OPENAI_ORG_ID", description="Organization that is billed.")
    ] = None
    openai_project: Annotated[
        str | None, Field(validation_alias="OPENAI_PROJECT_ID", description="Project that is billed.")
    ] = None
    anthropic_api_key: Annotated[
        SecretStr | None, Field(validation_alias="ANTHROPIC_API_KEY", description="Anthropic's key.")
    ] = None
    anthropic_base_url: Annotated[
        BaseUrl,
        Field(validation_alias="ANTHROPIC_BASE_URL", description="Where Anthropic, or what stands in for it, is."),
    ] = "https://api.anthropic.com"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's own hook
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - "
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A variable counts before its file: it is the one that is seen."""
        return init_settings, env_settings, _SecretFiles(settings_cls)

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment.

        Raises:
            ConfigurationError: a variable is set to something that makes no sense; the text names it.
        """
        try:
            settings = cls()
            settings.schedule  # noqa: B018 - a senseless schedule is said here, not at the first batch
        except ValidationError as error:
            lines = [f"{cls._variable(item['loc'])}: {item['msg']}" for item in error.errors(include_input=False)]
            raise ConfigurationError("Settings: " + "; ".join(lines)) from None
        except ValueError as error:
            raise ConfigurationError(f"Settings: OVERNIGHT_POLL_WAITS and OVERNIGHT_MAX_AGE: {error}") from None
        return settings

    @classmethod
    def _variable(cls, loc: Sequence[int | str]) -> str:
        name = str(loc[0])
        return f"OVERNIGHT_{name.upper()}" if name in cls.model_fields else name

    @property
    def schedule(self) -> PollSchedule:
        """The deployment's default poll schedule."""
        return PollSchedule(waits=self.poll_waits, max_age=self.max_age)

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address for SQLAlchemy.

        Raises:
            ConfigurationError: none is set, or not one of Postgres.
        """
        if self.database_url is None:
            raise ConfigurationError(
                "No database. Set OVERNIGHT_DATABASE_URL, e.g. postgresql://user:password@localhost:5432/overnight; "
                "`overnight dev` starts one for development."
            )
        return _psycopg_url(self.database_url.get_secret_value())
