"""`overnight ui`: who is let in, and where it refuses to listen."""

import pytest
from starlette.testclient import TestClient

from overnight.cli import main
from overnight.cli.ui import serve_console
from overnight.console.app import console_app
from overnight.errors import ConfigurationError
from overnight.settings import Settings
from overnight.storage.store import Store

TOKEN = "a token that nobody guesses"


@pytest.fixture
def client() -> TestClient:
    """A console behind a token. It has no database: what is tested here never asks it."""
    store = Store.from_settings(Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing"))  # type: ignore[arg-type]
    return TestClient(console_app(store.console, hosts=["testserver"], token=TOKEN), follow_redirects=False)


@pytest.mark.parametrize(
    "path", ["/", "/campaigns", "/costs", "/search?q=a", "/batches/01a201c2-3cab-730e-8aad-102fd31e8596", "/x"]
)
def test_without_the_token_every_page_is_a_login_form(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert 'type="password"' in answer.text
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", TOKEN, f"bearer: {TOKEN}", "Bearer \xfc"]
)
def test_what_is_not_the_token_opens_nothing(client: TestClient, shown: str) -> None:
    header = {"authorization": shown.encode("latin-1")} if shown else {}
    assert client.get("/search", headers=header).status_code == 401


def test_a_bearer_token_opens_the_pages(client: TestClient) -> None:
    assert client.get("/search", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_login_form_gives_a_cookie_that_does_not_hold_the_token(client: TestClient) -> None:
    answer = client.post("/login", data={"token": TOKEN, "next": "/search?q="})
    assert (answer.status_code, answer.headers["location"]) == (303, "/search?q=")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert client.get("/search").status_code == 200


def test_a_wrong_token_is_asked_for_again(client: TestClient) -> None:
    answer = client.post("/login", data={"token": "wrong"})
    assert answer.status_code == 401
    assert "That is not the token." in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("wanted", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nx: y", ""])
def test_after_login_nobody_is_sent_elsewhere(client: TestClient, wanted: str) -> None:
    assert client.post("/login", data={"token": TOKEN, "next": wanted}).headers["location"] == "/"


def test_a_cookie_that_was_made_up_or_is_old_opens_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.post("/login", data={"token": TOKEN})
    good = client.cookies["overnight_console"]
    began, proof = good.split(".")
    for bad in (f"{int(began) + 1}.{proof}", f".{proof}", began, "9" * 5_000 + "." + proof, good[:-1]):
        client.cookies.clear()
        client.cookies.set("overnight_console", bad)
        assert client.get("/search").status_code == 401
    client.cookies.clear()
    client.cookies.set("overnight_console", good)
    assert client.get("/search").status_code == 200
    monkeypatch.setattr("overnight.console.security.time.time", lambda: int(began) + 13 * 3600)
    assert client.get("/search").status_code == 401


def test_a_form_of_any_length_is_not_read_to_its_end(client: TestClient) -> None:
    assert client.post("/login", content=b"token=" + b"x" * 100_000).status_code == 413


def test_the_style_sheet_is_there_before_login_and_nothing_else_below_it(client: TestClient) -> None:
    assert client.get("/static/console.css").status_code == 200
    assert client.get("/static/../app.py").status_code == 401
    assert client.get("/static/%2e%2e/app.py").status_code == 404


def test_a_host_name_that_is_not_ours_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    header = {"authorization": f"Bearer {TOKEN}"}
    known = "01a201c2-3cab-730e-8aad-102fd31e8596"
    for path in ("/", f"/batches/{known}", "/campaigns", f"/campaigns/{known}", "/costs", "/search"):
        assert client.request(method, path, headers=header).status_code == 405


def test_a_database_that_is_down_is_told_as_that(client: TestClient) -> None:
    answer = client.get("/", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 503
    assert "Postgres did not answer" in answer.text


async def test_off_loopback_it_does_not_listen_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERNIGHT_UI_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="OVERNIGHT_UI_TOKEN"):
        await serve_console(host="0.0.0.0", port=0, names=[], temporal_ui=None)


async def test_temporals_ui_is_a_web_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="--temporal-ui"):
        await serve_console(host="127.0.0.1", port=0, names=[], temporal_ui="javascript:alert(1)")


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("overnight.cli.extras.find_spec", lambda name: None)
    assert main(["ui"]) == 2
    assert "pip install 'overnight[ui]'" in capsys.readouterr().err
