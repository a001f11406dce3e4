"""What must hold after any disaster, read from the provider and the database and not from what anybody reported."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from tests.chaos.harness import System

_BATCHES = """
select id, provider, status, entry_count, provider_batch_id, trouble_code, handler_dispatched_at, campaign_id
from overnight.batches where sealed_at is not null order by created_at
"""
_LINES = """
select convert_to(line, 'UTF8') from overnight.results where batch_id = %s and line is not null
union all select line from overnight.stray_results where batch_id = %s
"""
_IN_DOUBT = """
select 1 from overnight.submissions where batch_id = %s and started_at is not null
and accepted_at is null and resolved_at is null
"""


@dataclass(kw_only=True)
class Life:
    """One batch, as it was found afterwards."""

    batch_id: UUID
    provider_batches: int = 0
    lost: int = 0
    doubled: int = 0
    effects_missing: int = 0
    effects_doubled: int = 0
    unfinished: bool = False
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _AtProvider:
    """A provider batch, with its result lines and the tokens by which it can be ours."""

    id: str
    owner: UUID | None
    lines: Sequence[bytes]


async def audit(system: System) -> list[Life]:
    """Look at every batch. Faults that are still scripted would meet the audit too, so they go first."""
    await system.control("DELETE", "/faults")
    state = await system.control("GET", "/state")
    tokens = _tokens(system)
    there = [await _at_provider(system, batch, tokens) for batch in state["batches"]]
    lives = [_life(system, row, there) for row in system.rows(_BATCHES)]
    owned = {life.batch_id for life in lives}
    strangers = [batch.id for batch in there if batch.owner not in owned]
    if strangers and lives:
        lives[0].wrong.append(f"provider batches of nobody: {strangers}")
    if lives:
        lives[0].wrong += _left_over(system, state)
    return lives


def _life(system: System, row: tuple[Any, ...], there: Sequence[_AtProvider]) -> Life:
    batch_id, provider, status, entry_count, provider_batch_id, trouble, dispatched_at, campaign_id = row
    life = Life(batch_id=batch_id, unfinished=dispatched_at is None)
    mine = [batch for batch in there if batch.owner == batch_id]
    life.provider_batches = len(mine)
    if len(mine) > 1 or [b.id for b in mine] != [provider_batch_id][: provider_batch_id is not None]:
        life.wrong.append(f"{provider} has {[b.id for b in mine]}, the database {provider_batch_id}")
    if trouble is not None:
        life.wrong.append(f"still in trouble: {trouble}")
    if system.rows(_IN_DOUBT, [batch_id]):
        life.wrong.append("a submission is in doubt")
    _check_lines(system, life, [line for b in mine for line in b.lines])
    _check_entries(system, life, entry_count)
    if campaign_id is None:  # else the campaign's handler runs once, over all of its batches
        _check_effects(system, life, status)
    return life


def _check_lines(system: System, life: Life, sent: Sequence[bytes]) -> None:
    kept = Counter(bytes(line) for (line,) in system.rows(_LINES, [life.batch_id, life.batch_id]))
    life.lost = (Counter(sent) - kept).total()
    life.doubled = (kept - Counter(sent)).total()


def _check_entries(system: System, life: Life, entry_count: int) -> None:
    query = "select count(*), count(line), count(distinct position) from overnight.results where batch_id = %s"
    ((results, with_line, positions),) = system.rows(query, [life.batch_id])
    if not results == positions == entry_count:
        life.wrong.append(f"{results} outcomes for {entry_count} entries")
    ((counted,),) = system.rows("select outcomes from overnight.batches where id = %s", [life.batch_id])
    query = "select outcome, count(*) from overnight.results where batch_id = %s group by outcome"
    if counted != dict(system.rows(query, [life.batch_id])):
        life.wrong.append(f"the batch's own count of outcomes is {counted}")
    ((outputs,),) = system.rows("select count(*) from overnight.outputs where batch_id = %s", [life.batch_id])
    if outputs != counted.get("succeeded", 0) or with_line < outputs:
        life.wrong.append(f"{outputs} outputs and {with_line} lines for {counted}")


def _check_effects(system: System, life: Life, status: str) -> None:
    query = """
    select r.outcome, count(e.custom_id) from overnight.results r join overnight.entries n using (batch_id, position)
    left join effects e on e.batch_id = n.batch_id and e.custom_id = n.custom_id and e.outcome = r.outcome
    where r.batch_id = %s group by r.position, r.outcome
    """
    times = [count for _, count in system.rows(query, [life.batch_id])]
    ((effects,),) = system.rows("select count(*) from effects where batch_id = %s", [life.batch_id])
    life.effects_missing = times.count(0)
    life.effects_doubled = effects - len(times) + times.count(0)
    hooks = sorted(hook for (hook,) in system.rows("select hook from runs where batch_id = %s", [life.batch_id]))
    if hooks != ["completion", "success" if status == "ended" else "failure"]:
        life.wrong.append(f"hooks that committed: {hooks}")
    if str(life.batch_id) not in system.outside():
        life.wrong.append("no effect outside")


def _tokens(system: System) -> Mapping[str, UUID]:
    return dict(system.rows("select token, batch_id from overnight.submissions"))


def _left_over(system: System, state: Mapping[str, Any]) -> list[str]:
    """Input files that no provider batch reads, and effects of no batch."""
    used = {batch["input_file_id"] for batch in state["batches"]}
    unused = [file["id"] for file in state["files"] if file["purpose"] == "batch" and file["id"] not in used]
    query = "select id from overnight.batches union all select id from overnight.campaigns"
    known = {str(subject_id) for (subject_id,) in system.rows(query)}
    strange = [key for key in system.outside() if key not in known]
    return [f"unused uploads: {unused}"] * bool(unused) + [f"effects outside under other keys: {strange}"] * bool(
        strange
    )


async def _at_provider(system: System, batch: Mapping[str, Any], tokens: Mapping[str, UUID]) -> _AtProvider:
    async with httpx.AsyncClient(base_url=system.simulator, timeout=60) as http:
        if batch["provider"] == "openai":
            files = [batch[name] for name in ("output_file_id", "error_file_id") if batch[name]]
            headers = {"authorization": "Bearer audit"}
            bodies = [await http.get(f"/v1/files/{file}/content", headers=headers) for file in files]
            lines = [line for body in bodies for line in _lines(body)]
            return _AtProvider(id=batch["id"], owner=UUID(batch["metadata"]["overnight_batch"]), lines=lines)
        headers = {"x-api-key": "audit", "anthropic-version": "2023-06-01"}
        lines = _lines(await http.get(f"/v1/messages/batches/{batch['id']}/results", headers=headers))
        return _AtProvider(id=batch["id"], owner=tokens.get(_token(lines)), lines=lines)


def _lines(answer: httpx.Response) -> list[bytes]:
    return [line for line in answer.raise_for_status().content.split(b"\n") if line]


def _token(lines: Sequence[bytes]) -> str:
    """The token at the end of the custom ids; single lines may carry anything."""
    found: Counter[str] = Counter()
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found[str(json.loads(line)["custom_id"]).rpartition("-")[2]] += 1
    return found.most_common(1)[0][0] if found else ""


def complaints(lives: Sequence[Life]) -> list[str]:
    """Everything that does not hold, as text; nothing, if all is well."""
    found = []
    for life in lives:
        facts = {
            "lines lost": life.lost,
            "lines doubled": life.doubled,
            "effects missing": life.effects_missing,
            "effects doubled": life.effects_doubled,
            "unfinished": int(life.unfinished),
        }
        found += [f"{life.batch_id}: {name}: {number}" for name, number in facts.items() if number]
        found += [f"{life.batch_id}: {text}" for text in life.wrong]
    return found
