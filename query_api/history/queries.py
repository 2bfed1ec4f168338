"""Reads of the history. They run in threads of their own, one client each.

Nothing can call a query back, but no query runs on after the limit of the question that it is for,
counted from when it was asked: ClickHouse ends it then. Nobody waits for its answer any more.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from query_api.history.database import connect
from query_api.history.imports import ImportAccount, read_accounts
from query_api.history.writer import Position
from query_api.kafka_log import Source
from query_api.metrics import HISTORY_PENDING, HISTORY_REFUSED
from schemas.topics import DEAD_LETTERS, EVENTS, LATE

READERS = 2
ROWS_MAX = 50_000
ANSWER_TIMEOUT_S = 20.0
QUERY_SETTINGS = {
    "max_memory_usage": 2 << 30,
    "optimize_aggregation_in_order": 1,
}
"""A question that takes too much fails alone: chdb shares the memory of the process."""

MESSAGES_AT_ONCE = 5_000
"""Messages per partition that one query compares: a call that fails has moved the mark on."""
PENDING_MAX = 64
"""Questions that are asked or wait for a reader; more are refused at once."""

Answer = TypeVar("Answer")

_TOO_SLOW = ("TIMEOUT_EXCEEDED", "TOO_SLOW")
"""What ClickHouse calls the end of a query that has used up its time."""


class HistoryUnavailableError(RuntimeError):
    """ClickHouse did not answer."""


class HistoryTooSlowError(HistoryUnavailableError):
    """ClickHouse did not answer within the limit of a question; the query has ended."""


class Reader(NamedTuple):
    """A client for the length of one question.

    Attributes:
        client: Asks ClickHouse.
        ends_at_s: When the question's time is up, on ``time.monotonic``.
    """

    client: Client
    ends_at_s: float

    def settings(self) -> dict[str, float]:
        """Return the settings of the next query: it has what is left of the question's time.

        Raises:
            HistoryTooSlowError: If nothing is left.
        """
        left_s = self.ends_at_s - time.monotonic()
        if left_s <= 0:
            raise HistoryTooSlowError("the question's time is up")
        return QUERY_SETTINGS | {"max_execution_time": left_s}


class StoredLook(NamedTuple):
    """What the history knows of a moment.

    Attributes:
        text: The look published then; None if there was none.
        has_later: Whether a later one is stored, so that nothing in between can be missing.
    """

    text: bytes | None
    has_later: bool


class Comparison(NamedTuple):
    """What is stored against what the log holds.

    Attributes:
        rows: Rows stored, each position once.
        missing: Rows of the log that are not.
        extra: Rows stored that the log does not hold.
    """

    rows: int
    missing: int
    extra: int


class Checked(NamedTuple):
    """The history's tables against the log, below the offsets that were asked for.

    Attributes:
        events: Rows of litmus.events.
        late: Rows of litmus.late.
        dead_letters: Records of litmus.dlq.
        log_rows: Rows of litmus.events by the index of batches.
        offsets_rows: Rows of litmus.events by the progress, per partition.
        looks_conflicting: Ticks of an experiment with looks of several identities.
    """

    events: Comparison
    late: Comparison
    dead_letters: Comparison
    log_rows: int
    offsets_rows: Mapping[int, int]
    looks_conflicting: int

    def tables(self) -> list[tuple[str, Comparison]]:
        """Return every table with its comparison."""
        return [("events", self.events), ("late", self.late), ("dead_letters", self.dead_letters)]


class Mark(NamedTuple):
    """Up to where the history has been compared with the log, and what was found below.

    Attributes:
        offsets: First offset of every partition that has not been compared.
        events: Rows of litmus.events.
        log_rows: The same by the index of batches.
        late: Rows of litmus.late that are stored.
        dead_letters: Records of litmus.dlq that are stored.
    """

    offsets: Mapping[Source, int]
    events: Comparison
    log_rows: int
    late: int
    dead_letters: int

    @classmethod
    def believed(cls, stored: Mapping[Source, Position]) -> "Mark":
        """Return the mark of what is taken to be whole without a look at it."""
        rows = _total(stored, EVENTS.name)
        counts = (_total(stored, LATE.name), _total(stored, DEAD_LETTERS.name))
        offsets = {source: position.next_offset for source, position in stored.items()}
        return cls(offsets, Comparison(rows, 0, 0), rows, *counts)

    def checked(self, stored: Mapping[Source, Position], looks_conflicting: int) -> Checked:
        """Return the comparison, once the mark has come to what is stored."""
        return Checked(
            events=self.events,
            late=_counted(self.late, _total(stored, LATE.name)),
            dead_letters=_counted(self.dead_letters, _total(stored, DEAD_LETTERS.name)),
            log_rows=self.log_rows,
            offsets_rows={
                s.partition: p.row_count for s, p in stored.items() if s.topic == EVENTS.name
            },
            looks_conflicting=looks_conflicting,
        )


class Span(NamedTuple):
    """Which rows of a time series; None: no bound.

    Attributes:
        step_ms: Length of the steps of which only the last look counts; None: every look.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    step_ms: int | None = None
    metric_id: str | None = None
    variant: str | None = None
    basis: str | None = None


class History:
    """What the sink has stored."""

    def __init__(self, dsn: str, database: str) -> None:
        self._dsn = dsn
        self._database = database
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="history")
        self._local = threading.local()
        self._pending = 0
        self._clients: list[Client] = []
        self._mark: Mark | None = None

    def close(self) -> None:
        """Close every client; nothing may be read after it."""
        self._pool.shutdown()
        for client in self._clients:
            client.close()

    async def look_at(
        self, experiment_id: str, *, tick: int | None = None, at_ms: int | None = None
    ) -> StoredLook:
        """Return the last look of an experiment up to a tick, or up to a time.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer, or not in time.
        """
        name, value = ("tick", tick) if tick is not None else ("as_of_ms", at_ms)
        parameters = {"experiment": experiment_id, "bound": value}

        def run(reader: Reader) -> StoredLook:
            later = _rows(reader, _LATER_LOOKS[name], parameters)  # first: what follows is newer
            found = _rows(reader, _LAST_LOOK[name], parameters)
            text = found[0][0] if found else None
            return StoredLook(text.encode() if isinstance(text, str) else text, bool(later[0][0]))

        return await self._run(run)

    async def looks_from(self, experiment_id: str, tick: int, limit: int) -> list[dict[str, Any]]:
        """Return the first looks of an experiment at or after a tick, oldest first.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer, or not in time.
        """
        parameters = {"experiment": experiment_id, "tick": tick, "limit": limit}
        found = await self._run(lambda reader: _rows(reader, _LOOKS_FROM, parameters))
        names = ("tick", "log_id", "sha256", "as_of_ms")
        return [dict(zip(names, row, strict=True)) for row in found]

    async def rows_of_event(
        self, unit_type: str, unit_id: str, event_id: str
    ) -> dict[str, list[dict[str, Any]]]:
        """Return every stored row of an event, by table, in the order of the log.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer, or not in time.
        """
        parameters = {"type": unit_type, "unit": unit_id, "event": event_id}

        def run(reader: Reader) -> dict[str, list[dict[str, Any]]]:
            return {
                table: [
                    dict(zip(_EVENT_COLUMNS, row, strict=True))
                    for row in _rows(reader, _ROWS_OF_EVENT.format(table=table), parameters)
                ]
                for table in ("events", "late")
            }

        return await self._run(run)

    async def timeseries(self, experiment_id: str, span: Span) -> tuple[list[dict[str, Any]], bool]:
        """Return effect rows, oldest first, and whether older ones were left out.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer, or not in time.
        """
        query, parameters = _timeseries_query(experiment_id, span)

        def run(reader: Reader) -> tuple[list[dict[str, Any]], bool]:
            settings = reader.settings()
            found = reader.client.query(query, parameters=parameters, settings=settings)
            rows = [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]
            return rows[ROWS_MAX - 1 :: -1], len(rows) > ROWS_MAX

        return await self._run(run)

    async def rows_below(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """Return, per partition of litmus.events, the rows of its log below an offset.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer, or not in time.
        """
        if not offsets:
            return {}
        parts = [
            _ROWS_BELOW.format(partition=int(partition), offset=int(offset))
            for partition, offset in offsets.items()
        ]
        found = await self._run(lambda reader: _rows(reader, " UNION ALL ".join(parts)))
        return dict.fromkeys(offsets, 0) | dict(found)

    async def import_accounts(self, tick: int, offsets: Mapping[int, int]) -> list[ImportAccount]:
        """Return what was agreed on of each import up to a tick, and what the log has of it.

        Args:
            tick: The engine's last.
            offsets: Its offsets, per partition of litmus.events.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer, or not in time.
        """
        return await self._run(
            lambda reader: read_accounts(reader.client, tick, offsets, reader.settings())
        )

    async def check(
        self,
        stored: Mapping[Source, Position],
        *,
        begun: Mapping[Source, Position] | None = None,
        is_thorough: bool = False,
    ) -> Checked:
        """Compare the tables with the log, message by message.

        Args:
            stored: Where to stop: what lies above may be half stored.
            begun: What was stored before this process; it is believed to be whole.
            is_thorough: Compare everything. Otherwise only what came since the last call, or since
                ``begun``: what was found then is said again, and changes below are not seen.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer, or not in time; what was
                compared until then is not compared by the next call again.
        """
        if is_thorough:
            everything = Mark.believed({})
            mark = await self._run(lambda reader: _compared(reader, everything, stored))
            conflicting = await self._run(lambda reader: _count(reader, _CONFLICTING_LOOKS))
            self._mark = mark
            return mark.checked(stored, conflicting)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                mark = await self._compare_new(stored, begun or {})
        except TimeoutError as error:
            message = f"not all that is new was compared within {ANSWER_TIMEOUT_S:.0f} s; ask again"
            raise HistoryTooSlowError(message) from error
        conflicting = await self._run(lambda reader: _count(reader, _KNOWN_CONFLICTS))
        return mark.checked(stored, conflicting)

    async def _compare_new(
        self, stored: Mapping[Source, Position], begun: Mapping[Source, Position]
    ) -> Mark:
        mark = self._mark
        if mark is None or _is_beyond(mark, stored):
            mark = Mark.believed(begun)
            if _is_beyond(mark, stored):  # the history begins anew
                mark = Mark.believed({})
        while True:
            before, ends = mark, _next_ends(mark, stored)
            mark = await self._run(partial(_compared, begins=before, ends=ends))
            if self._mark is None or self._mark is before or _is_beyond(self._mark, stored):
                self._mark = mark
            if ends == stored:
                return mark

    async def _run(self, read: Callable[[Reader], Answer]) -> Answer:
        ends_at_s = time.monotonic() + ANSWER_TIMEOUT_S

        def run() -> Answer:
            try:
                return read(Reader(self._client(), ends_at_s))
            except (ClickHouseError, OSError) as error:
                if any(name in str(error) for name in _TOO_SLOW):
                    raise HistoryTooSlowError(str(error)) from error
                raise HistoryUnavailableError(str(error)) from error

        if self._pending >= PENDING_MAX:
            HISTORY_REFUSED.labels("busy").inc()
            raise HistoryUnavailableError(f"{self._pending} questions wait, must be fewer")
        asked = asyncio.get_running_loop().run_in_executor(self._pool, run)
        self._count(1)
        asked.add_done_callback(self._settle)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await asked  # one that nobody waits for any more is not begun
        except (TimeoutError, HistoryTooSlowError) as error:
            HISTORY_REFUSED.labels("slow").inc()
            message = f"no answer within {ANSWER_TIMEOUT_S:g} s"
            raise HistoryTooSlowError(message) from error

    def _settle(self, asked: "asyncio.Future[Any]") -> None:
        self._count(-1)
        if not asked.cancelled():
            asked.exception()  # who asked may have gone: then nobody else looks at it

    def _count(self, change: int) -> None:
        self._pending += change
        HISTORY_PENDING.set(self._pending)

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = connect(self._dsn, self._database)
            self._clients.append(client)
        return client


_LOOKS = """
SELECT {what} FROM looks WHERE experiment_id = {{experiment:String}} AND {condition} {rest}"""
_LOOK_TIMES = {"tick": "tick", "as_of_ms": "toUnixTimestamp64Milli(as_of)"}
_LATER_LOOKS = {
    name: _LOOKS.format(what="count()", condition=f"{column} > {{bound:Int64}}", rest="")
    for name, column in _LOOK_TIMES.items()
}
_LAST_LOOK = {
    name: _LOOKS.format(
        what="look",
        condition=f"{column} <= {{bound:Int64}}",
        rest="ORDER BY tick DESC, log_id DESC LIMIT 1",
    )
    for name, column in _LOOK_TIMES.items()
}

_LOOKS_FROM = """
SELECT tick, log_id, sha256, toUnixTimestamp64Milli(as_of)
FROM looks FINAL WHERE experiment_id = {experiment:String} AND tick >= {tick:UInt64}
ORDER BY tick, log_id LIMIT {limit:UInt32}"""

_EVENT_COLUMNS = (
    "partition", "offset", "row", "door", "received_at_ms", "timestamp_ms", "experiment_id",
    "variant", "metric", "value",
)  # fmt: skip
_ROWS_OF_EVENT = """
SELECT
    kafka_partition, kafka_offset, row, door, toUnixTimestamp64Milli(received_at),
    toUnixTimestamp64Milli(timestamp), experiment_id, variant, metric, value
FROM {table}
WHERE unit_type = {{type:String}} AND unit_id = {{unit:String}} AND event_id = {{event:String}}
ORDER BY kafka_partition, kafka_offset, row
LIMIT 1 BY kafka_partition, kafka_offset, row"""

_ROWS_BELOW = """
(SELECT {partition} AS partition, rows_through FROM batches
WHERE kafka_partition = {partition} AND kafka_offset < {offset}
ORDER BY kafka_offset DESC LIMIT 1)"""

_COMPARE = """
SELECT
    sum(stored), sumIf(in_log - stored, in_log > stored), sumIf(stored - in_log, stored > in_log),
    sum(in_log)
FROM
(
    SELECT sum(stored) AS stored, sum(in_log) AS in_log
    FROM
    (
        SELECT kafka_partition, kafka_offset, 1 AS stored, 0 AS in_log
        FROM events FINAL WHERE kafka_offset >= {begin} AND kafka_offset < {end}
        UNION ALL
        SELECT kafka_partition, kafka_offset, 0, rows
        FROM batches FINAL WHERE kafka_offset >= {begin} AND kafka_offset < {end}
    )
    GROUP BY kafka_partition, kafka_offset
)""".replace(
    "{begin}",
    "transform(kafka_partition, {partitions:Array(UInt32)}, {begins:Array(UInt64)}, 0)",
).replace(
    "{end}", "transform(kafka_partition, {partitions:Array(UInt32)}, {ends:Array(UInt64)}, 0)"
)

_COUNT_BETWEEN = """
SELECT count() FROM {table} FINAL
WHERE kafka_offset >= transform(kafka_partition, {{partitions:Array(UInt32)}},
    {{begins:Array(UInt64)}}, 0)
AND kafka_offset < transform(kafka_partition, {{partitions:Array(UInt32)}},
    {{ends:Array(UInt64)}}, 0)"""

_CONFLICTING_LOOKS = """
SELECT count() FROM
(
    SELECT 1 FROM looks GROUP BY experiment_id, tick, log_id HAVING min(sha256) != max(sha256)
)"""
_KNOWN_CONFLICTS = "SELECT count() FROM conflicting_looks FINAL"


def _compared(reader: Reader, begins: Mark, ends: Mapping[Source, Position]) -> Mark:
    """Return the mark moved on: what lies between it and the ends is compared."""
    [counted] = _rows(reader, _COMPARE, _between(begins, ends, EVENTS.name))
    *compared, log_rows = map(int, counted)
    late, dead_letters = (
        _count(reader, _COUNT_BETWEEN.format(table=table), _between(begins, ends, topic))
        for table, topic in (("late", LATE.name), ("dead_letters", DEAD_LETTERS.name))
    )
    return Mark(
        {**begins.offsets, **{source: position.next_offset for source, position in ends.items()}},
        Comparison(*(a + b for a, b in zip(begins.events, compared, strict=True))),
        begins.log_rows + log_rows,
        begins.late + late,
        begins.dead_letters + dead_letters,
    )


def _between(begins: Mark, ends: Mapping[Source, Position], topic: str) -> dict[str, list[int]]:
    sources = [source for source in ends if source.topic == topic]
    return {
        "partitions": [source.partition for source in sources],
        "begins": [begins.offsets.get(source, 0) for source in sources],
        "ends": [ends[source].next_offset for source in sources],
    }


def _next_ends(mark: Mark, stored: Mapping[Source, Position]) -> dict[Source, Position]:
    return {
        source: position._replace(
            next_offset=min(position.next_offset, mark.offsets.get(source, 0) + MESSAGES_AT_ONCE)
        )
        for source, position in stored.items()
    }


def _is_beyond(mark: Mark, stored: Mapping[Source, Position]) -> bool:
    """Return whether the history begins anew: it has less than was compared before."""
    nowhere = Position(0, 0)
    return any(stored.get(s, nowhere).next_offset < offset for s, offset in mark.offsets.items())


def _counted(found: int, logged: int) -> Comparison:
    return Comparison(found, max(0, logged - found), max(0, found - logged))


def _total(stored: Mapping[Source, Position], topic: str) -> int:
    return sum(position.row_count for source, position in stored.items() if source.topic == topic)


_SERIES = """
SELECT
    toUnixTimestamp64Milli(as_of) AS ts, tick, metric_id, kind, role, basis, variant, control,
    status, units, total, mean, variance, std_error, effect, effect_std_error, interval,
    low, high, p_value, running_low, running_high, running_p_value,
    fixed_horizon_low, fixed_horizon_high, fixed_horizon_p_value,
    relative_effect, relative_low, relative_high
FROM look_rows FINAL WHERE"""

_NEWEST_FIRST = "ORDER BY as_of DESC, tick DESC, metric_id DESC, basis DESC, variant DESC"
_LIMIT = f"LIMIT {ROWS_MAX + 1}"


def _timeseries_query(experiment_id: str, span: Span) -> tuple[str, dict[str, Any]]:
    conditions = ["experiment_id = {experiment:String}"]
    parameters: dict[str, Any] = {"experiment": experiment_id}
    for condition, name, value in (
        ("toUnixTimestamp64Milli(as_of) >= {from:Int64}", "from", span.from_ms),
        ("toUnixTimestamp64Milli(as_of) <= {to:Int64}", "to", span.to_ms),
        ("metric_id = {metric:String}", "metric", span.metric_id),
        ("variant = {variant:String}", "variant", span.variant),
        ("basis = {basis:String}", "basis", span.basis),
    ):
        if value is not None:
            conditions.append(condition)
            parameters[name] = value
    last_of_step = ""
    if span.step_ms is not None:
        parameters["step"] = span.step_ms
        last_of_step = "LIMIT 1 BY intDiv(ts, {step:Int64}), metric_id, basis, variant"
    query = " ".join([_SERIES, " AND ".join(conditions), _NEWEST_FIRST, last_of_step, _LIMIT])
    return query, parameters


def _rows(reader: Reader, query: str, parameters: dict[str, Any] | None = None) -> Any:
    settings = reader.settings()
    return reader.client.query(query, parameters=parameters, settings=settings).result_rows


def _count(reader: Reader, query: str, parameters: dict[str, Any] | None = None) -> int:
    [[found]] = _rows(reader, query, parameters)
    return int(found)
