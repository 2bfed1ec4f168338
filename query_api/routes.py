"""What can be asked once: experiments, results, time series, the ledger."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from starlette.requests import HTTPConnection

from query_api import ledger
from query_api.history.queries import (
    HistoryTooSlowError,
    HistoryUnavailableError,
    Span,
    StoredLook,
)
from query_api.parts import Parts, wait_until
from query_api.problems import (
    ProblemError,
    invalid_parameter,
    look_not_found,
    look_not_yet,
    unknown_experiment,
)
from query_api.snapshots import Json, Snapshot, by_segment, current_results, with_age
from schemas.json_schema import schema_of
from schemas.results import BySegment, Results
from schemas.times import format_time_ms, parse_duration_ms, parse_time_ms

router = APIRouter(prefix="/v1")

HISTORY_WAIT_S = 5.0
"""How long an answer waits for the history to reach what was published already."""

RETRY_S = 0.1


def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts that this application is made of."""
    found: Parts = connection.app.state.parts
    return found


PartsOf = Annotated[Parts, Depends(parts_of)]


def snapshot_of(experiment_id: str, parts: PartsOf) -> Snapshot:
    """Return what is known of an experiment.

    Raises:
        ProblemError: If there is no such experiment, or it may not have been read yet.
    """
    snapshot = parts.snapshots.get(experiment_id)
    if snapshot is not None:
        return snapshot
    if not parts.snapshots.caught_up:
        raise ProblemError(503, "not_ready", "the experiments have not all been read yet")
    raise unknown_experiment(experiment_id)


SnapshotOf = Annotated[Snapshot, Depends(snapshot_of)]


@router.get("/experiments")
async def list_experiments(parts: PartsOf) -> Response:
    """Return the definitions of all experiments, in the order of creation."""
    definitions = [snapshot.definition for snapshot in parts.snapshots.in_order()]
    return _json({"experiments": definitions})


@router.get("/experiments/{experiment_id}")  # noqa: FAST003  # snapshot_of takes it
async def get_experiment(snapshot: SnapshotOf) -> Response:
    """Return the definition of an experiment."""
    return _json(snapshot.definition)


_RESULTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The look; with ?segment= the results of each of its values.",
        "content": {
            "application/json": {"schema": {"oneOf": [schema_of(Results), schema_of(BySegment)]}}
        },
    }
}


@router.get("/experiments/{experiment_id}/results", responses=_RESULTS)  # noqa: FAST003  # the same
async def get_results(
    snapshot: SnapshotOf,
    parts: PartsOf,
    tick: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    at: Annotated[str | None, Query(description="RFC 3339 with offset, or epoch ms")] = None,
    segment: Annotated[str | None, Query()] = None,
) -> Response:
    """Return the latest look, or the one published at a tick or a time."""
    if segment is not None:
        _refuse_undeclared(snapshot, segment)
    if tick is not None and at is not None:
        raise invalid_parameter("at", "must not be given together with tick")
    at_ms = _time_ms("at", at)
    _refuse_the_future(parts, snapshot, tick, at_ms)
    if (tick is None and at_ms is None) or _is_current(snapshot, tick, at_ms):
        ledger_now = parts.snapshots.ledger
        results = current_results(snapshot, now_ms=parts.clock_ms(), ledger=ledger_now)
        segments = snapshot.segments
    else:
        stored = await _stored_look(parts, snapshot, tick, at_ms)
        if stored.text is None:
            raise look_not_found(snapshot.definition["id"])
        record = msgspec.json.decode(stored.text, type=Json)
        results, segments = with_age(record, now_ms=parts.clock_ms()), record.get("segments", {})
    return _json(results if segment is None else by_segment(results, segments, segment))


@router.get("/experiments/{experiment_id}/looks")
async def list_looks(
    experiment_id: str,
    _snapshot: SnapshotOf,
    parts: PartsOf,
    from_tick: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Return which looks there were from a tick on, oldest first."""
    try:
        found = await parts.history.looks_from(experiment_id, from_tick, limit)
    except HistoryUnavailableError as error:
        raise _history_problem(error) from error
    looks = [{**one, "as_of": format_time_ms(one.pop("as_of_ms"))} for one in found]
    return _json({"looks": looks})


@router.get("/history/rows")
async def list_rows(
    parts: PartsOf,
    unit_id: Annotated[str, Query()],
    event_id: Annotated[str, Query()],
    unit_type: Annotated[str, Query()] = "user",
) -> Response:
    """Return the rows of one event as the history holds them: counted or not, and late ones."""
    try:
        found = await parts.history.rows_of_event(unit_type, unit_id, event_id)
    except HistoryUnavailableError as error:
        raise _history_problem(error) from error
    for row in (row for rows in found.values() for row in rows):
        for name in ("received_at", "timestamp"):
            row[name] = format_time_ms(row.pop(f"{name}_ms"))
    return _json(found)


@router.get("/experiments/{experiment_id}/timeseries")
async def get_timeseries(
    experiment_id: str,
    snapshot: SnapshotOf,
    parts: PartsOf,
    metric: Annotated[str | None, Query()] = None,
    variant: Annotated[str | None, Query()] = None,
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: Annotated[str | None, Query()] = None,
    step: Annotated[str | None, Query(description="a duration, as 30s")] = None,
    basis: Annotated[Literal["matured", "open"] | None, Query()] = None,
) -> Response:
    """Return flat rows of the looks, one per metric, basis and variant; the last of each step.

    ``method`` is the definition's. A row's numbers are of the one method that its ``interval``
    names: on matured units that one, on open units the pointwise interval, without a p-value.
    """
    _refuse_unknown("metric", metric, snapshot.definition["metrics"])
    _refuse_unknown("variant", variant, snapshot.definition["variants"])
    times = (_time_ms("from", from_), _time_ms("to", to), _step_ms(step))
    span = Span(*times, metric_id=metric, variant=variant, basis=basis)
    try:
        rows, is_truncated = await parts.history.timeseries(experiment_id, span)
    except HistoryUnavailableError as error:
        raise _history_problem(error) from error
    # As for looks: definitions of versions that had one method only do not name it.
    method = snapshot.definition.get("analysis", {}).get("method", "always_valid")
    return _json({"method": method, "rows": rows, "truncated": is_truncated})


@router.get("/ledger")
async def get_ledger(
    parts: PartsOf,
    *,
    thorough: Annotated[
        bool, Query(description="compare the whole history, not only what came since last time")
    ] = False,
) -> Response:
    """Return what was received and what became of it: doors, log, engine, looks, history.

    The history's rows are compared with the log from where the last call ended, at first from where
    this process began: what lies below is believed, and its age costs nothing.
    """
    engine = parts.snapshots.ledger

    def holds_all() -> bool:
        sink = parts.sink  # while it catches up there is no point in waiting for it
        return bool(sink.stored) and not (sink.caught_up and ledger.lagging(sink.stored, engine))

    await wait_until(holds_all, HISTORY_WAIT_S)
    stored = parts.sink.stored
    try:
        received, checked, imported = await asyncio.gather(
            parts.history.rows_below(ledger.engine_offsets(engine)),
            parts.history.check(stored, begun=parts.sink.begun, is_thorough=thorough),
            parts.history.import_accounts(
                engine["tick"] if engine else 0, ledger.engine_offsets(engine)
            ),
        )
    except HistoryUnavailableError as error:
        raise _history_problem(error) from error
    cut = ledger.Cut(stored, parts.sink.log_ends, received, checked, imported, parts.clock_ms())
    return _json(ledger.compose(engine, cut))


async def _stored_look(
    parts: Parts, snapshot: Snapshot, tick: int | None, at_ms: int | None
) -> StoredLook:
    """Return a look from the history, once nothing before the present one can be missing."""
    if snapshot.results is None:
        return StoredLook(None, has_later=False)
    experiment_id = snapshot.definition["id"]
    try:
        found = await parts.history.look_at(experiment_id, tick=tick, at_ms=at_ms)
        for _ in range(int(HISTORY_WAIT_S / RETRY_S)):
            if found.has_later:
                break
            await asyncio.sleep(RETRY_S)
            found = await parts.history.look_at(experiment_id, tick=tick, at_ms=at_ms)
    except HistoryUnavailableError as error:
        raise _history_problem(error) from error
    if not found.has_later:
        # A later one was published; without it in the history one before it may be missing too.
        raise ProblemError(503, "history_behind", "the history has not read that far yet")
    return found


def _refuse_the_future(
    parts: Parts, snapshot: Snapshot, tick: int | None, at_ms: int | None
) -> None:
    """Refuse moments of which nobody can know yet what their look is."""
    engine, results = parts.snapshots.ledger, snapshot.results
    newest = max(engine["tick"] if engine else 0, results["look"]["tick"] if results else 0)
    if tick is not None and tick > newest:
        raise look_not_yet(f"tick {tick} has not come; the newest is {newest}")
    if at_ms is not None and at_ms > parts.clock_ms():
        raise look_not_yet(f"{format_time_ms(at_ms)} lies ahead of this machine's clock")


def _is_current(snapshot: Snapshot, tick: int | None, at_ms: int | None) -> bool:
    if snapshot.results is None:
        return False
    look = snapshot.results["look"]
    if tick is not None:
        return bool(tick >= look["tick"])
    return at_ms is not None and at_ms >= parse_time_ms(look["as_of"])


def _refuse_unknown(name: str, given: str | None, things: list[Json]) -> None:
    known = [thing["id"] for thing in things]
    if given is not None and given not in known:
        raise invalid_parameter(name, f"{given!r}, must be one of {', '.join(known)}")


def _refuse_undeclared(snapshot: Snapshot, attribute: str) -> None:
    declared = snapshot.definition["segments"]
    if attribute in declared:
        return
    known = f"declared are {', '.join(declared)}" if declared else "it declares none"
    detail = (
        f"{attribute[:128]!r} is no attribute of the segments of {snapshot.definition['id']!r}: "
        f"{known}. Declare attributes and their values before the experiment starts"
    )
    errors = [{"field": "segment", "message": detail, "code": "unknown_segment"}]
    raise ProblemError(404, "unknown_segment", detail, errors)


def _history_problem(error: HistoryUnavailableError) -> ProblemError:
    if isinstance(error, HistoryTooSlowError):
        advice = "Ask later, or for less: a shorter span of time, one metric, a longer step"
        return ProblemError(503, "history_timeout", f"the history: {error}. {advice}")
    return ProblemError(503, "history_unavailable", f"the history does not answer: {error}")


def _parsed(name: str, text: str | None, parse: Callable[[str], int]) -> int | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise invalid_parameter(name, str(error)) from error


def _time_ms(name: str, text: str | None) -> int | None:
    if text is not None and text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    return _parsed(name, text, parse_time_ms)


def _step_ms(text: str | None) -> int | None:
    return _parsed("step", text, parse_duration_ms)


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
