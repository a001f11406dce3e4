"""Writes the pages that come from the code: `python docs/generate.py`, or `make docs`.

They are kept in the repository, where people read them too. tests/docs/test_site.py fails when they are stale.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo
from typer.main import get_command

from overnight.cli.app import app
from overnight.cli.ending import EXPLAINED
from overnight.settings import Settings

REFERENCE = Path(__file__).parent / "reference"

_FROM_CODE = "<!-- Written by docs/generate.py from the code. Change it there. -->"
_TEMPORAL = """
## Temporal

The connection is read by Temporal's own SDK, so whatever works for the `temporal` command works here:

| variable | what it is |
|---|---|
| `TEMPORAL_ADDRESS` | host and port; `localhost:7233` by default |
| `TEMPORAL_NAMESPACE` | `default` by default |
| `TEMPORAL_API_KEY` | for Temporal Cloud, or any server that asks for one |
| `TEMPORAL_TLS_…` | certificates |
| `TEMPORAL_PROFILE`, `TEMPORAL_CONFIG_FILE` | a profile of Temporal's own configuration file |
"""
_ELSEWHERE = """
## Single commands

| variable | what it is |
|---|---|
| `OVERNIGHT_LOG_FORMAT` | how `overnight worker` and `overnight handlers` log: `text`, the default, or `json` |
| `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_…` | OpenTelemetry's own: where both send traces (extra `otel`) |
| `OVERNIGHT_UI_TOKEN` | what `overnight ui` asks its users for; off loopback it is needed |
| `OVERNIGHT_TEMPORAL_UI_URL` | where Temporal's UI is, for links from `overnight ui` |
| `OVERNIGHT_CODEC_SERVER_TOKEN` | what `overnight codec-server` asks for; off loopback it is needed |
| `OVERNIGHT_DEMO_PROVIDER` | `openai` or `anthropic`: whom `overnight demo` asks instead of the simulator |
"""


def pages() -> Mapping[Path, str]:
    """Every generated page, and what has to be in it."""
    return {REFERENCE / "settings.md": settings_page(), REFERENCE / "cli.md": cli_page()}


def settings_page() -> str:
    """All variables, from the fields of `Settings`."""
    fields = Settings.model_fields
    of_vendors = [name for name, field in fields.items() if field.validation_alias]
    ours = [name for name in fields if name not in of_vendors]
    return f"""# Settings

Everything that a deployment sets is an environment variable. `Overnight.connect()`, `overnight worker` and the commands
read the same ones. A variable that makes no sense is an error at the start, which names it.

Durations are seconds (`300`) or ISO 8601 (`PT5M`). A variable that is set to nothing counts as not set. What is
marked as secret can also be a file: `OPENAI_API_KEY_FILE` names a file with the key in it.

{_FROM_CODE}

## overnight

{_table(ours)}

## Providers

{_table(of_vendors)}
{_TEMPORAL}{_ELSEWHERE}"""


def _table(names: Sequence[str]) -> str:
    rows = [_row(name, Settings.model_fields[name]) for name in names]
    return "\n".join(["| variable | what it is | default |", "|---|---|---|", *rows])


def _row(name: str, field: FieldInfo) -> str:
    variable = field.validation_alias or f"OVERNIGHT_{name.upper()}"
    secret = " Secret." if "SecretStr" in str(field.annotation) else ""
    assert field.description, f"Settings.{name} has no description"
    return f"| `{variable}` | {_cell(field.description)}{secret} | {_default(field)} |"


def _default(field: FieldInfo) -> str:
    match field.get_default(call_default_factory=True, validated_data={}):
        case None | {}:
            return ""
        case bool(value):
            return f"`{str(value).lower()}`"
        case tuple(waits):
            return f"`{','.join(f'{wait.total_seconds():.0f}' for wait in waits)}`"
        case value if hasattr(value, "total_seconds"):
            return f"`{value.total_seconds():.0f}`"
        case value:
            return f"`{value}`"


def cli_page() -> str:
    """All commands, as typer knows them."""
    group = get_command(app)
    sections = [_section(words, command) for words, command in _commands(group, ["overnight"])]
    return f"""# Command line

`overnight COMMAND --help` says the same in the terminal. A batch id can be abbreviated to its beginning. With
`--json` a command prints what scripts can read; money and instants are text there.

{_sentences(EXPLAINED)}

{_FROM_CODE}

{chr(10).join(sections)}"""


def _sentences(text: str) -> str:
    """The exit codes, one by one."""
    heading, *codes = re.split(r"(?<=[.:]) (?=\d+ )", text)
    return "\n".join([heading, "", *(f"* `{code.split(' ', 1)[0]}` {code.split(' ', 1)[1]}" for code in codes)])


def _commands(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, each in sorted(command.commands.items()):
        if not each.hidden:
            yield from _commands(each, [*words, name])


def _section(words: list[str], command: Any) -> str:
    context = typer.Context(command, info_name=words[-1])
    parameters = [p for p in command.params if p.name not in {"help", "install_completion", "show_completion"}]
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    parts = [f"## {' '.join(words)}", f"```text\n{usage}\n```", _help(command.help or ""), _parameters(parameters)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _help(text: str) -> str:
    """A command's help; a paragraph that begins with \\b is kept as it is, and holds examples."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs)


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return f"<!-- not run: examples of the command's own help -->\n```bash\n{text[1:].strip()}\n```"
    return " ".join(text.split())


def _parameters(parameters: Sequence[Any]) -> str:
    if not parameters:
        return ""
    rows = [f"| {_name(each)} | {_cell(getattr(each, 'help', None) or '')} | {_given(each)} |" for each in parameters]
    return "\n".join(["| | | default |", "|---|---|---|", *rows])


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_cell(parameter.metavar or parameter.name.upper())}`"
    return ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])


def _given(parameter: Any) -> str:
    match parameter.default:
        case None | False | () | []:
            return ""
        case True:
            return f"`{parameter.opts[0]}`"
        case value if callable(value):
            return ""
        case value:
            return f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text)
