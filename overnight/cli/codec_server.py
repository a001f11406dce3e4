"""`overnight codec-server`."""

import typer

from overnight.codec import codec_from
from overnight.codec_server import codec_app
from overnight.errors import ConfigurationError
from overnight.serving import allowed_hosts, require_token, serve
from overnight.settings import Settings, secret_from_environment

TOKEN = "OVERNIGHT_CODEC_SERVER_TOKEN"  # noqa: S105 - the variable's name


async def serve_codec(*, host: str, port: int, ui_origins: list[str], names: list[str]) -> None:
    """Serve until stopped.

    Raises:
        ConfigurationError: there are no keys, or the server would be open to the network.
    """
    token = secret_from_environment(TOKEN)
    require_token(host, token, variable=TOKEN)
    codec = codec_from(Settings.from_environment())
    if codec is None:
        raise ConfigurationError("There is nothing to decrypt with. Set OVERNIGHT_CODEC_KEYS as the workers have it.")
    app = codec_app(codec, ui_origins=ui_origins, hosts=allowed_hosts(host, names), token=token)
    await serve(app, host=host, port=port, on_ready=_announce)


def _announce(url: str) -> None:
    typer.echo(f"Codec server at {url}. In Temporal's UI: the glasses icon, Remote Codec Endpoint: {url}")
