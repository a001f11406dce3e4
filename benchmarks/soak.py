"""Hundreds of lives with everything killed under them at random: `python benchmarks/soak.py --lives 200 --seed 7`.

Waves of batches run through the whole system, as processes, while workers, Temporal and Postgres are killed by SIGKILL
and the provider loses answers, breaks off, stalls and sends odd lines. Afterwards every batch is audited against what
lies at the provider. The seed decides every choice; at which instruction a kill finds its victim is up to the machine.
"""

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from overnight.client import BatchHandle
from overnight.errors import BatchClosedError
from tests.chaos.harness import MODELS, System, own_servers, running_system
from tests.chaos.harness_audit import Life, audit, complaints
from tests.chaos.harness_tasks import Judge, KeepEffects

WAVE = 10
KILLS_PER_WAVE = 7
PATIENCE_SECONDS = 180
CANCELED = 0.15

CALL_FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("batches.create", {"kind": "answer_lost"}),
    ("batches.create", {"kind": "status_after_accept", "status": 500}),
    ("batches.create", {"kind": "dropped"}),
    ("batches.create", {"kind": "delay", "seconds": 1.0}),
    ("batches.create", {"kind": "cut", "after_bytes": 20}),
    ("files.upload", {"kind": "answer_lost"}),
    ("batches.retrieve", {"kind": "html"}),
    ("batches.list", {"kind": "list_lag", "seconds": 1.0}),
    ("files.content", {"kind": "cut", "after_bytes": 9_000}),
    ("batches.results", {"kind": "cut", "after_bytes": 9_000}),
    ("*", {"kind": "status", "status": 429, "retry_after": "1"}),
    ("*", {"kind": "status", "status": 503}),
    ("*", {"kind": "dropped"}),
)
PINNED_FAULTS: tuple[dict[str, Any], ...] = (
    *({"kind": "lines", "how": how, "count": 3} for how in ("duplicate", "missing", "malformed", "unknown_id")),
    *({"kind": "lines", "how": how, "count": 3} for how in ("wrong_shape", "line_separator", "nul")),
    {"kind": "batch", "how": "expire", "share": 0.5},
    {"kind": "batch", "how": "cancel_by_itself", "share": 0.5},
    {"kind": "batch", "how": "status_word", "word": "pondering"},
    {"kind": "batch", "how": "late_files", "seconds": 1.0},
)


@dataclass(kw_only=True)
class Tally:
    """What was done to the system."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    started_at: float = field(default_factory=time.monotonic)

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.started_at) / 60


async def soak(system: System, *, lives: int, minutes: float, chance: random.Random) -> tuple[list[Life], Tally]:
    tally = Tally()
    while len(system.batches) < lives and tally.minutes < minutes:
        await wave(system, min(WAVE, lives - len(system.batches)), chance, tally)
        print(f"{len(system.batches)} lives, {tally.kills.total()} kills, {tally.minutes:.1f} min", flush=True)
    return await audit(system), tally


async def wave(system: System, size: int, chance: random.Random, tally: Tally) -> None:
    batches = [await created(system, chance) for _ in range(size)]
    plans = [(batch, chance.uniform(0, 3), chance.random() < CANCELED) for batch in batches]
    await script_faults(system, chance, tally)
    killer = asyncio.create_task(kill_at_random(system, chance, tally))
    await asyncio.gather(*(handed_in(batch, after, cancel=cancel) for batch, after, cancel in plans))
    system.batches += batches
    await killer
    await system.control("DELETE", "/faults")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await system.finish()


async def created(system: System, chance: random.Random) -> BatchHandle:
    provider = chance.choice(sorted(MODELS))
    batch = await system.overnight.create_batch(provider=provider, model=MODELS[provider], handler=KeepEffects)
    # Often of the same size, which is what adoption without tags finds hardest.
    entries = chance.choice([30, 30, chance.randint(1, 120)])
    await batch.add_all(Judge(review=f"review {number} of {batch.id}") for number in range(entries))
    return batch


async def handed_in(batch: BatchHandle, after: float, *, cancel: bool) -> None:
    """Submit until it is accepted, as a caller does whose servers come and go."""
    await asyncio.sleep(after)
    while True:
        try:
            await batch.submit()
            break
        except BatchClosedError:
            break
        except Exception:  # noqa: BLE001 - whichever server is away right now
            await asyncio.sleep(0.3)
    if cancel:
        await asyncio.sleep(after)
        with contextlib.suppress(Exception):  # refused, or a server is away: then it goes on
            await batch.cancel()


async def script_faults(system: System, chance: random.Random, tally: Tally) -> None:
    for operation, effect in chance.sample(CALL_FAULTS, 5):
        await system.fault(effect, operation=operation, probability=0.4, times=chance.randint(1, 6))
    for effect in chance.sample(PINNED_FAULTS, 3):
        await system.fault(effect, probability=0.4)
    tally.faults += 8


async def kill_at_random(system: System, chance: random.Random, tally: Tally) -> None:
    for _ in range(KILLS_PER_WAVE):
        gap, victim = chance.uniform(0.2, 2.0), chance.choice(["worker"] * 5 + ["temporal", "postgres"])
        away, number = chance.uniform(0, 1.5), chance.randrange(len(system.workers))
        await asyncio.sleep(gap)
        if victim == "worker":
            system.workers[number].kill()
        else:
            server = system.servers.temporal if victim == "temporal" else system.servers.postgres
            await server.kill()
            await asyncio.sleep(away)
            await server.start()
        tally.kills[victim] += 1


def table(lives: Sequence[Life], tally: Tally, deaths: int) -> str:
    per_batch = Counter(life.provider_batches for life in lives)
    rows = {
        "lives": len(lives),
        "kills": ", ".join(f"{count} of {victim}" for victim, count in sorted(tally.kills.items())),
        "worker processes that died": deaths,
        "faults scripted": tally.faults,
        "provider batches per batch": ", ".join(f"{n} for {times} batches" for n, times in sorted(per_batch.items())),
        "lines lost": sum(life.lost for life in lives),
        "lines doubled": sum(life.doubled for life in lives),
        "handler effects missing": sum(life.effects_missing for life in lives),
        "handler effects doubled": sum(life.effects_doubled for life in lives),
        "batches unfinished": sum(life.unfinished for life in lives),
        "minutes": f"{tally.minutes:.1f}",
    }
    return "\n".join(f"{name:<28} {value}" for name, value in rows.items())


async def main() -> int:
    parser = argparse.ArgumentParser(description="Kill everything at random, for many lives, and count what is left.")
    parser.add_argument("--lives", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60, help="begin no further wave after this long")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--keep", type=Path, help="leave the system's data and logs in this folder")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        async with (
            own_servers(folder, durable=True) as servers,
            running_system(folder, servers=servers, workers=2) as system,
        ):
            lives, tally = await soak(
                system, lives=options.lives, minutes=options.minutes, chance=random.Random(options.seed)
            )
            print(table(lives, tally, system.deaths))
    found = complaints(lives)
    print("\n".join(found) if found else "All is well.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
