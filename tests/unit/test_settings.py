import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from overnight.errors import ConfigurationError
from overnight.schedule import DEFAULT_MAX_AGE, DEFAULT_WAITS
from overnight.settings import Settings, secret_from_environment
from overnight.storage.store import Store

SECRET = "sekret-4711"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("OVERNIGHT_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def test_an_empty_environment_gives_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    assert settings.task_queue == "overnight"
    assert (settings.schedule.waits, settings.schedule.max_age) == (DEFAULT_WAITS, DEFAULT_MAX_AGE)
    assert settings.openai_base_url == "https://api.openai.com/v1"
    assert settings.anthropic_base_url == "https://api.anthropic.com"
    assert settings.openai_api_key is None
    assert not settings.keys_in_worker_only
    assert not settings.log_error_texts


def test_the_environment_sets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        OVERNIGHT_DATABASE_URL="postgresql://u:p@db/app",
        OVERNIGHT_TASK_QUEUE="nightly",
        OVERNIGHT_KEYS_IN_WORKER_ONLY="true",
        OPENAI_API_KEY="sk-1",
        OPENAI_ORG_ID="org",
        OPENAI_PROJECT_ID="proj",
        OPENAI_BASE_URL="https://gateway.example/v1/",
        ANTHROPIC_API_KEY="sk-2",
    )
    assert settings.sqlalchemy_url == "postgresql+psycopg://u:p@db/app"
    assert (settings.task_queue, settings.keys_in_worker_only) == ("nightly", True)
    assert (settings.openai_organization, settings.openai_project) == ("org", "proj")
    assert settings.openai_base_url == "https://gateway.example/v1"
    assert settings.openai_api_key == SecretStr("sk-1")
    assert settings.anthropic_api_key == SecretStr("sk-2")


def test_a_variable_that_is_set_to_nothing_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OVERNIGHT_DATABASE_URL", "OVERNIGHT_POLL_WAITS", "OVERNIGHT_MAX_AGE", "OPENAI_BASE_URL", "OPENAI_API_KEY")
    assert read(monkeypatch, **dict.fromkeys(names, "")) == Settings()


@pytest.mark.parametrize("text", ["60, 120.5", "PT1M,PT2M0.5S", "PT60S , 120.5"])
def test_poll_waits_are_seconds_or_iso_8601(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    waits = read(monkeypatch, OVERNIGHT_POLL_WAITS=text).poll_waits
    assert waits == (timedelta(minutes=1), timedelta(seconds=120.5))


@pytest.mark.parametrize("text", ["93600", "PT26H", "P1DT2H"])
def test_max_age_is_seconds_or_iso_8601(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert read(monkeypatch, OVERNIGHT_MAX_AGE=text).max_age == timedelta(hours=26)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OVERNIGHT_POLL_WAITS", "60;120"),
        ("OVERNIGHT_POLL_WAITS", "60,"),
        ("OVERNIGHT_POLL_WAITS", "nan"),
        ("OVERNIGHT_POLL_WAITS", "0"),
        ("OVERNIGHT_POLL_WAITS", "-5"),
        ("OVERNIGHT_MAX_AGE", "a day"),
        ("OVERNIGHT_MAX_AGE", "inf"),
        ("OVERNIGHT_MAX_AGE", "-1"),
        ("OVERNIGHT_KEYS_IN_WORKER_ONLY", "maybe"),
        ("OPENAI_BASE_URL", "http://api.openai.com/v1"),
        ("ANTHROPIC_BASE_URL", "ftp://localhost"),
    ],
)
def test_a_senseless_value_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        read(monkeypatch, **{variable: value})


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8080/v1", "http://127.0.0.1:9", "http://127.8.8.8", "http://[::1]:80", "https://x.example"],
)
def test_tls_or_loopback_are_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert read(monkeypatch, OPENAI_BASE_URL=f" {url}/ ").openai_base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1.evil.example",
        "http://0.0.0.0",
        "http://10.0.0.1",
        "https://",
        "https:///path",
        "//x.example",
        "x.example",
        "http://[bad",
        "javascript:alert(1)",
    ],
)
def test_keys_and_prompts_leave_the_machine_over_tls_only(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_BASE_URL"):
        read(monkeypatch, OPENAI_BASE_URL=url)


def test_a_refused_url_does_not_give_its_password_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(monkeypatch, OPENAI_BASE_URL=f"http://user:{SECRET}@proxy.example")
    assert "proxy.example" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_secret_is_in_no_representation_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        OVERNIGHT_DATABASE_URL=f"postgresql://u:{SECRET}@db/app",
        OPENAI_API_KEY=SECRET,
        ANTHROPIC_API_KEY=SECRET,
    )
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in text


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_form_of_a_postgres_url_is_taken(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    settings = read(monkeypatch, OVERNIGHT_DATABASE_URL=f"{scheme}://u:p@h:5433/d?sslmode=require")
    assert settings.sqlalchemy_url == "postgresql+psycopg://u:p@h:5433/d?sslmode=require"


@pytest.mark.parametrize(
    "url", [f"mysql://u:{SECRET}@h/d", f"u:{SECRET}@h/d", f"postgresql://u:{SECRET}@h:port/d", "sqlite:///x.db"]
)
def test_a_database_that_is_not_postgres_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://") as caught:
        Store.from_settings(read(monkeypatch, OVERNIGHT_DATABASE_URL=url))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_database_is_said_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"Set OVERNIGHT_DATABASE_URL.*overnight dev"):
        Store.from_settings(read(monkeypatch))


@pytest.mark.parametrize(
    ("variable", "field"),
    [("OPENAI_API_KEY", "openai_api_key"), ("OVERNIGHT_DATABASE_URL", "database_url")],
)
def test_a_secret_can_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, field: str) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    settings = read(monkeypatch, **{f"{variable}_FILE": str(tmp_path / "secret")})
    assert getattr(settings, field) == SecretStr(SECRET)


def test_a_variable_counts_before_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file")
    settings = read(monkeypatch, OPENAI_API_KEY=SECRET, OPENAI_API_KEY_FILE=str(tmp_path / "secret"))
    assert settings.openai_api_key == SecretStr(SECRET)


def test_a_file_that_cannot_be_read_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY_FILE names a file that cannot be read: No such file"):
        read(monkeypatch, OPENAI_API_KEY_FILE=str(tmp_path / "absent"))


def test_the_token_of_a_server_can_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERNIGHT_UI_TOKEN", raising=False)
    assert secret_from_environment("OVERNIGHT_UI_TOKEN") is None
    monkeypatch.setenv("OVERNIGHT_UI_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ConfigurationError, match="OVERNIGHT_UI_TOKEN_FILE names a file that cannot be read"):
        secret_from_environment("OVERNIGHT_UI_TOKEN")
    (tmp_path / "token").write_text("\n")
    assert secret_from_environment("OVERNIGHT_UI_TOKEN") is None
    (tmp_path / "token").write_text("hidden\n")
    assert secret_from_environment("OVERNIGHT_UI_TOKEN") == "hidden"
    monkeypatch.setenv("OVERNIGHT_UI_TOKEN", "shown")
    assert secret_from_environment("OVERNIGHT_UI_TOKEN") == "shown"


def test_only_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("mine")
    assert read(monkeypatch, OVERNIGHT_TASK_QUEUE_FILE=str(tmp_path / "queue")).task_queue == "overnight"


def test_own_prices_come_from_a_text_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = '{"openai": {"mine": {"input": 0.1, "output": 0.4}}}'
    inline = read(monkeypatch, OVERNIGHT_PRICES=text).prices
    assert inline["openai"]["mine"].input == Decimal("0.1")
    (tmp_path / "prices.json").write_text(text)
    assert read(monkeypatch, OVERNIGHT_PRICES=str(tmp_path / "prices.json")).prices == inline
    assert read(monkeypatch, OVERNIGHT_PRICES="").prices == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/no/such/file.json", "cannot be read"),
        ("{", "Expecting property name"),
        ('{"openai": {"mine": {"input": 1}}}', "Field required"),
        ('{"openai": {"mine": {"input": -1, "output": 1}}}', "greater than or equal to 0"),
        ('{"openai": {"mine": {"input": NaN, "output": 1}}}', "finite"),
        ('{"openai": {"mine": {"input": 1, "output": 1, "batch_factor": 50}}}', "less than or equal to 1"),
        ('{"openai": {"mine": {"input": 1, "output": 1, "outputs": 1}}}', "not permitted"),
    ],
)
def test_senseless_prices_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"OVERNIGHT_PRICES: .*{said}"):
        read(monkeypatch, OVERNIGHT_PRICES=text)
