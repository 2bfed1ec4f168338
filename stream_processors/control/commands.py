"""Commands folded into changes of the control state, each with its outcome. Pure.

A resend (a command id that was answered) gets the outcome that it had, for as long as the caller
remembers it: the writer keeps those of the last ``SNAPSHOT_EVERY`` records, 200 seconds. Later it
is judged anew, which repeats nothing: ``create`` meets the known id, a transition the lifecycle,
a ``patch`` the newer version.
"""

import itertools
import re
from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from schemas.control import (
    Change,
    Command,
    ControlState,
    DefinitionChange,
    Outcome,
    Settings,
    SettingsChange,
    decode_command,
)
from schemas.definitions import Definition, FieldError
from schemas.identifiers import is_external_id
from stream_processors.control import lifecycle
from stream_processors.control.lifecycle import RefusedError

COMMANDS_PER_RECORD_MAX = 100
COMMAND_BYTES_MAX = 100_000
BYTES_PER_RECORD_MAX = 600_000
"""Of changes and outcomes in a record; a definition stands in both, and a tick has the changes."""

ERRORS_PER_OUTCOME_MAX = 100
MESSAGE_LENGTH_MAX = 500

LATENESS_MS_MIN = 1_000
LATENESS_MS_MAX = 30 * 86_400_000
STRIDE_MAX = 100_000
SOURCES_MAX = 256

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,249}/\d{1,6}", re.ASCII)


class Received(NamedTuple):
    """A record of ``litmus.commands``."""

    offset: int
    appended_ms: int
    value: bytes


class Folded(NamedTuple):
    """What a run of commands amounts to.

    Attributes:
        changes: They take effect with the tick, in this order.
        outcomes: One for each command whose id can be told, in the order of the commands.
        next_offset: First command that is not folded in.
    """

    changes: list[Change]
    outcomes: list[Outcome]
    next_offset: int


class _Named(msgspec.Struct):
    id: str


def fold(
    state: ControlState,
    commands: Iterable[Received],
    *,
    tick: int,
    from_offset: int,
    answered: Mapping[str, Outcome],
) -> Folded:
    """Return what the next commands do to ``state``, as many of them as one record holds.

    Args:
        state: What the control log amounts to before ``tick``.
        commands: In the order of the log, the first at ``from_offset``.
        tick: Number of the record that takes them in.
        from_offset: First command that no record has folded in.
        answered: Outcomes that are remembered, by command id.
    """
    changes: list[Change] = []
    outcomes: list[Outcome] = []
    remembered = ChainMap({}, dict(answered))
    next_offset, weight = from_offset, 0
    for received in itertools.islice(commands, COMMANDS_PER_RECORD_MAX):
        change, outcome = _fold_one(state, received, tick=tick, remembered=remembered)
        weight += len(msgspec.json.encode([change, outcome]))
        if next_offset > from_offset and weight > BYTES_PER_RECORD_MAX:
            break
        next_offset = received.offset + 1
        if change is not None:
            changes.append(change)
            state = state.after([change])
        if outcome is not None:
            outcomes.append(outcome)
            remembered[outcome.command_id] = outcome
    return Folded(changes, outcomes, next_offset)


def _fold_one(
    state: ControlState, received: Received, *, tick: int, remembered: Mapping[str, Outcome]
) -> tuple[Change | None, Outcome | None]:
    command_id = _id_of(received.value)
    if command_id is None:
        return None, None
    if command_id in remembered:
        return None, msgspec.structs.replace(remembered[command_id], tick=tick)
    try:
        command = _command_of(received.value)
        change = _judged(state, command, received)
    except RefusedError as refusal:
        return None, _refusal(command_id, tick, refusal)
    definition = change.definition if isinstance(change, DefinitionChange) else None
    status = 201 if command.action == "create" else 200
    return change, Outcome(command_id, tick, status, definition=definition)


def _id_of(value: bytes) -> str | None:
    """Return the id of a command; None if nobody can be answered."""
    try:
        command_id = msgspec.json.decode(value, type=_Named).id
    except _UNREADABLE:
        return None
    return command_id if is_external_id(command_id) else None


def _command_of(value: bytes) -> Command:
    if len(value) > COMMAND_BYTES_MAX:
        detail = f"the command has {len(value)} bytes, must be {COMMAND_BYTES_MAX} at most"
        raise RefusedError(422, "too_large", detail)
    try:
        return decode_command(value)
    except _UNREADABLE as error:
        raise RefusedError(422, "malformed", f"no command: {error}") from error


def _refusal(command_id: str, tick: int, refusal: RefusedError) -> Outcome:
    return Outcome(
        command_id,
        tick,
        refusal.status,
        code=refusal.code,
        detail=_cut(refusal.detail),
        errors=[
            FieldError(_cut(error.field), _cut(error.message), error.code)
            for error in refusal.errors[:ERRORS_PER_OUTCOME_MAX]
        ],
    )


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_LENGTH_MAX else text[: MESSAGE_LENGTH_MAX - 1] + "…"


def _judged(state: ControlState, command: Command, received: Received) -> Change:
    if command.action == "settings":
        return SettingsChange(_changed_settings(state.settings, command.body))
    if command.action == "create":
        return DefinitionChange(_created(state, command, received))
    return DefinitionChange(_changed(state, command, received))


def _created(state: ControlState, command: Command, received: Received) -> Definition:
    definition = lifecycle.created(
        command.body,
        ordinal=len(state.definitions),
        version=received.offset,
        now_ms=received.appended_ms,
    )
    if command.experiment_id not in ("", definition.id):
        message = f"{definition.id!r}, the command is about {command.experiment_id!r}"
        raise RefusedError(422, "invalid", f"id: {message}", [FieldError("id", message)])
    if definition.id in state.definitions:
        raise RefusedError(409, "exists", f"there is an experiment {definition.id!r} already")
    return definition


def _changed(state: ControlState, command: Command, received: Received) -> Definition:
    version, now_ms = received.offset, received.appended_ms
    if command.action not in ("patch", "start", "pause", "resume", "stop", "archive"):
        raise RefusedError(422, "unknown_action", f"action == {command.action!r} is unknown")
    current = state.definitions.get(command.experiment_id)
    if current is None:
        detail = f"there is no experiment {command.experiment_id!r}"
        raise RefusedError(404, "unknown_experiment", detail)
    if command.expected_version not in (None, current.version):
        detail = f"version == {command.expected_version} is stale, it is now {current.version}"
        raise RefusedError(412, "stale_version", detail)
    match command.action:
        case "patch":
            return lifecycle.patched(current, command.body, version=version, now_ms=now_ms)
        case "start":
            return lifecycle.started(
                current,
                command.body,
                version=version,
                now_ms=now_ms,
                lateness_ms=state.settings.lateness_ms,
            )
        case "pause":
            return lifecycle.paused(current, version=version, now_ms=now_ms)
        case "resume":
            return lifecycle.resumed(current, version=version, now_ms=now_ms)
        case "stop":
            return lifecycle.stopped(current, version=version, now_ms=now_ms)
        case _:
            return lifecycle.archived(current, version=version)


def _changed_settings(current: Settings, body: dict[str, Any]) -> Settings:
    errors = [
        FieldError(name, "not a setting of the log")
        for name in body
        if name not in Settings.__struct_fields__
    ]
    try:
        settings = msgspec.convert(msgspec.structs.asdict(current) | body, Settings)
    except msgspec.ValidationError as error:
        raise RefusedError(422, "invalid", str(error)) from error
    errors += _setting_errors(settings)
    if errors:
        detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise RefusedError(422, "invalid", detail, errors)
    return settings


def _setting_errors(settings: Settings) -> Iterable[FieldError]:
    if not LATENESS_MS_MIN <= settings.lateness_ms <= LATENESS_MS_MAX:
        message = f"{settings.lateness_ms}, must be {LATENESS_MS_MIN} to {LATENESS_MS_MAX}"
        yield FieldError("lateness_ms", message)
    if settings.stride is not None and not 1 <= settings.stride <= STRIDE_MAX:
        yield FieldError("stride", f"{settings.stride}, must be null or 1 to {STRIDE_MAX}")
    if len(settings.sources) > SOURCES_MAX:
        yield FieldError("sources", f"{len(settings.sources)}, must be {SOURCES_MAX} at most")
    for source in settings.sources:
        if not _SOURCE.fullmatch(source):
            yield FieldError("sources", f"{source!r}, must be topic/partition")
    if len(set(settings.sources)) < len(settings.sources):
        yield FieldError("sources", "one stands there twice, they must differ")
