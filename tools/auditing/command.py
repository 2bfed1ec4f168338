"""``litmus audit``: every sum against a fold of its cells, every recent look against the log."""

import json
import sys
from typing import Any, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from stream_processors.accumulate.control_history import LogMismatchError
from stream_processors.accumulate.records import ForeignRecordError
from tools.auditing.comparing import Compared, compare_looks
from tools.auditing.reading import LogToAudit
from tools.auditing.replaying import Difference, ReplayedPartition
from tools.errors import LitmusError

Json = dict[str, Any]

WORKER_S = 60.0
SHOWN_MAX = 400


class Worker(NamedTuple):
    """A running accumulate process that can be asked to audit itself."""

    name: str
    address: str


def audit(bootstrap: str, workers: list[Worker], *, as_machine: bool) -> bool:
    """Audit a log and print what was found; return whether everything agrees.

    Args:
        bootstrap: Address of the broker.
        workers: Accumulate processes to ask as well.
        as_machine: Print JSON instead of tables.

    Raises:
        tools.errors.LitmusError: If it cannot be read.
    """
    progress = Console(stderr=True) if sys.stderr.isatty() else None
    found = examine(LogToAudit(bootstrap, progress))
    found["workers"] = [_ask(worker) for worker in workers]
    found["differences"] += [one for each in found["workers"] for one in each["differences"]]
    agrees = not found["differences"] and not any(one["error"] for one in found["workers"])
    found["agrees"] = agrees
    if as_machine:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return agrees


def examine(log: LogToAudit) -> Json:
    """Return what replaying the log from its checkpoints shows."""
    try:
        found, states = log.find_partitions()
    except (LogMismatchError, ForeignRecordError) as error:
        raise LitmusError(f"The checkpoints do not belong to this log: {error}") from error
    newest = max((h.tick for one in found.values() for h in one.proofs), default=0)
    # A partition is complete at the first tick beyond its newest record.
    last_tick = max(log.last_tick(), newest + 1)
    replayed: dict[int, ReplayedPartition] = {}
    partitions: list[Json] = []
    since_ms = None
    for number, one in found.items():
        control = states[one.start.tick] if one.start else None
        replay = log.replay(one, control, number, last_tick)
        replayed[number] = replay
        partition = replay.partition
        started_ms = one.start.times.log_ms if one.start else 0
        since_ms = started_ms if since_ms is None else min(since_ms, started_ms)
        partitions.append(
            {
                "partition": number,
                "from_offset": one.start.offset if one.start else 0,
                "offset": partition.cursor,
                "tick": partition.tick,
                "live_from_tick": replay.live_tick,
                "folds": replay.folds,
                "differences": len(replay.differences),
            }
        )
        replay.release()
    compared = compare_looks(replayed, log.looks_since(since_ms or 0), last_tick)
    return _report(partitions, replayed, compared, last_tick)


def _report(
    partitions: list[Json],
    replayed: dict[int, ReplayedPartition],
    compared: Compared,
    last_tick: int,
) -> Json:
    differences = [one for each in replayed.values() for one in each.differences]
    differences += compared.differences
    not_live = [number for number, one in replayed.items() if one.live_tick is None]
    differences += [
        Difference(f"partition {number}", last_tick, "state", "complete", "never complete")
        for number in not_live
    ]
    return {
        "tick": last_tick,
        "partitions": partitions,
        "looks": {
            "compared": compared.looks,
            "experiments": sorted(compared.experiments),
            "before_the_replay": compared.skipped,
        },
        "differences": [one._asdict() for one in differences],
    }


def _ask(worker: Worker) -> Json:
    """Return what a worker says of its live sums."""
    answer: Json = {"name": worker.name, "partitions": [], "differences": [], "error": None}
    try:
        response = httpx.get(f"{worker.address}/audit", timeout=WORKER_S)
        response.raise_for_status()
    except httpx.HTTPError as error:
        return answer | {"error": f"{worker.address}/audit: {error}"}
    return answer | response.json()


def _show(found: Json) -> None:
    console = Console(highlight=False)
    _table(console, found["partitions"])
    looks = found["looks"]
    console.print(
        f"{looks['compared']} looks of {len(looks['experiments'])} experiments compared up to tick "
        f"{found['tick']}"
    )
    for one in found["workers"]:
        said = one["error"] or f"live sums of partitions {one['partitions']} are their fold"
        said = f"{len(one['differences'])} differences" if one["differences"] else said
        console.print(f"{one['name']}: {said}", markup=False)
    if not found["differences"]:
        style = "bold green" if found["agrees"] else "yellow"
        console.print("no difference", style=style)
        return
    console.print(f"{len(found['differences'])} differences", style="bold red")
    _table(
        console,
        [
            {name: str(value)[:SHOWN_MAX] for name, value in one.items()}
            for one in found["differences"]
        ],
    )
    console.print(
        "Do not decide by these results. Keep the log and this output; counting the log anew gives "
        "the right sums: stop the stack, delete the changelog topic, start it."
    )


def _table(console: Console, rows: list[Json]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
