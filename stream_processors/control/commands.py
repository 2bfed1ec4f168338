"""Commands folded into changes of the control state, each with its outcome. Pure.

A resend (a command id that was answered) gets the outcome that it had, for as long as the caller
remembers it: the writer keeps those of the last ``SNAPSHOT_EVERY`` records, 200 seconds. Later it
is judged anew, which repeats nothing: ``create`` meets the known id, a transition the lifecycle,
a ``patch`` the newer version.
"""

import itertools
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from schemas.control import (
    CatalogueChange,
    Change,
    Command,
    ControlState,
    DefinitionChange,
    ImportChange,
    Outcome,
    SettingsChange,
    decode_command,
)
from schemas.definitions import Definition, FieldError
from schemas.identifiers import is_external_id
from stream_processors.control import catalogue, imports, lifecycle
from stream_processors.control.lifecycle import Defined
from stream_processors.control.logged_settings import changed_settings
from stream_processors.control.refusals import RefusedError

COMMANDS_PER_RECORD_MAX = 100
COMMAND_BYTES_MAX = 100_000
BYTES_PER_RECORD_MAX = 600_000
"""Of changes and outcomes in a record; a definition stands in both, and a tick has the changes."""

EXPERIMENTS_MAX = 1_000
"""Not archived: partials, looks and the plans of the engine hold every one of them."""

ERRORS_PER_OUTCOME_MAX = 100
MESSAGE_LENGTH_MAX = 500

_MAKING = ("create", "catalogue", "import")
"""Actions that make something: 201, unless it was there."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


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
        made, outcome = _fold_one(state, received, tick=tick, remembered=remembered)
        weight += len(msgspec.json.encode([made, outcome]))
        if next_offset > from_offset and weight > BYTES_PER_RECORD_MAX:
            break
        next_offset = received.offset + 1
        if made:
            changes += made
            state = state.after(made)
        if outcome is not None:
            outcomes.append(outcome)
            remembered[outcome.command_id] = outcome
    return Folded(changes, outcomes, next_offset)


def _fold_one(
    state: ControlState, received: Received, *, tick: int, remembered: Mapping[str, Outcome]
) -> tuple[list[Change], Outcome | None]:
    command_id = _id_of(received.value)
    if command_id is None:
        return [], None
    if command_id in remembered:
        return [], msgspec.structs.replace(remembered[command_id], tick=tick)
    try:
        command = _command_of(received.value)
        changes = _judged(state, command, received)
    except RefusedError as refusal:
        return [], _refusal(command_id, tick, refusal)
    status = 201 if changes and command.action in _MAKING else 200
    outcome = Outcome(command_id, tick, status)
    return changes, _telling(outcome, command, changes, state)


def _telling(
    outcome: Outcome, command: Command, changes: list[Change], before: ControlState
) -> Outcome:
    """Return ``outcome`` with what the command was about as it is afterwards."""
    told: dict[str, Any]
    match command.action:
        case "settings":
            told = {"settings": before.after(changes).settings}
        case "catalogue":
            told = {"entry": before.after(changes).catalogue[command.experiment_id]}
        case "import" | "import_batch" | "import_done":
            told = {"declared": before.after(changes).imports[command.experiment_id]}
        case _:
            # The last: entries that a definition makes stand before it.
            told = {"definition": changes[-1].definition}  # type: ignore[union-attr]
    return msgspec.structs.replace(outcome, **told)


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
        entry=refusal.entry,
        declared=refusal.declared,
    )


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_LENGTH_MAX else text[: MESSAGE_LENGTH_MAX - 1] + "…"


def _judged(state: ControlState, command: Command, received: Received) -> list[Change]:
    """Return what a command changes; nothing if all is so already."""
    subject, body, now_ms = command.experiment_id, command.body, received.appended_ms
    match command.action:
        case "settings":
            settings = changed_settings(state.settings, body, now_ms)
            return [SettingsChange(settings)] if settings else []
        case "catalogue":
            entry = catalogue.put(subject, body, state.catalogue, now_ms)
            return [CatalogueChange(entry)] if entry else []
        case "import":
            declared = imports.declare(subject, body, state.imports, state.catalogue)
        case "import_batch":
            declared = imports.reserve(subject, body, state.imports)
        case "import_done":
            declared = imports.finish(subject, body, state.imports)
        case "create":
            return _changes_of(_created(state, command, received))
        case "patch":
            return _changes_of(_patched(state, command, received))
        case _:
            return [DefinitionChange(_moved(state, command, received))]
    return [ImportChange(declared)] if declared else []


def _changes_of(defined: Defined) -> list[Change]:
    """Return the changes, entries first: whoever takes a definition in knows its names."""
    return [*map(CatalogueChange, defined.entries), DefinitionChange(defined.definition)]


def _created(state: ControlState, command: Command, received: Received) -> Defined:
    defined = lifecycle.created(
        command.body,
        ordinal=len(state.definitions),
        version=received.offset,
        now_ms=received.appended_ms,
        entries=state.catalogue,
    )
    definition = defined.definition
    if command.experiment_id not in ("", definition.id):
        message = f"{definition.id!r}, the command is about {command.experiment_id!r}"
        raise RefusedError(422, "invalid", f"id: {message}", [FieldError("id", message)])
    if definition.id in state.definitions:
        raise RefusedError(409, "exists", f"there is an experiment {definition.id!r} already")
    _check_room(state)
    return defined


def _check_room(state: ControlState) -> None:
    """Refuse one experiment too many; archived ones take none of the room."""
    by_status = Counter(one.status for one in state.definitions.values())
    count = by_status.total() - by_status["archived"]
    if count < EXPERIMENTS_MAX:
        return
    detail = (
        f"there are {count} experiments that are not archived, must be {EXPERIMENTS_MAX} at most: "
        f"{by_status['stopped']} are stopped and can be archived, which keeps their results "
        "(POST /v1/experiments/<id>/archive)"
    )
    if by_status["draft"]:
        detail += f"; {by_status['draft']} are drafts: change one of these instead"
    raise RefusedError(409, "too_many_experiments", detail)


def _patched(state: ControlState, command: Command, received: Received) -> Defined:
    return lifecycle.patched(
        _current(state, command),
        command.body,
        version=received.offset,
        now_ms=received.appended_ms,
        entries=state.catalogue,
    )


def _current(state: ControlState, command: Command) -> Definition:
    current = state.definitions.get(command.experiment_id)
    if current is None:
        detail = f"there is no experiment {command.experiment_id!r}"
        raise RefusedError(404, "unknown_experiment", detail)
    if command.expected_version not in (None, current.version):
        detail = f"version == {command.expected_version} is stale, it is now {current.version}"
        raise RefusedError(412, "stale_version", detail)
    return current


def _moved(state: ControlState, command: Command, received: Received) -> Definition:
    version, now_ms = received.offset, received.appended_ms
    if command.action not in ("start", "pause", "resume", "stop", "archive"):
        raise RefusedError(422, "unknown_action", f"action == {command.action!r} is unknown")
    current = _current(state, command)
    match command.action:
        case "start":
            return lifecycle.started(
                current,
                command.body,
                version=version,
                now_ms=now_ms,
                settings=state.settings,
            )
        case "pause":
            return lifecycle.paused(current, version=version, now_ms=now_ms)
        case "resume":
            return lifecycle.resumed(current, version=version, now_ms=now_ms)
        case "stop":
            return lifecycle.stopped(current, version=version, now_ms=now_ms)
        case _:
            return lifecycle.archived(current, version=version)
