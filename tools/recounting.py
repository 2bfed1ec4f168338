"""``litmus recount``: lets the engine forget what it remembers, so that it counts the log anew.

What is deleted can be made again from ``litmus.control`` and ``litmus.events``, which stay, as do
looks and history; it is refused where these no longer begin with their first record. It is for a
merge that was away for longer than ``litmus.partials`` keeps reports, and cannot go on.

The version of Litmus that made the looks makes the same ones again. Statistics of another version
may give others, which the ledger shows as conflicts. A fresh look comes only once the engine has
caught up.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from schemas.topics import CHANGELOGS, CONTROL, EVENTS, PARTIALS
from tools.broker import EmbeddedBroker, client_settings
from tools.errors import LitmusError
from tools.home import Home
from tools.settings import Settings
from tools.topics import TIMEOUT_SECONDS, create_topics, partition_counts, require_topics

FORGOTTEN = (*(one.name for one in CHANGELOGS), PARTIALS.name)
"""In the order of deletion. Without the first, accumulate reports again what merge has; without the
second, merge begins at the first report, or stops and says that it is gone."""

LOG = (CONTROL.name, EVENTS.name)
"""All that it is counted from."""


def recount(settings: Settings) -> list[str]:
    """Empty the topics of what the engine remembers; return their names.

    Raises:
        AlreadyRunningError: If a stack runs from this home: its workers would write again.
        TopicMismatchError: If a topic is not as the settings say; then nothing is deleted.
        LitmusError: If the log is not whole, then nothing is deleted; or if the broker refuses, or
            does not answer.
    """
    home = Home(settings.home)
    with home.locked():
        home.require_format()
        home.stop_orphans()
        with _broker(settings, home) as bootstrap:
            counts = require_topics(bootstrap, settings.partitions)
            require_whole(_first_offsets(bootstrap, counts))
            with saying_to_go_on():
                for name in FORGOTTEN:
                    if name in counts:
                        _delete(bootstrap, name)
                create_topics(bootstrap, settings.partitions)
    return list(FORGOTTEN)


def require_whole(firsts: Mapping[tuple[str, int], int]) -> None:
    """Return if the log can be counted from its beginning.

    Args:
        firsts: First offset that is left, by topic and partition, of the topics of ``LOG``.

    Raises:
        LitmusError: If a topic is not there, or does not begin with its first record.
    """
    missing = [name for name in LOG if name not in {topic for topic, _ in firsts}]
    if missing:
        raise LitmusError(
            f"{missing[0]} is not there: nothing could be counted anew, so nothing is deleted. "
            "Restore the home from a copy, or look at LITMUS_HOME and LITMUS_KAFKA; "
            "a new home is started with `litmus up`"
        )
    for (topic, partition), first in sorted(firsts.items()):
        if first:
            raise LitmusError(
                f"{topic}/{partition} begins at offset {first}, must begin at 0: it was trimmed, "
                "and what the engine remembers cannot be made again, so nothing is deleted. "
                "Restore the home from a copy (see Retention in docs/reliability.md)"
            )


@contextmanager
def saying_to_go_on() -> Iterator[None]:
    """Add to an error amid deleting what to do: from any part of it another run goes on.

    Raises:
        LitmusError: The error, with that.
    """
    try:
        yield
    except LitmusError as error:
        raise LitmusError(
            f"{error}. It is done in part: run `litmus recount` again before `litmus up`"
        ) from error


@contextmanager
def _broker(settings: Settings, home: Home) -> Iterator[str]:
    """Lend the broker of the settings, or start the home's own."""
    if settings.kafka is not None:
        yield settings.kafka
    else:
        with EmbeddedBroker(home.kafka) as broker:
            yield broker.bootstrap


def _first_offsets(bootstrap: str, counts: Mapping[str, int]) -> dict[tuple[str, int], int]:
    """Return where each partition of the log begins."""
    asked = {
        TopicPartition(name, partition): OffsetSpec.earliest()
        for name in LOG
        for partition in range(counts.get(name, 0))
    }
    if not asked:
        return {}
    admin = AdminClient(client_settings(bootstrap))  # it lives until it has answered
    answers = admin.list_offsets(asked, request_timeout=TIMEOUT_SECONDS)
    firsts = {}
    for one, future in answers.items():
        try:
            firsts[one.topic, one.partition] = future.result().offset
        except KafkaException as error:
            raise LitmusError(
                f"The broker does not say where {one.topic}/{one.partition} begins: "
                f"{error.args[0].str()}. Nothing is deleted; run it again"
            ) from error
    return firsts


def _delete(bootstrap: str, name: str) -> None:
    admin = AdminClient(client_settings(bootstrap))  # it lives until it has answered
    future = admin.delete_topics([name], request_timeout=TIMEOUT_SECONDS)[name]
    try:
        future.result()
    except KafkaException as error:
        raise LitmusError(f"The broker does not delete {name}: {error.args[0].str()}") from error
    wait = Retrying(
        retry=retry_if_exception_type(_StillThereError),
        stop=stop_after_delay(TIMEOUT_SECONDS),
        wait=wait_fixed(0.1),
        reraise=True,
    )
    wait(_require_gone, bootstrap, name)


def _require_gone(bootstrap: str, name: str) -> None:
    if name in partition_counts(bootstrap):
        raise _StillThereError(f"The broker has not deleted {name}")


class _StillThereError(LitmusError):
    """A broker answers before the topic is gone from all of it."""
