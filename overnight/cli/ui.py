"""`overnight ui`."""

import typer
from temporalio.envconfig import ClientConfig

from overnight.cli.database import open_store
from overnight.console.addresses import TemporalUi
from overnight.console.app import console_app
from overnight.errors import ConfigurationError
from overnight.serving import allowed_hosts, require_token, serve
from overnight.settings import secret_from_environment

TOKEN = "OVERNIGHT_UI_TOKEN"  # noqa: S105 - the variable's name
TEMPORAL_UI = "OVERNIGHT_TEMPORAL_UI_URL"


async def serve_console(*, host: str, port: int, names: list[str], temporal_ui: str | None) -> None:
    """Serve until stopped.

    Raises:
        ConfigurationError: the server would be open to the network, or a setting makes no sense.
        DatabaseError: Postgres does not answer.
        SchemaVersionError: its schema is not this code's.
    """
    token = secret_from_environment(TOKEN)
    require_token(host, token, variable=TOKEN)
    ui = _temporal_ui(temporal_ui)
    async with open_store() as store:
        app = console_app(store.console, hosts=allowed_hosts(host, names), token=token, temporal_ui=ui)
        await serve(app, host=host, port=port, on_ready=_announce)


def _announce(url: str) -> None:
    typer.echo(f"Console at {url}; Ctrl-C ends it.")


def _temporal_ui(base_url: str | None) -> TemporalUi | None:
    if not base_url:
        return None
    if not base_url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{TEMPORAL_UI} and --temporal-ui are a URL: http://localhost:8233, for one.")
    try:
        namespace = ClientConfig.load_client_connect_config().get("namespace") or "default"
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigurationError(f"Temporal's configuration makes no sense: {error}") from None
    return TemporalUi(base_url=base_url, namespace=namespace)
