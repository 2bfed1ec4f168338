"""Whatever gateways and clients do, every row of an import counts once; each rule is needed."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ingest_gateway.import_rows import Row
from ingest_gateway.imports import ImportDoor, Taken, parts_of, sha256_of
from schemas.control import Command, Outcome, decode_command
from stream_processors.control import commands
from stream_processors.control.commands import fold
from tests.ingest_gateway.import_model import violations_of

SCHEDULES = 150


def test_every_row_counts_once_however_gateways_crash_and_clients_resend() -> None:
    for seed in range(SCHEDULES):
        assert not violations_of(seed), seed


class WritesBeforeItMay(ImportDoor):
    """Sabotage: does not wait for the number to be reserved."""

    async def take(self, import_id: str, number: int, rows: Sequence[Row]) -> Taken | Outcome:
        sha256 = sha256_of(rows)
        await self._write(
            parts_of(rows, import_id=import_id, number=number, sha256=sha256, partition_count=2)
        )
        batch = {"number": number, "sha256": sha256, "row_count": len(rows)}
        reserved = await self._command("import_batch", import_id, batch)
        if reserved.status >= 400:
            return reserved
        done = await self._command("import_done", import_id, {"number": number})
        return done if done.declared is None else Taken(done.declared, already=False)


class DoneBeforeItIs(ImportDoor):
    """Sabotage: says that a batch is done before its parts are acknowledged."""

    async def _write(self, parts: Sequence[bytes]) -> None:
        self.late_parts = parts

    async def take(self, import_id: str, number: int, rows: Sequence[Row]) -> Taken | Outcome:
        taken = await super().take(import_id, number, rows)
        if isinstance(taken, Taken) and not taken.already:
            await super()._write(self.late_parts)
        return taken


@pytest.mark.parametrize("sabotaged", [WritesBeforeItMay, DoneBeforeItIs])
def test_doors_keep_to_the_order(sabotaged: type[ImportDoor]) -> None:
    assert any(violations_of(seed, sabotaged) for seed in range(100))


def any_content(state: Any, received: Any, **more: Any) -> Any:
    """Sabotage: a number may be reserved for other content again."""
    changed = []
    for one in received:
        command = decode_command(one.value)
        current = state.imports.get("h")
        reserved = current.reserved if current else None
        value = one.value
        if (
            command.action == "import_batch"
            and reserved is not None
            and command.body["number"] == reserved.number
        ):
            body = command.body | {"sha256": reserved.sha256, "row_count": reserved.row_count}
            value = msgspec.json.encode(msgspec.structs.replace(command, body=body))
        changed.append(one._replace(value=value))
    return fold(state, changed, **more)


def in_any_order(state: Any, received: Any, **more: Any) -> Any:
    """Sabotage: a batch is done as soon as it is reserved."""
    folded = fold(state, received, **more)
    after = state.after(folded.changes)
    reserved = after.imports["h"].reserved if "h" in after.imports else None
    if reserved is None:
        return folded
    done = msgspec.json.encode(Command("z", "import_done", "h", body={"number": reserved.number}))
    one = commands.Received(folded.next_offset, 0, done)
    ended = fold(after, [one], tick=1, from_offset=one.offset, answered={})
    return folded._replace(changes=folded.changes + ended.changes)


@pytest.mark.parametrize("sabotaged", [any_content, in_any_order])
def test_control_keeps_a_number_for_one_content_until_it_is_done(
    sabotaged: Callable[..., Any],
) -> None:
    assert any(violations_of(seed, fold_commands=sabotaged) for seed in range(100))
