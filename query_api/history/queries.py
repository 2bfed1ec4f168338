"""Reads of the history. They run in threads of their own, one client each."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from query_api.history.database import connect

READERS = 2
ROWS_MAX = 50_000
QUERY_SETTINGS = {"max_execution_time": 30}

Answer = TypeVar("Answer")


class HistoryUnavailableError(RuntimeError):
    """ClickHouse did not answer."""


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
        self._clients: list[Client] = []

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
            HistoryUnavailableError: If ClickHouse does not answer.
        """
        name, value = ("tick", tick) if tick is not None else ("as_of_ms", at_ms)
        parameters = {"experiment": experiment_id, "bound": value}

        def run(client: Client) -> StoredLook:
            later = _rows(client, _LATER_LOOKS[name], parameters)  # first: what follows is newer
            found = _rows(client, _LAST_LOOK[name], parameters)
            text = found[0][0] if found else None
            return StoredLook(text.encode() if isinstance(text, str) else text, bool(later[0][0]))

        return await self._run(run)

    async def timeseries(self, experiment_id: str, span: Span) -> tuple[list[dict[str, Any]], bool]:
        """Return effect rows, oldest first, and whether older ones were left out.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer.
        """
        query, parameters = _timeseries_query(experiment_id, span)

        def run(client: Client) -> tuple[list[dict[str, Any]], bool]:
            found = client.query(query, parameters=parameters, settings=QUERY_SETTINGS)
            rows = [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]
            return rows[ROWS_MAX - 1 :: -1], len(rows) > ROWS_MAX

        return await self._run(run)

    async def rows_below(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """Return, per partition of litmus.events, the rows of its log below an offset.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer.
        """
        if not offsets:
            return {}
        parts = [
            _ROWS_BELOW.format(partition=int(partition), offset=int(offset))
            for partition, offset in offsets.items()
        ]
        found = await self._run(lambda client: _rows(client, " UNION ALL ".join(parts)))
        return dict.fromkeys(offsets, 0) | dict(found)

    async def compare(self, offsets: Mapping[int, int]) -> Comparison:
        """Compare the stored rows of litmus.events with the log, message by message.

        Args:
            offsets: Per partition, where to stop: what lies above may be half stored.

        Raises:
            HistoryUnavailableError: If ClickHouse does not answer.
        """
        parameters = {"partitions": list(offsets), "offsets": list(offsets.values())}
        [counted] = await self._run(lambda client: _rows(client, _COMPARE, parameters))
        return Comparison(*map(int, counted))

    async def _run(self, read: Callable[[Client], Answer]) -> Answer:
        def run() -> Answer:
            try:
                return read(self._client())
            except (ClickHouseError, OSError) as error:
                raise HistoryUnavailableError(str(error)) from error

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

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

_ROWS_BELOW = """
(SELECT {partition} AS partition, rows_through FROM batches
WHERE kafka_partition = {partition} AND kafka_offset < {offset}
ORDER BY kafka_offset DESC LIMIT 1)"""

_COMPARE = """
SELECT sum(stored), sumIf(in_log - stored, in_log > stored), sumIf(stored - in_log, stored > in_log)
FROM
(
    SELECT sum(stored) AS stored, sum(in_log) AS in_log
    FROM
    (
        SELECT kafka_partition, kafka_offset, 1 AS stored, 0 AS in_log
        FROM events FINAL WHERE kafka_offset < {end}
        UNION ALL
        SELECT kafka_partition, kafka_offset, 0, rows
        FROM batches FINAL WHERE kafka_offset < {end}
    )
    GROUP BY kafka_partition, kafka_offset
)""".replace(
    "{end}", "transform(kafka_partition, {partitions:Array(UInt32)}, {offsets:Array(UInt64)}, 0)"
)

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


def _rows(client: Client, query: str, parameters: dict[str, Any] | None = None) -> Any:
    return client.query(query, parameters=parameters, settings=QUERY_SETTINGS).result_rows
