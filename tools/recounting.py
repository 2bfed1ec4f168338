"""``litmus recount``: lets the engine forget what it remembers, so that it counts the log anew.

What is deleted can be made again from ``litmus.control`` and ``litmus.events``, which stay, as do
looks and history. It is for a merge that was away for longer than ``litmus.partials`` keeps
reports, and cannot go on.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from schemas.topics import CHANGELOGS, PARTIALS
from tools.broker import EmbeddedBroker, client_settings
from tools.errors import LitmusError
from tools.home import Home
from tools.settings import Settings
from tools.topics import TIMEOUT_SECONDS, create_topics, partition_counts

FORGOTTEN = (PARTIALS.name, *(one.name for one in CHANGELOGS))


def recount(settings: Settings) -> list[str]:
    """Empty the topics of what the engine remembers; return their names.

    Raises:
        AlreadyRunningError: If a stack runs from this home: its workers would write again.
        LitmusError: If the broker refuses, or does not answer.
    """
    home = Home(settings.home)
    with home.locked():
        home.require_format()
        home.stop_orphans()
        with _broker(settings, home) as bootstrap:
            _delete(bootstrap)
            create_topics(bootstrap, settings.partitions)
    return list(FORGOTTEN)


@contextmanager
def _broker(settings: Settings, home: Home) -> Iterator[str]:
    """Lend the broker of the settings, or start the home's own."""
    if settings.kafka is not None:
        yield settings.kafka
    else:
        with EmbeddedBroker(home.kafka) as broker:
            yield broker.bootstrap


def _delete(bootstrap: str) -> None:
    there = sorted(partition_counts(bootstrap).keys() & set(FORGOTTEN))
    if not there:
        return
    admin = AdminClient(client_settings(bootstrap))  # it lives until it has answered
    for name, future in admin.delete_topics(there).items():
        try:
            future.result(TIMEOUT_SECONDS)
        except KafkaException as error:
            raise LitmusError(
                f"The broker does not delete {name}: {error.args[0].str()}"
            ) from error
    wait = Retrying(
        retry=retry_if_exception_type(_StillThereError),
        stop=stop_after_delay(TIMEOUT_SECONDS),
        wait=wait_fixed(0.1),
        reraise=True,
    )
    wait(_require_gone, bootstrap)


def _require_gone(bootstrap: str) -> None:
    left = partition_counts(bootstrap).keys() & set(FORGOTTEN)
    if left:
        raise _StillThereError(
            f"The broker has not deleted {', '.join(sorted(left))}: run it again"
        )


class _StillThereError(LitmusError):
    """A broker answers before the topic is gone from all of it."""
