"""What ClickHouse holds, held to the log: every row at its position, and sums by its own SQL."""

from array import array
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from tools.torture.audit.findings import Findings
from tools.torture.audit.reference import Moment, TickState
from tools.torture.audit.rules import COUNT, NEVER, SUM, SUMS, MetricRules

HISTORY, SUMS_BY_SQL = "clickhouse", "clickhouse sums"
_U64 = 1 << 64


class PartitionRows(NamedTuple):
    """What the log of a partition holds.

    Attributes:
        batches: Offset and number of rows of each batch, one after the other.
        not_counted: Positions of rows that were stale or refused: offset * 2**20 + row.
        column_sums: Of timestamps, of the low halves of event and unit hashes.
        fates: Rows by what became of them.
    """

    batches: "array[int]"
    not_counted: "array[int]"
    column_sums: tuple[int, ...]
    fates: tuple[int, ...]


class Stored(Protocol):
    """A ClickHouse that answers queries."""

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of an answer."""
        ...


def compare_history(
    stored: Stored, rows: Mapping[int, PartitionRows], last: TickState | None, findings: Findings
) -> None:
    """Hold what ClickHouse stores to the log, and sums that it computes to the reference."""
    _compare_positions(stored, rows, findings)
    _compare_contents(stored, rows, findings)
    if last is not None:
        excluded = [
            (number, at >> 20, at & 0xFFFFF)
            for number, one in rows.items()
            for at in one.not_counted
        ]
        for moment in last.moments.values():
            if moment.rules.started != NEVER and not moment.is_final:
                _compare_sums(stored, moment, last.times.settled_ms, excluded, findings)
    findings.require(HISTORY)


def _compare_positions(
    stored: Stored, rows: Mapping[int, PartitionRows], findings: Findings
) -> None:
    found = {
        (partition, offset): count
        for partition, offset, count in stored.query(
            "SELECT kafka_partition, kafka_offset, count() FROM events FINAL GROUP BY 1, 2"
        )
    }
    for number, one in rows.items():
        for place in range(0, len(one.batches), 2):
            offset, count = one.batches[place], one.batches[place + 1]
            where = f"litmus.events/{number}, offset {offset}, rows"
            findings.compare(HISTORY, where, count, found.pop((number, offset), 0))
    for (number, offset), count in found.items():
        line = f"litmus.events/{number}, offset {offset}: {count} rows, expected none"
        findings.differ(HISTORY, line)


def _compare_contents(
    stored: Stored, rows: Mapping[int, PartitionRows], findings: Findings
) -> None:
    found = {
        partition: sums
        for partition, *sums in stored.query(
            "SELECT kafka_partition, sum(toUnixTimestamp64Milli(timestamp)) AS times, "
            "sum(event_hash_low) AS events, sum(unit_hash_low) AS units "
            "FROM events FINAL GROUP BY kafka_partition"
        )
    }
    for number, one in rows.items():
        if one.fates[0]:
            wanted = [total % _U64 for total in one.column_sums]
            its = [total % _U64 for total in found.get(number, (0, 0, 0))]
            where = f"litmus.events/{number}, sums of timestamps, event and unit hashes"
            findings.compare(HISTORY, where, wanted, its)


def _compare_sums(
    stored: Stored,
    moment: Moment,
    settled_ms: int,
    excluded: list[tuple[int, int, int]],
    findings: Findings,
) -> None:
    """Hold units, Σq and Σq² of every metric, basis and variant to what SQL makes of the rows."""
    rules, integers = moment.rules, moment.integers
    for definition, metric in zip(rules.definition.metrics, rules.metrics, strict=True):
        if integers[metric.overflowed]:
            continue  # SQL's sums know no limit of a unit's magnitude
        for basis, start in (("open", metric.start), ("matured", metric.matured)):
            if basis == "matured" and metric.window == NEVER:
                continue
            answer = stored.query(_sums_query(moment, metric, basis, settled_ms, excluded))
            found = {variant: tuple(map(int, sums)) for variant, *sums in answer}
            for place, variant in enumerate(rules.places):
                at = start + SUMS * place
                where = f"{rules.id}, {definition.id}, {basis}, {variant}"
                wanted = tuple(integers[at : at + SUMS])
                findings.compare(SUMS_BY_SQL, where, wanted, found.get(variant, (0, 0, 0)))


_SUMS = """
WITH
fresh AS
(
    SELECT * FROM
    (
        SELECT *, toUnixTimestamp64Milli(timestamp) AS ts FROM events FINAL
        WHERE unit_type = {unit_type} AND NOT has({excluded}, (kafka_partition, kafka_offset, row))
        ORDER BY kafka_partition, kafka_offset, row
        LIMIT 1 BY unit_id, event_id
    )
),
entries AS
(
    SELECT unit_id AS exposed, argMin(variant, (ts, event_hash_high, event_hash_low)) AS arm,
        min(ts) AS entry
    FROM fresh
    WHERE kind = 'assignment' AND experiment_id = {experiment} AND ({intervals})
    GROUP BY unit_id
    HAVING {kept} AND entry >= {added} AND {matured}
),
totals AS
(
    SELECT unit_id AS owner, {total} AS q
    FROM fresh INNER JOIN entries ON fresh.unit_id = entries.exposed
    WHERE kind = 'metric' AND metric = {event}
        AND (isNull(experiment_id) OR experiment_id = {experiment})
        AND ts >= entry AND {in_window} AND ts < {stopped}
    GROUP BY unit_id
)
SELECT arm, count(), sum(toInt256(q)), sum(toInt256(q) * toInt256(q))
FROM (SELECT arm, ifNull(q, 0) AS q FROM entries LEFT JOIN totals ON entries.exposed = totals.owner)
GROUP BY arm"""


def _sums_query(
    moment: Moment,
    metric: MetricRules,
    basis: str,
    settled_ms: int,
    excluded: list[tuple[int, int, int]],
) -> str:
    rules = moment.rules
    total = "toInt64(max(value > 0))"
    if metric.kind == COUNT:
        total = "toInt64(count())"
    elif metric.kind == SUM:
        total = f"sum(toInt128(roundBankers(value * toFloat64('{metric.scale!r}'))))"
    has_window = metric.window != NEVER
    positions = ", ".join(map(str, excluded)) or "(4294967295, 0, 0)"
    return _SUMS.format(
        unit_type=_quoted(rules.unit_type),
        experiment=_quoted(rules.id),
        event=_quoted(metric.event),
        excluded=f"[{positions}]",
        intervals=" OR ".join(f"(ts >= {start} AND ts < {end})" for start, end in rules.intervals),
        kept="uniqExact(variant) = 1" if rules.excludes else "1",
        added=metric.added,
        matured=f"entry + {metric.window} <= {min(settled_ms, rules.stopped)}"
        if basis == "matured"
        else "1",
        total=total,
        in_window=f"ts < entry + {metric.window}" if has_window else "1",
        stopped=rules.stopped,
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
