"""`overnight results`: a batch's entries with what came of them, to a file or to stdout."""

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from overnight.batches import Batch, Outcome
from overnight.cli.database import open_store
from overnight.cli.printing import remark
from overnight.errors import ConfigurationError
from overnight.exports import ExportFormat, export, open_writer
from overnight.texts import visible


async def exporting(
    batch_id: str, *, kind: str | None, outcomes: Collection[Outcome], output: Path | None, responses: bool
) -> None:
    """Write the entries, and say beside them what is to be known of them."""
    chosen = _kind(kind, output)
    async with open_store() as store:
        batch = await store.batches.get(await store.listings.resolve(batch_id))
        with _sink(output, chosen) as sink:
            writer = open_writer(chosen, sink, responses=responses)
            count = await export(store, batch, writer, outcomes or None)
    if output is not None:
        remark(f"{count} of {batch.entry_count} entries of batch {batch.id} are in {output}.")
    if batch.hydrated_at is None:
        remark(_not_over(batch))


def _not_over(batch: Batch) -> str:
    return f"Batch {batch.id} is not over, with status {batch.status.value}: entries without an outcome will have one."


def _kind(name: str | None, output: Path | None) -> ExportFormat:
    """As it is asked for, or as the file's name says."""
    known = {kind.value: kind for kind in ExportFormat}
    if name is None:
        return known.get(output.suffix.removeprefix(".").lower() if output else "", ExportFormat.JSONL)
    if name not in known:
        raise ConfigurationError(f"There is no format {name!r}. There are: {', '.join(known)}.")
    return known[name]


@contextmanager
def _sink(output: Path | None, kind: ExportFormat) -> Iterator[BinaryIO]:
    if output is not None:
        with _replacing(output) as file:
            yield file
    elif kind is ExportFormat.PARQUET:
        raise ConfigurationError("Parquet is no format for stdout. Name a file: --output results.parquet")
    elif sys.stdout.isatty():
        yield cast("BinaryIO", _Terminal())
    else:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


@contextmanager
def _replacing(output: Path) -> Iterator[BinaryIO]:
    """A file that is there whole or, when anything goes wrong or Ctrl-C comes, as it was before."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise ConfigurationError(f"Cannot write {output}: {error.strerror or error}.") from None
    finally:
        part.unlink(missing_ok=True)


class _Terminal:
    """Stdout where it is a terminal, which must not obey what it is shown."""

    def write(self, data: bytes) -> int:
        return sys.stdout.write(visible(data.decode().replace("\r\n", "\n")))
