"""The console as an ASGI app: routes, templates, and what it answers when something is wrong.

Nothing here changes anything: every page is a GET, and the database is read in read-only transactions. The one POST is
the login form's.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from overnight.console import formatting
from overnight.console.addresses import TemporalUi, address
from overnight.console.charts import stretches
from overnight.console.pages import Pages, Render
from overnight.console.security import SecurityHeaders, TokenGate, log_in
from overnight.errors import OvernightError, ServerError, UnknownBatchError, UnknownCampaignError
from overnight.storage.console import ConsoleStore

_STATIC = Path(__file__).parent / "static"
_FILTERS = (
    "visible",
    "plain",
    "short",
    "money",
    "dollars",
    "number",
    "share",
    "size",
    "duration",
    "moment",
    "exact",
    "word",
)


class _Static(StaticFiles):
    """Files of ours, asked for again only when they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response


def console_app(
    store: ConsoleStore, *, hosts: Sequence[str], token: str | None = None, temporal_ui: TemporalUi | None = None
) -> Starlette:
    """The console.

    Args:
        store: what it shows.
        hosts: the names under which it may be called, so that no foreign name can be made to point at it.
        token: what callers must show; none is asked for where it is None.
        temporal_ui: where workflows can be looked at; there are no links to them where it is None.
    """
    render = _templates()
    middleware = [Middleware(SecurityHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))]
    routes = _routes(Pages(store, render, temporal_ui))
    if token is not None:
        middleware.append(Middleware(TokenGate, token=token, ask=_login_page(render, said_wrong=False)))
        routes.append(_login_route(render, token))
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={OvernightError: _problem(render), HTTPException: _problem(render)},
    )


def _routes(pages: Pages) -> list[BaseRoute]:
    batch, campaign = "/batches/{batch_id:uuid}", "/campaigns/{campaign_id:uuid}"
    shown = {
        "/": pages.batches,
        "/search": pages.search,
        "/costs": pages.costs,
        "/campaigns": pages.campaigns,
        campaign: pages.campaign,
        batch: pages.batch,
        f"{batch}/entries": pages.entries,
        f"{batch}/entries/{{position}}": pages.entry,
        f"{batch}/entries/{{position}}/{{part}}.txt": pages.text,
        f"{batch}/strays": pages.strays,
        f"{batch}/strays/line": pages.stray,
    }
    routes: list[BaseRoute] = [Route(path, page, methods=["GET"]) for path, page in shown.items()]
    return [*routes, Mount("/static", _Static(directory=_STATIC))]


def _templates() -> Render:
    environment = Environment(
        loader=PackageLoader("overnight.console"),
        autoescape=True,  # always: every text on these pages may be a stranger's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(formatting, name) for name in _FILTERS}
    environment.globals |= {"address": address, "stretches": stretches, "now": lambda: datetime.now(UTC)}

    def render(template: str, **values: object) -> str:
        return environment.get_template(template).render(**values)

    return render


def _login_page(render: Render, *, said_wrong: bool) -> Callable[[str], Response]:
    def ask(wanted: str) -> Response:
        page = render("login.html", wanted=wanted, said_wrong=said_wrong)
        return HTMLResponse(page, status_code=401, headers={"www-authenticate": "Bearer"})

    return ask


def _login_route(render: Render, token: str) -> Route:
    refuse = _login_page(render, said_wrong=True)

    async def answer(request: Request) -> Response:
        return await log_in(request, token=token, refuse=refuse)

    return Route("/login", answer, methods=["POST"])


def _problem(render: Render) -> Callable[[Request, Exception], Response]:
    """What went wrong, as a page."""

    def answer(_: Request, error: Exception) -> Response:
        status, text = _told(error)
        headers = getattr(error, "headers", None)
        return HTMLResponse(render("problem.html", status=status, text=text), status_code=status, headers=headers)

    return answer


def _told(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException(status_code=404, detail="Not Found"):
            return 404, "There is no such page."
        case HTTPException():
            return error.status_code, error.detail
        case UnknownBatchError():
            return 404, "There is no batch with this id in this database."
        case UnknownCampaignError():
            return 404, "There is no campaign with this id in this database."
        case ServerError():
            return 503, str(error)
        case _:
            return 400, str(error)
