"""The console as `overnight ui` serves it, and a Chromium to look at it with."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest
from anyio.from_thread import BlockingPortal
from playwright.sync_api import Browser, Page, sync_playwright
from pydantic import SecretStr

from overnight.embedded import EmbeddedPostgres
from overnight.settings import Settings
from overnight.storage.store import Store
from tests.integration.console_stage import Stage, campaign_in_its_second_round, many_batches, set_stage

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass(frozen=True, kw_only=True)
class Console:
    """Where it is, and what it shows."""

    url: str
    stage: Stage
    campaign: UUID

    @property
    def paths(self) -> list[str]:
        """One of every kind of page, and those with the worst texts."""
        batch = f"/batches/{self.stage.harmful}"
        own = ("", "/entries", "/entries?outcome=errored", "/entries/1", "/entries/2", "/strays")
        campaigns = ("/campaigns", f"/campaigns/{self.campaign}", f"/campaigns/{self.campaign}?only=troubled")
        pages = ("/", *campaigns, "/costs", "/search", "/search?q=nothing", f"/batches/{self.stage.running}")
        return [*pages, *(batch + path for path in own)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("OVERNIGHT_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on the PATH; install one, or name it in OVERNIGHT_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_QUIET)
        yield browser
        browser.close()


async def _fill(url: str) -> tuple[Stage, UUID]:
    store = Store.from_settings(Settings(database_url=SecretStr(url)))
    await many_batches(store, 60)
    stage, campaign = await set_stage(store), await campaign_in_its_second_round(store)
    await store.aclose()
    return stage, campaign


@pytest.fixture(scope="module")
def database(browser: Browser, postgres: EmbeddedPostgres, overnight_template: str) -> Iterator[str]:
    """One database for all that only look; none where there is no browser."""
    name = f"console_{os.getpid()}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"create database {name} template {overnight_template}")
        yield postgres.dsn.rpartition("/")[0] + f"/{name}"
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def console(database: str, overnight_portal: BlockingPortal) -> Iterator[Console]:
    stage, campaign = overnight_portal.call(_fill, database)
    environment = {**os.environ, "OVERNIGHT_DATABASE_URL": database, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "overnight.cli", "ui", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[2].rstrip(";")
            yield Console(url=url, stage=stage, campaign=campaign)
        finally:
            process.terminate()


@pytest.fixture
def page(browser: Browser, console: Console) -> Iterator[Page]:
    """A fresh window on the console; other pages are a path away."""
    context = browser.new_context(base_url=console.url)
    yield context.new_page()
    context.close()
