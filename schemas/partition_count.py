"""Every process shares the partitions out alike, or units count twice, or not at all."""

from schemas.topics import EVENTS


class PartitionCountError(Exception):
    """``LITMUS_PARTITIONS`` is not what the topic has: the process must end."""


def require_partition_count(found: int, wanted: int) -> None:
    """Return if ``litmus.events`` has as many partitions as the setting says.

    Args:
        found: Partitions of ``litmus.events``.
        wanted: ``LITMUS_PARTITIONS``.

    Raises:
        PartitionCountError: If it has another number of them; the text says what to set.
    """
    if found != wanted:
        raise PartitionCountError(
            f"{EVENTS.name} has {found} partitions, LITMUS_PARTITIONS of this process is {wanted}. "
            f"Set LITMUS_PARTITIONS={found} for every process: by this number doors choose where "
            "a unit's events go, control where ticks go, and merge whose reports make a look; "
            "with two numbers units would be counted twice or not at all"
        )
