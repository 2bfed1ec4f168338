"""Operators' commands: sent to control, answered with their outcome.

The outcome is taken from the control log itself, not from ``litmus.outcomes`` (its copy for other
readers): a record is either the valid one of its number or ignored, so an answer can never come
from a writer that had lost, and it is given only when its changes are usable here.
"""

import asyncio
from typing import Protocol

import msgspec

from ingest_gateway.control_view import ControlView
from ingest_gateway.errors import SinkUnavailableError, UnavailableError
from ingest_gateway.sink import EventSink, Message
from schemas.control import Command, Outcome
from schemas.topics import COMMANDS


class CommandTimeoutError(UnavailableError):
    """Control has not answered; the command stands in the log and may still take effect."""

    code = "command_timeout"
    title = "The command is not answered yet"


class CommandSender(Protocol):
    """Has commands carried out."""

    async def send(self, command: Command) -> Outcome:
        """Return what became of ``command``, once its changes are in use here.

        Raises:
            UnavailableError: If that is not known.
        """
        ...


class Commands:
    """Sends commands through Kafka.

    Args:
        sink: Where they are written.
        view: Where their outcomes are read.
        timeout_ms: How long to wait for one.
        answer_timeout_ms: How long the log may take to acknowledge a command.
    """

    def __init__(
        self, sink: EventSink, view: ControlView, *, timeout_ms: int, answer_timeout_ms: int
    ) -> None:
        self._sink = sink
        self._view = view
        self._timeout_ms = timeout_ms
        self._answer_timeout_ms = answer_timeout_ms

    async def send(self, command: Command) -> Outcome:
        """Return what became of ``command``, once its changes are in use here."""
        outcome = asyncio.wrap_future(self._view.outcome_of(command.id))
        try:
            await self._publish(command)
            async with asyncio.timeout(self._timeout_ms / 1_000):
                return await outcome
        except TimeoutError as error:
            message = (
                f"control did not answer within {self._timeout_ms} ms; "
                "the command may still take effect: look at the experiment before a retry"
            )
            raise CommandTimeoutError(message) from error
        finally:
            outcome.cancel()

    async def _publish(self, command: Command) -> None:
        value = msgspec.json.encode(command)
        try:
            async with asyncio.timeout(self._answer_timeout_ms / 1_000):
                await self._sink.publish([Message(COMMANDS.name, value, 0, command.id.encode())])
        except TimeoutError as error:
            message = (
                f"the log did not acknowledge the command within {self._answer_timeout_ms} ms; "
                "it may still take effect: look at the experiment before a retry"
            )
            raise SinkUnavailableError(message) from error
