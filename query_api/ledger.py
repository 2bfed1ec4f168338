"""The ledger: doors, log, engine, looks and history, each counted apart and compared. Pure.

What is compared lies below offsets that both sides have passed. What lies above is in flight: it
is shown, and is no difference.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from query_api.history.imports import ImportAccount
from query_api.history.queries import Checked
from query_api.history.writer import Position
from query_api.kafka_log import Source
from schemas.times import parse_time_ms
from schemas.topics import DEAD_LETTERS, EVENTS, LATE, LOOKS

Json = dict[str, Any]

FATES = ("fresh", "duplicate", "conflict", "stale", "refused")
_NO_ROWS = dict.fromkeys(("received", *FATES), 0)


class Status(StrEnum):
    """What the ledger says as a whole."""

    BALANCED = "balanced"
    CATCHING_UP = "catching_up"
    UNBALANCED = "unbalanced"


class Reason(StrEnum):
    """Why the ledger does not balance, or not yet."""

    ENGINE_LOST_ROWS = "engine_lost_rows"
    ENGINE_EXTRA_ROWS = "engine_extra_rows"
    FATES_DIFFER = "fates_differ"
    LOOKS_CONFLICT = "looks_conflict"
    HISTORY_MISSING = "history_missing"
    HISTORY_EXTRA = "history_extra"
    HISTORY_INDEX = "history_index"
    IMPORT_MISSING = "import_missing"
    IMPORT_EXTRA = "import_extra"
    ENGINE_LOST_IMPORTS = "engine_lost_imports"
    ENGINE_EXTRA_IMPORTS = "engine_extra_imports"
    HISTORY_BEHIND = "history_behind"
    ENGINE_SILENT = "engine_silent"


_COUNT_ANEW = (
    "Do not decide by the results until it is explained. `litmus audit` says which sums differ; "
    "the log is whole, so counting it anew gives the right ones"
)
_REBUILD = (
    "Results are not touched: they never come from ClickHouse. To rebuild the history stop the "
    "stack, delete its data and start again: it is copied from the log once more"
)

ADVICE = {
    Reason.ENGINE_LOST_ROWS: _COUNT_ANEW,
    Reason.ENGINE_EXTRA_ROWS: _COUNT_ANEW,
    Reason.FATES_DIFFER: _COUNT_ANEW,
    Reason.LOOKS_CONFLICT: (
        "Two looks of one experiment and tick hold different numbers. Do not decide by either; "
        "`litmus audit` recomputes them from the log"
    ),
    Reason.HISTORY_MISSING: _REBUILD,
    Reason.HISTORY_EXTRA: _REBUILD,
    Reason.HISTORY_INDEX: _REBUILD,
    Reason.IMPORT_MISSING: (
        "Covariates of its metrics lack these rows: do not decide by adjusted results. "
        "Nothing but a loss of the log itself explains it; `litmus audit` says which sums differ"
    ),
    Reason.IMPORT_EXTRA: (
        "Covariates of its metrics may hold rows that nobody was told are done: do not decide by "
        "adjusted results. `litmus audit` says which sums differ"
    ),
    Reason.ENGINE_LOST_IMPORTS: (
        "Covariates of its metrics lack rows that are in the log: do not decide by adjusted "
        "results. `litmus audit` says which sums differ; counting the log anew gives the right ones"
    ),
    Reason.ENGINE_EXTRA_IMPORTS: (
        "Covariates of its metrics hold rows twice, or rows that are not in the log: do not decide "
        "by adjusted results. `litmus audit` says which sums differ; counting the log anew gives "
        "the right ones"
    ),
    Reason.HISTORY_BEHIND: (
        "Lag, no difference: the history has yet to read what the engine counted. It balances by "
        "itself; if it does not move, /ready of the query API says why"
    ),
    Reason.ENGINE_SILENT: (
        "Lag, no difference: merge has not published its first account. If it does not come, "
        "`litmus status` shows which process is not ready"
    ),
}
_LAGS = (Reason.HISTORY_BEHIND, Reason.ENGINE_SILENT)


class Cut(NamedTuple):
    """How far the history and the log are, at one moment.

    Attributes:
        stored: Up to where each partition of the log is in the history.
        log_ends: Where each partition ended when last heard of.
        received: Per partition of litmus.events, rows of the log below the engine's offset.
        checked: The history's own tables, compared with the log.
        imports: What was agreed on of each import up to the engine's tick, what is in the log, and
            what the engine had to take of it.
        now_ms: Wall clock, for ages.
    """

    stored: Mapping[Source, Position]
    log_ends: Mapping[Source, int]
    received: Mapping[int, int]
    checked: Checked
    imports: Sequence[ImportAccount]
    now_ms: int


def events_offsets(stored: Mapping[Source, Position]) -> dict[int, int]:
    """Return the first offset not stored, per partition of litmus.events."""
    return {s.partition: p.next_offset for s, p in stored.items() if s.topic == EVENTS.name}


def engine_offsets(engine: Json | None) -> dict[int, int]:
    """Return the first offset that the engine's account does not cover, per partition."""
    return {one["partition"]: one["offset"] for one in engine["partitions"]} if engine else {}


def lagging(stored: Mapping[Source, Position], engine: Json | None) -> list[int]:
    """Return the partitions of which the engine has accounted for more than the history holds."""
    offsets = events_offsets(stored)
    return [p for p, end in sorted(engine_offsets(engine).items()) if offsets.get(p, 0) < end]


def compose(engine: Json | None, cut: Cut) -> Json:
    """Return the ledger of the contract, given the engine's record of litmus.ledger."""
    behind = lagging(cut.stored, engine)
    doors = _doors(cut.stored)
    partitions = [_partition(one, cut, behind) for one in engine["partitions"]] if engine else []
    looks = _looks(engine, cut)
    taken = engine.get("imports") if engine else None
    imports = [_import(one, taken, len(partitions), is_behind=bool(behind)) for one in cut.imports]
    reasons = list(_reasons(engine, cut, partitions=partitions, doors=doors))
    reasons += [reason for one in imports for reason in _import_reasons(one)]
    stages = _stages(cut, doors=doors, partitions=partitions, looks=looks, reasons=reasons)
    return {
        "balanced": not reasons,
        "status": _status(reasons),
        "reasons": reasons,
        "stages": [*stages, _import_stage(cut, imports, reasons)],
        "doors": doors,
        "rows": {**_NO_ROWS, **(engine["rows"] if engine else {})},
        "partitions": partitions,
        "experiments": engine["experiments"] if engine else {},
        "looks": looks,
        "clickhouse": cut.checked.events._asdict(),
        "imports": imports,
        "set_aside": {name: one._asdict() for name, one in cut.checked.tables()[1:]},
        "tick": engine["tick"] if engine else None,
        "as_of": engine.get("as_of") if engine else None,
        "settled": engine.get("settled") if engine else None,
        "behind": behind,
    }


def _doors(stored: Mapping[Source, Position]) -> dict[str, int]:
    """Return the doors' account: a fold of their topics, so that it survives any kill."""

    def total(topic: str) -> int:
        return sum(p.row_count for source, p in stored.items() if source.topic == topic)

    parts = [total(topic.name) for topic in (EVENTS, LATE, DEAD_LETTERS)]
    return dict(zip(("posted", "received", "late", "rejected"), [sum(parts), *parts], strict=True))


def _partition(one: Json, cut: Cut, behind: list[int]) -> Json:
    """Return the engine's account of a partition beside the log's and the history's."""
    number = one["partition"]
    source = Source(EVENTS.name, number)
    position = cut.stored.get(source, Position(0, 0))
    in_log = cut.received.get(number, 0)
    # While the history is behind, what it has of the log ends below the engine's offset.
    difference = 0 if number in behind else one["received"] - in_log
    return one | {
        "log_rows": in_log,
        "difference": difference,
        "rows_in_flight": 0 if number in behind else position.row_count - in_log,
        "log_end": max(cut.log_ends.get(source, 0), position.next_offset),
        "history_offset": position.next_offset,
        "history_rows_behind": one["received"] - in_log if number in behind else 0,
        "balanced": number not in behind and not difference and _adds_up(one),
    }


def _adds_up(partition: Json) -> bool:
    return bool(partition["received"] == sum(partition[fate] for fate in FATES))


def _looks(engine: Json | None, cut: Cut) -> Json:
    published = sum(p.row_count for s, p in cut.stored.items() if s.topic == LOOKS.name)
    as_of = engine.get("as_of") if engine else None
    settled = engine.get("settled") if engine else None
    return {
        "published": published,
        "conflicting": cut.checked.looks_conflicting,
        "age_ms": max(0, cut.now_ms - parse_time_ms(as_of)) if as_of else None,
        "settled_lag_ms": parse_time_ms(as_of) - parse_time_ms(settled)
        if as_of and settled
        else None,
    }


def _reasons(
    engine: Json | None, cut: Cut, *, partitions: list[Json], doors: Mapping[str, int]
) -> Iterable[Json]:
    if engine is None and doors["received"]:
        yield _reason(Reason.ENGINE_SILENT, "engine", "the engine has not accounted for any row")
    for one in partitions:
        yield from _partition_reasons(one)
    if cut.checked.looks_conflicting:
        count = cut.checked.looks_conflicting
        yield _reason(Reason.LOOKS_CONFLICT, "looks", f"{count} looks have two sets of numbers")
    for table, compared in cut.checked.tables():
        if compared.missing:
            message = f"{compared.missing} rows of the log are not in {table}"
            yield _reason(Reason.HISTORY_MISSING, "clickhouse", message)
        if compared.extra:
            message = f"{compared.extra} rows of {table} are not in the log"
            yield _reason(Reason.HISTORY_EXTRA, "clickhouse", message)
    if cut.checked.log_rows != sum(cut.checked.offsets_rows.values()):
        message = (
            f"the index of batches holds {cut.checked.log_rows} rows, "
            f"{sum(cut.checked.offsets_rows.values())} were read"
        )
        yield _reason(Reason.HISTORY_INDEX, "clickhouse", message)


def _partition_reasons(one: Json) -> Iterable[Json]:
    number, received, in_log = one["partition"], one["received"], one["log_rows"]
    where = f"partition {number}, below offset {one['offset']}"
    if one["history_rows_behind"] or one["history_offset"] < one["offset"]:
        message = f"{where}: {one['history_rows_behind']} rows are not in the history yet"
        yield _reason(Reason.HISTORY_BEHIND, "clickhouse", message, number)
    elif received < in_log:
        message = f"{where}: the engine accounts for {received} of {in_log} rows"
        yield _reason(Reason.ENGINE_LOST_ROWS, "engine", message, number)
    elif received > in_log:
        message = f"{where}: the engine accounts for {received} rows, the log holds {in_log}"
        yield _reason(Reason.ENGINE_EXTRA_ROWS, "engine", message, number)
    if not _adds_up(one):
        total = sum(one[fate] for fate in FATES)
        message = f"{where}: {received} rows were received, {total} have a fate"
        yield _reason(Reason.FATES_DIFFER, "engine", message, number)


def _import(
    account: ImportAccount, taken: Json | None, partition_count: int, *, is_behind: bool
) -> Json:
    """Return an import as control counts it, beside what the log holds and the engine has taken.

    ``taken`` is the engine's own count, None while it has not said.
    """
    by_engine = None if taken is None else taken.get(account.import_id, {"parts": 0, "rows": 0})
    compared = by_engine is not None and not is_behind
    engine_difference = by_engine["rows"] - account.rows_to_take if by_engine and compared else 0
    engine_parts = by_engine["parts"] - account.parts_to_take if by_engine and compared else 0
    # While the history is behind, parts of what is done may not have been read yet.
    missing = 0 if is_behind else account.batches * partition_count - account.parts
    difference = 0 if is_behind else account.log_rows - account.rows
    return {
        "import_id": account.import_id,
        "batches": account.batches,
        "rows": account.rows,
        "rows_in_flight": account.reserved_rows,
        "log_rows": account.log_rows,
        "difference": difference,
        "parts_missing": missing,
        "engine_rows": by_engine["rows"] if by_engine else None,
        "engine_difference": engine_difference,
        "engine_parts_difference": engine_parts,
        "balanced": compared and not (difference or missing or engine_difference or engine_parts),
    }


def _import_reasons(one: Json) -> Iterable[Json]:
    where = f"import {one['import_id']}"
    if one["difference"] < 0 or one["parts_missing"] > 0:
        message = (
            f"{where}: {one['rows']} rows of {one['batches']} batches are done, the log holds "
            f"{one['log_rows']} of them; {one['parts_missing']} parts are not there"
        )
        yield _reason(Reason.IMPORT_MISSING, "imports", message)
    elif one["difference"] or one["parts_missing"]:
        message = f"{where}: {one['rows']} rows are done, the log holds {one['log_rows']}"
        yield _reason(Reason.IMPORT_EXTRA, "imports", message)
    if one["engine_rows"] is None:
        message = f"{where}: not every partition has said what it took of it"
        yield _reason(Reason.ENGINE_SILENT, "imports", message)
    rows, parts = one["engine_difference"], one["engine_parts_difference"]
    if rows or parts:
        message = (
            f"{where}: the engine has taken {one['engine_rows']} rows, {rows:+d} of what the log "
            f"holds below its offsets, and {parts:+d} parts"
        )
        is_less = min(rows, parts) < 0
        code = Reason.ENGINE_LOST_IMPORTS if is_less else Reason.ENGINE_EXTRA_IMPORTS
        yield _reason(code, "imports", message)


def _import_stage(cut: Cut, imports: list[Json], reasons: list[Json]) -> Json:
    """Return the stage of imported rows: they are no events, and come by a way of their own."""
    return {
        "stage": "imports",
        "count": sum(one.rows for one in cut.imports),
        "unit": "rows",
        "difference": sum(
            (abs(one["difference"]) or abs(one["parts_missing"]))
            + (abs(one["engine_difference"]) or abs(one["engine_parts_difference"]))
            for one in imports
        ),
        "in_flight": sum(one.reserved_rows for one in cut.imports),
        "messages_unread": 0,
        "status": _status([one for one in reasons if one["stage"] == "imports"]),
    }


def _reason(code: Reason, stage: str, message: str, partition: int | None = None) -> Json:
    return {
        "code": code.value,
        "stage": stage,
        "partition": partition,
        "is_lag": code in _LAGS,
        "message": message,
        "advice": ADVICE[code],
    }


def _status(reasons: list[Json]) -> str:
    if not reasons:
        return Status.BALANCED.value
    only_lag = all(reason["is_lag"] for reason in reasons)
    return (Status.CATCHING_UP if only_lag else Status.UNBALANCED).value


def _stages(
    cut: Cut,
    *,
    doors: Mapping[str, int],
    partitions: list[Json],
    looks: Json,
    reasons: list[Json],
) -> list[Json]:
    """Return the chain that every event goes through, with what is between two of its links."""
    unread = {
        topic.name: sum(
            max(0, end - cut.stored[source].next_offset)
            for source, end in cut.log_ends.items()
            if source.topic == topic.name and source in cut.stored
        )
        for topic in (EVENTS, LATE, DEAD_LETTERS, LOOKS)
    }
    checked = cut.checked
    rows = [
        ("doors", doors["posted"], "events", 0, 0),
        ("log", doors["received"], "rows", 0, 0),
        (
            "engine",
            sum(one["received"] for one in partitions),
            "rows",
            sum(abs(one["difference"]) for one in partitions),
            sum(one["rows_in_flight"] for one in partitions),
        ),
        ("looks", looks["published"], "looks", checked.looks_conflicting, 0),
        (
            "clickhouse",
            checked.events.rows,
            "rows",
            sum(one.missing + one.extra for _, one in checked.tables()),
            sum(one["history_rows_behind"] for one in partitions),
        ),
    ]
    unread_at = {"clickhouse": sum(unread.values())}
    return [
        {
            "stage": stage,
            "count": count,
            "unit": unit,
            "difference": difference,
            "in_flight": in_flight,
            "messages_unread": unread_at.get(stage, 0),
            "status": _status([one for one in reasons if one["stage"] == stage]),
        }
        for stage, count, unit, difference, in_flight in rows
    ]
