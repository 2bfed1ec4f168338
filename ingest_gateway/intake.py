"""The way of a request's events: judged, made durable, answered. The same for every route.

An event is refused for what the control log says only after that log was read to its end as of
now: an experiment that another gateway has just started is known here before anything is refused.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ingest_gateway.control_view import ControlView
from ingest_gateway.dead_letter_ceiling import DeadLetterCeiling, bytes_of
from ingest_gateway.dead_letters import dead_letter, http_source
from ingest_gateway.errors import (
    ClockSkewedError,
    DeadLettersFullError,
    NotSentError,
    QueueFullError,
    Rejection,
    SettledBehindError,
    SinkUnavailableError,
)
from ingest_gateway.group_commit import Contribution, GroupCommit
from ingest_gateway.settled_watch import Settled
from ingest_gateway.sink import Message
from ingest_gateway.telemetry import Door, report_dead_letters, report_events
from ingest_gateway.validator import Admission, BodyForm, RejectedItem, admit


class Intaken(NamedTuple):
    """What became of a request's events; all of it is durable.

    Attributes:
        accepted: How many count.
        late: How many were too late to count, and are kept.
        rejected: What was refused, and is kept as dead letters.
        log: Partition of ``litmus.events`` -> highest offset that holds a row of this request.
    """

    accepted: int
    late: int
    rejected: list[Rejection]
    log: dict[int, int]


class Intake:
    """Takes events in.

    Args:
        view: What is known of the control log.
        group_commit: Makes rows durable.
        clock_ms: Wall clock.
        answer_timeout_ms: A request that is not durable by then is refused. Its events may land
            later all the same; who sends them again, with the same ids, loses and doubles nothing.
        ceiling: Of dead letters.
        clock_s: Monotonic seconds.
    """

    def __init__(
        self,
        view: ControlView,
        group_commit: GroupCommit,
        clock_ms: Callable[[], int],
        *,
        answer_timeout_ms: int,
        ceiling: DeadLetterCeiling,
        clock_s: Callable[[], float],
    ) -> None:
        self._view = view
        self._group_commit = group_commit
        self._clock_ms = clock_ms
        self._answer_timeout_ms = answer_timeout_ms
        self._ceiling = ceiling
        self._clock_s = clock_s

    async def take(
        self, body: bytes, *, form: BodyForm, idempotency_key: str | None = None
    ) -> Intaken:
        """Return what became of the events in ``body``, once that is durable.

        Raises:
            MalformedBodyError: If the body cannot be split into events.
            BodyTooLargeError: If there are too many.
            UnavailableError: If what became of them is not durable; the client sends it again.
        """
        try:
            async with asyncio.timeout(self._answer_timeout_ms / 1_000):
                return await self._take(body, form, idempotency_key)
        except TimeoutError as error:
            message = f"the log did not acknowledge within {self._answer_timeout_ms} ms"
            raise SinkUnavailableError(message) from error

    async def _take(self, body: bytes, form: BodyForm, idempotency_key: str | None) -> Intaken:
        problem = self._view.clock.problem(self._clock_ms(), self._clock_s())
        if problem is not None:
            raise ClockSkewedError(problem)
        if self._view.settled.state is Settled.STOPPED:
            raise SettledBehindError(self._view.settled.advice)
        admission = await self._admit(body, form, idempotency_key)
        rejections = [item.rejection for item in admission.rejected]
        log: dict[int, int] = {}
        if admission.accepted or admission.late or rejections:
            set_aside = self._dead_letters(admission.rejected)
            contribution = Contribution(admission.accepted, admission.late, set_aside, len(body))
            log = await self._commit(contribution)
        accepted, late = len(admission.accepted), len(admission.late)
        report_events(Door.HTTP, accepted=accepted, late=late, rejections=rejections)
        return Intaken(accepted, late, rejections, log)

    async def _commit(self, contribution: Contribution) -> dict[int, int]:
        """Make it durable; its dead letters count from now on, unless they were never sent.

        A request that is answered too late has left, and its dead letters land all the same.
        """
        size, now_s = bytes_of(contribution.set_aside), self._clock_s()
        self._ceiling.add(size, now_s)
        try:
            return await self._group_commit.commit(contribution)
        except (NotSentError, QueueFullError):
            self._ceiling.take_back(size, now_s)
            size = 0
            raise
        finally:
            report_dead_letters(Door.HTTP, size)

    def _dead_letters(self, rejected: Sequence[RejectedItem]) -> list[Message]:
        if not rejected:
            return []
        letters = [
            dead_letter(one.rejection, one.raw, http_source(one.rejection)) for one in rejected
        ]
        messages = [
            Message(one.topic, one.value, key=one.key, headers=one.headers) for one in letters
        ]
        if not self._ceiling.has_room(bytes_of(messages), self._clock_s()):
            message = (
                f"more than {self._ceiling.bytes_per_hour_max} bytes were refused within an hour: "
                "nothing of this request was taken; send it again without what it says is rejected"
            )
            raise DeadLettersFullError(message, [one.rejection for one in rejected])
        return messages

    async def _admit(self, body: bytes, form: BodyForm, idempotency_key: str | None) -> Admission:
        received_at_ms = self._clock_ms()
        admission = admit(
            body,
            form=form,
            received_at_ms=received_at_ms,
            control=self._view.usable,
            idempotency_key=idempotency_key,
        )
        if not admission.depends_on_control:
            return admission
        return admit(
            body,
            form=form,
            received_at_ms=received_at_ms,
            control=await self._view.fresh(),
            idempotency_key=idempotency_key,
        )
