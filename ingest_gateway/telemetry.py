"""Every metric of the doors, each name written once; one function per thing that happens."""

from collections.abc import Iterable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest_gateway.errors import GatewayError, Rejection, RejectionCode
from schemas.connections import Closing

REGISTRY = CollectorRegistry()


class Door(StrEnum):
    """Where events enter."""

    HTTP = "http"
    KAFKA = "kafka"


class Halt(StrEnum):
    """Why the Kafka door stands still."""

    DEAD_LETTERS = "dead_letters"
    SOURCE_GAP = "source_gap"


_EVENTS = Counter(
    "litmus_gateway_events_total",
    "Events answered for, by what became of them.",
    ["door", "outcome"],
    registry=REGISTRY,
)
_REJECTED = Counter(
    "litmus_gateway_rejected_events_total",
    "Events refused, by code.",
    ["door", "code"],
    registry=REGISTRY,
)
_REFUSED_REQUESTS = Counter(
    "litmus_gateway_refused_requests_total",
    "Requests refused as a whole, by code.",
    ["code"],
    registry=REGISTRY,
)
_REQUEST_SECONDS = Histogram(
    "litmus_gateway_request_seconds",
    "From the first byte of a request to its answer.",
    ["route", "status"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
_BATCH_ROWS = Histogram(
    "litmus_gateway_batch_rows",
    "Rows of one packed batch.",
    ["door"],
    buckets=(1, 10, 100, 1_000, 4_000, 16_000, 65_536),
    registry=REGISTRY,
)
_QUEUED_ROWS = Gauge(
    "litmus_gateway_queued_rows",
    "Rows that are not acknowledged yet.",
    ["door"],
    registry=REGISTRY,
)
_DEAD_LETTER_BYTES = Counter(
    "litmus_gateway_dead_letter_bytes_total",
    "Bytes set aside on litmus.dlq.",
    ["door"],
    registry=REGISTRY,
)
_DOOR_HALTED = Gauge(
    "litmus_gateway_door_halted",
    "1 while the Kafka door stands still for this reason, and needs an operator.",
    ["reason"],
    registry=REGISTRY,
)
_LOST_RECORDS = Counter(
    "litmus_gateway_lost_source_records_total",
    "Records that left a source topic before the Kafka door had taken them.",
    ["source"],
    registry=REGISTRY,
)
_SETTLED_LAG = Gauge(
    "litmus_gateway_settled_lag_seconds",
    "How far settled time is behind log time, and how long control has been silent.",
    registry=REGISTRY,
)
_CLOCK_SKEW = Gauge(
    "litmus_gateway_clock_skew_seconds",
    "The clock of this process less that of the log; beyond 60 either way no events are taken.",
    registry=REGISTRY,
)
_BODY_BYTES = Gauge(
    "litmus_gateway_body_bytes",
    "Bytes of the bodies of requests that are not answered yet.",
    registry=REGISTRY,
)
_REQUESTS = Gauge(
    "litmus_gateway_requests_under_way",
    "Requests whose body is there and whose answer is not.",
    registry=REGISTRY,
)
_CONNECTIONS = Gauge(
    "litmus_gateway_connections",
    "Connections of clients.",
    registry=REGISTRY,
)
_CLOSED_CONNECTIONS = Counter(
    "litmus_gateway_closed_connections_total",
    "Connections that the gateway closed on its own, by reason.",
    ["reason"],
    registry=REGISTRY,
)
_QUEUED_BYTES = Gauge(
    "litmus_gateway_queued_bytes",
    "Bytes of the requests whose rows are not acknowledged yet.",
    registry=REGISTRY,
)
_PRODUCER_QUEUE_MESSAGES = Gauge(
    "litmus_gateway_producer_queue_messages",
    "Messages in the producer's queue, as of the last quarter of a second.",
    registry=REGISTRY,
)
_PRODUCER_QUEUE_BYTES = Gauge(
    "litmus_gateway_producer_queue_bytes",
    "Bytes in the producer's queue, as of the last quarter of a second.",
    registry=REGISTRY,
)
_VIEW_TICK = Gauge(
    "litmus_gateway_view_tick",
    "Tick up to which the control log is in use.",
    registry=REGISTRY,
)
_DECISIONS = Counter(
    "litmus_gateway_decisions_total",
    "Decisions, by reason.",
    ["reason"],
    registry=REGISTRY,
)
_END_QUESTION_FAILURES = Counter(
    "litmus_gateway_end_question_failures_total",
    "Questions where a partition ends that brokers did not answer.",
    registry=REGISTRY,
)
_IMPORT_BATCHES = Counter(
    "litmus_gateway_import_batches_total",
    "Import batches, by what became of them.",
    ["outcome"],
    registry=REGISTRY,
)
_IMPORT_ROWS = Counter(
    "litmus_gateway_import_rows_total",
    "Rows of import batches that are in every partition.",
    registry=REGISTRY,
)
_LOW_WATER = Gauge(
    "litmus_gateway_low_water_seconds",
    "Low-water mark of a source partition, as epoch seconds.",
    ["source"],
    registry=REGISTRY,
)


def report_events(door: Door, *, accepted: int, late: int, rejections: Iterable[Rejection]) -> None:
    """Count events once they are durable, whatever became of them."""
    codes = [rejection.code.value for rejection in rejections]
    for outcome, count in (("accepted", accepted), ("late", late), ("rejected", len(codes))):
        if count:
            _EVENTS.labels(door.value, outcome).inc(count)
    for code in codes:
        _REJECTED.labels(door.value, code).inc()


def report_refused_request(code: str) -> None:
    """Count a request that was refused as a whole."""
    _REFUSED_REQUESTS.labels(code).inc()


def report_request(route: str, status: int, seconds: float) -> None:
    """Time a request; ``route`` is its pattern, never its path."""
    _REQUEST_SECONDS.labels(route, str(status)).observe(seconds)


def report_batch(door: Door, rows: int) -> None:
    """Note the size of a batch."""
    _BATCH_ROWS.labels(door.value).observe(rows)


def report_queued_rows(door: Door, rows: int) -> None:
    """Note how many rows are under way."""
    _QUEUED_ROWS.labels(door.value).set(rows)


def report_dead_letters(door: Door, size: int) -> None:
    """Count what is set aside."""
    _DEAD_LETTER_BYTES.labels(door.value).inc(size)


def report_door_halted(reason: Halt, *, is_halted: bool) -> None:
    """Note whether the Kafka door stands still for a reason."""
    _DOOR_HALTED.labels(reason.value).set(is_halted)


def report_lost_records(source: str, count: int) -> None:
    """Count records that are gone before they were read, as an operator has accepted."""
    _LOST_RECORDS.labels(source).inc(count)


def report_settled_lag(seconds: float) -> None:
    """Note how far settled time is behind."""
    _SETTLED_LAG.set(seconds)


def report_clock_skew(seconds: float) -> None:
    """Note how far the own clock is from that of the log."""
    _CLOCK_SKEW.set(seconds)


def report_bodies(size: int) -> None:
    """Note how many bytes of bodies are here."""
    _BODY_BYTES.set(size)


def report_requests_under_way(count: int) -> None:
    """Note how many requests are worked on."""
    _REQUESTS.set(count)


def report_connections(count: int) -> None:
    """Note how many connections there are."""
    _CONNECTIONS.set(count)


def report_closed_connection(reason: Closing) -> None:
    """Count a connection that is closed for what its client does."""
    _CLOSED_CONNECTIONS.labels(reason.value).inc()


def report_queued_bytes(size: int) -> None:
    """Note how many bytes of requests are under way."""
    _QUEUED_BYTES.set(size)


def report_producer_queue(messages: int, size: int) -> None:
    """Note what waits in the producer."""
    _PRODUCER_QUEUE_MESSAGES.set(messages)
    _PRODUCER_QUEUE_BYTES.set(size)


def report_view(tick: int) -> None:
    """Note how far the control log is in use."""
    _VIEW_TICK.set(tick)


def report_decision(reason: str) -> None:
    """Count a decision."""
    _DECISIONS.labels(reason).inc()


def report_end_question_failure() -> None:
    """Count a question about the end of a partition that was not answered."""
    _END_QUESTION_FAILURES.inc()


def report_import_batch(outcome: str, row_count: int) -> None:
    """Count an import batch: ``done``, ``already`` or ``refused``."""
    _IMPORT_BATCHES.labels(outcome).inc()
    _IMPORT_ROWS.inc(row_count)


def report_mark(source: str, low_water_ms: int) -> None:
    """Note a low-water mark."""
    _LOW_WATER.labels(source).set(low_water_ms / 1_000)


def _codes_of(error: type[GatewayError]) -> Iterable[str]:
    for kind in error.__subclasses__():
        yield kind.code
        yield from _codes_of(kind)


def _open_series() -> None:
    """Show every reason from the start, at 0: an alert sees the first drop as an increase."""
    for door in Door:
        for outcome in ("accepted", "late", "rejected"):
            _EVENTS.labels(door.value, outcome)
        for code in RejectionCode:
            _REJECTED.labels(door.value, code.value)
    for refusal in sorted(set(_codes_of(GatewayError))):
        _REFUSED_REQUESTS.labels(refusal)


_open_series()
