"""What the person on call sees: batches in Temporal's lists, and a batch's page in a real browser."""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from overnight import BatchHandler, Overnight, Task
from overnight.client import BatchHandle
from overnight.embedded import EmbeddedTemporal

CHROMIUM = shutil.which("chromium")
# Set to a folder, it gets pictures of what was looked at.
SHOTS = os.environ.get("SHOTS")
# A browser that calls nobody but the page.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.usefixtures("worker")


class Ask(Task[str], name="ui-ask"):
    text: str

    def prompt(self) -> str:
        return self.text


class Stuck(BatchHandler, name="ui-stuck"):
    mended = False

    async def on_success(self) -> None:
        if not Stuck.mended:
            raise LookupError("a secret of the handler")


@pytest.fixture(autouse=True)
def broken() -> Iterator[None]:
    Stuck.mended = False
    yield
    Stuck.mended = False


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What the condition gives as soon as it gives anything; the test's own timeout is the limit."""
    while not (found := await condition()):
        await asyncio.sleep(0.05)
    return found


async def stuck_batch(overnight: Overnight) -> BatchHandle:
    batch = await overnight.create_batch(provider="openai", model="gpt-5.4-mini", handler=Stuck)
    await batch.add_all(Ask(text=f"a secret prompt {n}") for n in range(3))
    await batch.submit()
    return batch


async def listed(overnight: Overnight, batch: BatchHandle, query: str) -> list[str]:
    """The ids that a list filter of Temporal's finds, of this batch."""
    query = f"WorkflowId = 'batch-{batch.id}' and {query}"
    return [found.id async for found in overnight.temporal.list_workflows(query)]


async def test_what_needs_attention_is_one_filter_away_and_leaves_the_list_when_it_is_mended(
    overnight: Overnight,
) -> None:
    batch = await stuck_batch(overnight)

    await until(lambda: listed(overnight, batch, "OvernightNeedsAttention = true"))
    assert await listed(
        overnight,
        batch,
        "OvernightProvider = 'openai' and OvernightModel = 'gpt-5.4-mini' and OvernightHandler = 'ui-stuck' "
        "and OvernightStatus = 'ended'",
    )
    assert "secret" not in (await batch.progress()).model_dump_json()

    Stuck.mended = True
    await batch.retry_handler()
    await batch.wait()

    await until(lambda: listed(overnight, batch, "OvernightNeedsAttention = false"))
    assert not await listed(overnight, batch, "OvernightNeedsAttention = true")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
async def test_a_batch_that_needs_attention_explains_itself_in_the_browser(
    overnight: Overnight, temporal_server: EmbeddedTemporal
) -> None:
    batch = await stuck_batch(overnight)
    await until(lambda: listed(overnight, batch, "OvernightNeedsAttention = true"))

    run = await (await batch._workflow()).describe()
    query = quote(f"OvernightNeedsAttention = true and WorkflowId = '{run.id}'")
    found, text = await page_texts(
        (f"{temporal_server.ui_url}/namespaces/default/workflows?query={query}", "ui-stuck"),
        (f"{temporal_server.workflow_url(run.id)}/{run.run_id}/user-metadata", "What to do"),
    )

    [row] = [line for line in found.splitlines() if run.id in line and "\t" in line]
    assert [cell for cell in row.split("\t") if cell][1:] == ["ended", "gpt-5.4-mini", "ui-stuck"]
    assert "gpt-5.4-mini, 3 entries, handler ui-stuck" in text
    assert "Needs attention: dispatch — ended 3 of 3" in text
    assert f"overnight retry-handler {batch.id}" in text
    assert "submitted:" in text
    assert "secret" not in text


async def shown(page: Any, awaited: str) -> str:
    """What the page says, in its frames as well: Temporal's UI shows Markdown in frames of its own."""
    from playwright.async_api import Error

    try:
        text = "\n".join([await frame.inner_text("body") for frame in page.frames])
    except Error:  # the page puts a new frame in place of one while it is read
        return ""
    return text if awaited in text else ""


# What "Configure Columns" keeps in the browser.
COLUMNS = ["Workflow ID", "OvernightStatus", "OvernightModel", "OvernightHandler"]
KEEP_COLUMNS = f"""localStorage.setItem("namespace-workflow-table-columns", JSON.stringify({{
  default: {json.dumps([{"label": label} for label in COLUMNS])} }}))"""


async def page_texts(*pages: tuple[str, str]) -> list[str]:
    """What each page says once it says what is awaited."""
    from playwright.async_api import async_playwright

    texts = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page(viewport={"width": 1400, "height": 1000})
        await page.add_init_script(KEEP_COLUMNS)
        for number, (url, awaited) in enumerate(pages):
            await page.goto(url)
            texts.append(await until(lambda: shown(page, awaited)))  # noqa: B023 - awaited before it changes
            if SHOTS:
                await page.screenshot(path=f"{SHOTS}/page-{number}.png")
        await browser.close()
    return texts
