"""Import batches into the log: reserved in the control log, written to every partition, done.

1. A command reserves the number for one content. It is answered when record n + 1 was read, so
   every partition of litmus.events holds the tick that says so before any row stands there.
2. Every partition gets its part, and acknowledges it.
3. A command says that the number is done; only then the client is answered, and the next is free.

Whatever dies in between, the client sends the same batch again, here or to another gateway: it is
reserved for this content already, parts that are written twice are known to the engine by their
number, and other content is refused.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ingest_gateway.commands import CommandSender
from ingest_gateway.errors import SinkUnavailableError
from ingest_gateway.import_rows import Row, parts_of, sha256_of
from ingest_gateway.sink import EventSink, Message
from ingest_gateway.telemetry import report_import_batch
from schemas.control import Command, Import, Outcome
from schemas.topics import EVENTS, KIND_HEADER, KIND_IMPORT

IMPORT_HEADERS = ((KIND_HEADER, KIND_IMPORT),)


class Taken(NamedTuple):
    """A batch that is in every partition.

    Attributes:
        declared: The import afterwards.
        already: Whether it was done before; then nothing was written.
    """

    declared: Import
    already: bool


class ImportDoor:
    """Takes import batches in.

    Args:
        sink: Where parts go.
        commands: Has commands carried out.
        partition_count: Partitions of ``litmus.events``.
        new_id: Makes ids of commands.
        answer_timeout_ms: How long the log may take to acknowledge the parts.
    """

    def __init__(
        self,
        sink: EventSink,
        commands: CommandSender,
        *,
        partition_count: int,
        new_id: Callable[[], str],
        answer_timeout_ms: int,
    ) -> None:
        self._sink = sink
        self._commands = commands
        self._partition_count = partition_count
        self._new_id = new_id
        self._answer_timeout_ms = answer_timeout_ms

    async def take(self, import_id: str, number: int, rows: Sequence[Row]) -> Taken | Outcome:
        """Return once a batch is in every partition; a refusal by control as it is.

        Raises:
            UnavailableError: If it is not known to be there; the client sends it again.
        """
        sha256 = sha256_of(rows)
        batch = {"number": number, "sha256": sha256, "row_count": len(rows)}
        reserved = await self._command("import_batch", import_id, batch)
        if reserved.status >= 400 or reserved.declared is None:
            report_import_batch("refused", 0)
            return reserved
        if reserved.declared.done >= number:
            report_import_batch("already", 0)
            return Taken(reserved.declared, already=True)
        await self._write(
            parts_of(
                rows,
                import_id=import_id,
                number=number,
                sha256=sha256,
                partition_count=self._partition_count,
            )
        )
        done = await self._command("import_done", import_id, {"number": number})
        if done.status >= 400 or done.declared is None:
            report_import_batch("refused", 0)
            return done
        report_import_batch("done", len(rows))
        return Taken(done.declared, already=False)

    async def _write(self, parts: Sequence[bytes]) -> None:
        messages = [
            Message(EVENTS.name, value, partition, headers=IMPORT_HEADERS)
            for partition, value in enumerate(parts)
        ]
        try:
            async with asyncio.timeout(self._answer_timeout_ms / 1_000):
                await self._sink.publish(messages)
        except TimeoutError as error:
            message = (
                f"the log did not acknowledge the batch within {self._answer_timeout_ms} ms: send "
                "the same batch again"
            )
            raise SinkUnavailableError(message) from error

    async def _command(self, action: str, import_id: str, body: dict[str, Any]) -> Outcome:
        return await self._commands.send(Command(self._new_id(), action, import_id, body=body))
