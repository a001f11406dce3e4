# ruff: noqa: INP001, T201 - a script in no package, whose output is its report
"""Look every locked package up among known vulnerabilities, and tell "nothing is known" from "nobody answered".

Ends with 0 when nothing is known against any package, 1 when something is, and 2 when a package could not be looked up.
PyPI is asked first, then OSV for what PyPI does not know. Both are on the network, so this is no part of `make test`.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements/runtime.lock", "deploy/image.lock", "requirements/dev.lock", "deploy/build.lock")
SERVICES = ("pypi", "osv")
CLEAN, FOUND, UNASKED = 0, 1, 2

_UV = Path(sys.executable).with_name("uv")
_COMMAND = os.environ.get("OVERNIGHT_PIP_AUDIT", f"{_UV} tool run pip-audit==2.10.1")
_OPTIONS = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a service says of one lock.

    Attributes:
        known: packages that it has looked up.
        skipped: packages that it does not know.
        findings: one line each.
        trouble: why it did not answer at all.
    """

    known: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    findings: tuple[str, ...] = ()
    trouble: str | None = None


@dataclass(kw_only=True)
class Report:
    """What all services together say of one lock."""

    known: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def take(self, service: str, answer: Answer) -> None:
        self.known |= answer.known
        self.skipped |= answer.skipped
        self.findings += answer.findings
        if answer.trouble or answer.skipped:
            self.troubles.append(
                f"{service}: {answer.trouble or f'{len(answer.skipped)} packages are not known there'}"
            )

    @property
    def unasked(self) -> bool:
        return not self.known or bool(self.skipped - self.known)


def ask(lock: str, service: str) -> Answer:
    """One run of pip-audit. Its exit code means findings as well as failures, so it is its answer that counts."""
    command = [*shlex.split(_COMMAND), *_OPTIONS, "--vulnerability-service", service, "--requirement", str(ROOT / lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)  # noqa: S603 - ours
        found = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(trouble=str(error))
    except (ValueError, KeyError):
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode} and without a word"]
        return Answer(trouble=shorten(said[-1], 160))
    return Answer(
        known=frozenset(it["name"] for it in found if "skip_reason" not in it),
        skipped=frozenset(it["name"] for it in found if "skip_reason" in it),
        findings=tuple(_line(it, known) for it in found for known in it.get("vulns", ())),
    )


def _line(package: dict[str, str], vulnerability: dict[str, Sequence[str]]) -> str:
    fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}"


def audit(lock: str) -> Report:
    """Ask as many services as it takes."""
    report = Report()
    for service in SERVICES:
        if report.unasked:
            report.take(service, ask(lock, service))
    return report


def tell(lock: str, report: Report) -> None:
    for finding in report.findings:
        print(f"{lock}: FOUND {finding}")
    if report.unasked:
        print(f"{lock}: COULD NOT ASK for {len(report.skipped - report.known) or 'any'} of its packages")
        for trouble in report.troubles:
            print(f"    {trouble}")
    elif not report.findings:
        print(f"{lock}: nothing is known against its {len(report.known)} packages")


def main() -> int:
    reports = {lock: audit(lock) for lock in LOCKS}
    for lock, report in reports.items():
        tell(lock, report)
    if any(report.findings for report in reports.values()):
        print("audit: something was found. SECURITY.md says what happens now.")
        return FOUND
    if any(report.unasked for report in reports.values()):
        print("audit: not every package could be looked up, which says nothing for or against it.")
        return UNASKED
    print("audit: nothing is known against any locked package.")
    return CLEAN


if __name__ == "__main__":
    sys.exit(main())
