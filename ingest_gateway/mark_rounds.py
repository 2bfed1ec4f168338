"""Writes low-water marks to ``litmus.marks``, in rounds; ``marks`` says why they hold.

A round: write a mark of every source; when the broker has acknowledged all of them, with its
stamps, ask for the ends of the sources; the answer is what the next round's marks are made from.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future

import msgspec
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import ListOffsetsResultInfo

from ingest_gateway.log_ends import LogEnds
from ingest_gateway.marks import SourceProgress
from ingest_gateway.sink import Message
from ingest_gateway.telemetry import report_mark
from schemas.control import Mark
from schemas.topics import MARKS

Source = tuple[str, int]
"""Topic and partition."""

Send = Callable[[Message, Callable[[int], None]], None]
"""Sends a message; the callable gets the broker's stamp with the acknowledgement."""

ASK_TIMEOUT_S = 5.0


class MarkRounds:
    """The rounds of one door. Used on one thread; nothing here blocks.

    Args:
        send: Sends a mark.
        ends: Is asked where the sources end.
        interval_s: From the begin of one round to that of the next.
        clock_skew_ms: How far brokers' clocks may differ.

    Attributes:
        answered_at_s: Monotonic time of the last step with answers for all sources; without them
            marks stand still, and every window stays open.
    """

    def __init__(self, send: Send, ends: LogEnds, *, interval_s: float, clock_skew_ms: int) -> None:
        self._send = send
        self._log_ends = ends
        self._interval_s = interval_s
        self._clock_skew_ms = clock_skew_ms
        self._next_round_s = 0.0
        self._unacknowledged = 0
        self._stamp_ms = 0
        self._marked: set[Source] = set()
        self._asked: dict[Source, Future[ListOffsetsResultInfo]] = {}
        self._asked_after_ms = 0
        self._ends: dict[Source, tuple[int, int]] = {}
        self.answered_at_s = 0.0

    def step(self, now_s: float, sources: Mapping[Source, SourceProgress]) -> None:
        """Do what is due.

        Args:
            now_s: Monotonic seconds.
            sources: Progress in every source partition that this door holds.
        """
        if self._asked and all(future.done() for future in self._asked.values()):
            self._take_answers(now_s)
        if now_s < self._next_round_s or self._unacknowledged or self._asked:
            return
        self._next_round_s = now_s + self._interval_s
        self._unacknowledged = len(sources)
        for source, progress in sources.items():
            self._write(source, progress)

    def _write(self, source: Source, progress: SourceProgress) -> None:
        known = self._ends.pop(source, None)
        low_water_ms = progress.low_water_ms
        if known is not None:
            asked_after_ms, end_offset = known
            low_water_ms = progress.mark(asked_after_ms=asked_after_ms, end_offset=end_offset)
        name = source_name(source)
        report_mark(name, low_water_ms)
        value = msgspec.json.encode(Mark(name, low_water_ms))
        self._send(Message(MARKS.name, value, 0, name.encode()), self._take_stamp)
        self._marked.add(source)

    def _take_stamp(self, stamp_ms: int) -> None:
        self._stamp_ms = max(self._stamp_ms, stamp_ms)
        self._unacknowledged -= 1
        if not self._unacknowledged:
            self._ask()

    def _ask(self) -> None:
        self._asked_after_ms = self._stamp_ms - self._clock_skew_ms
        found = self._log_ends.ask(TopicPartition(*source) for source in self._marked)
        self._marked.clear()
        self._asked = {(one.topic, one.partition): future for one, future in found.items()}

    def _take_answers(self, now_s: float) -> None:
        asked, self._asked = self._asked, {}
        failure: KafkaException | None = None
        for source, future in asked.items():
            try:
                self._ends[source] = (self._asked_after_ms, future.result().offset)
            except KafkaException as error:
                self._ends.pop(source, None)  # the last mark stays
                failure = error
        if failure is None:
            self.answered_at_s = now_s
        else:
            self._log_ends.failed(failure)


def source_name(source: Source) -> str:
    """Return how marks name a source partition."""
    topic, partition = source
    return f"{topic}/{partition}"
