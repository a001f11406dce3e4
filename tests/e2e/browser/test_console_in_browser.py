"""The console in a real browser: what only a browser can tell."""

import re
from typing import Any

from playwright.sync_api import Browser, Page

from tests.e2e.browser.conftest import Console

PHONE = {"width": 360, "height": 740}

# Contrast of all texts that are seen, by WCAG 2: the least ratio, and where.
CONTRAST = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("svg")) continue;
    const [text, back] = [light(parts(getComputedStyle(node).color)), light(ground(node))];
    found.push([(Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05), node.outerHTML.slice(0, 80)]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


def rows(page: Page) -> list[str | None]:
    return [row.get_attribute("href") for row in page.locator("a.row").all()]


def test_every_page_renders_without_a_complaint_and_asks_nobody_else(page: Page, console: Console) -> None:
    complaints: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.add(re.match(r"[a-z]+://[^/]+", request.url)[0]))  # type: ignore[index]
    for path in console.paths:
        assert page.goto(path).ok  # type: ignore[union-attr]
        assert page.locator("h1").count() == 1
    assert complaints == []
    assert asked == {console.url}


def test_filters_and_pages_work_without_a_script(browser: Browser, console: Console) -> None:
    context = browser.new_context(base_url=console.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    first = rows(page)
    page.get_by_role("link", name="Next").click()
    assert len(rows(page)) == 19
    page.get_by_role("link", name="Previous").click()
    assert rows(page) == first
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("button", name="Show").click()
    assert rows(page) == [f"/batches/{console.stage.failed}"]
    context.close()


def test_everything_is_reached_from_the_keyboard(page: Page, console: Console) -> None:
    def focused() -> Any:
        return page.evaluate("document.activeElement.getAttribute('href')")

    page.goto(f"/batches/{console.stage.handled}/entries")
    page.keyboard.press("Tab")
    assert focused() == "#main"
    expected = rows(page)
    for key, row in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        assert focused() == expected[row]
    page.keyboard.press("Enter")
    page.wait_for_url("**/entries/2")
    for key, arrives in (("n", "3"), ("p", "2")):
        page.keyboard.press(key)
        page.wait_for_url(f"**/entries/{arrives}")
    page.keyboard.press("?")
    assert page.get_by_text("next and previous row").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("Ask-7 j?")
    assert page.locator("#q").input_value() == "Ask-7 j?"
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    page.wait_for_url(f"**/batches/{console.stage.handled}")


def test_a_campaign_leads_to_its_batches_and_they_lead_back(page: Page, console: Console) -> None:
    page.goto("/campaigns")
    for key, arrives in (("j", "/campaigns"), ("Enter", f"/campaigns/{console.campaign}")):
        page.keyboard.press(key)
        page.wait_for_url(f"**{arrives}")
    page.get_by_role("link", name="Round 2").click()
    page.get_by_role("link", name="Batch 4").click()
    page.wait_for_url("**/batches/*")
    page.keyboard.press("u")
    page.wait_for_url(f"**/campaigns/{console.campaign}")
    page.keyboard.press("u")
    page.wait_for_url("**/campaigns")


def test_texts_that_mean_harm_are_shown_and_do_none(page: Page, console: Console) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for path in console.paths:
        page.goto(path)
        assert page.evaluate("window.harmed") is None, path
    page.goto(f"/batches/{console.stage.harmful}/entries/1")
    assert page.get_by_text("<script>window.harmed = 1</script>").first.is_visible()
    page.goto(f"/batches/{console.stage.harmful}/entries/1/request.txt")
    assert page.evaluate("[window.harmed, document.contentType]") == [None, "text/plain"]
    assert dialogs == []


def test_even_what_got_into_a_page_could_do_nothing(page: Page, console: Console) -> None:
    page.goto("/")
    harm = """() => {
      const script = document.createElement("script");
      script.textContent = "window.harmed = 4";
      document.body.append(script);
      document.body.insertAdjacentHTML("beforeend", "<img src=/x onerror='window.harmed = 5'>");
      return fetch("/costs").then(() => "fetched", () => "refused");
    }"""
    assert page.evaluate(harm) == "refused"
    assert page.evaluate("window.harmed") is None


def test_a_phone_shows_every_page_without_scrolling_sideways(browser: Browser, console: Console) -> None:
    context = browser.new_context(base_url=console.url, viewport=PHONE)  # type: ignore[arg-type]
    page = context.new_page()
    for path in console.paths:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    context.close()


def test_every_text_can_be_read_in_the_light_and_in_the_dark(page: Page, console: Console) -> None:
    grounds = set()
    for path in console.paths:
        page.goto(path)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            ratio, where = page.evaluate(CONTRAST)
            assert ratio >= 4.5, (scheme, path, where)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
