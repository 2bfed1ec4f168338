"""How many ids a process may keep. Beyond it stops, with what to do: never a wrong number.

Ids leave by the horizon alone. While a door is down, or control is, the horizon stands still, and
they pile up: a process that drops some would count a resend twice, one that goes on is killed for
its memory.
"""

from schemas.control import Times
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.state import RECENT_END, RECENT_START

BEHIND_S = 60.0
"""Settled time that far behind log time is why there are so many ids."""


class TooManyIdsError(Exception):
    """The partitions of this process hold more ids within the horizon than they may."""


class IdCeiling:
    """Counts the ids of every partition that a process owns.

    Attributes:
        maximum: Of all of them together.
        total: As of the last message of each.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.total = 0
        self._of_partition: dict[int, int] = {}

    def check(self, number: int, partition: Partition) -> None:
        """Count a partition's ids anew, after a message.

        Raises:
            TooManyIdsError: If they are too many by now.
        """
        counts = partition.state.counts
        count = int(counts[RECENT_END] - counts[RECENT_START])
        self.total += count - self._of_partition.get(number, 0)
        self._of_partition[number] = count
        if self.total > self.maximum:
            raise TooManyIdsError(_what_to_do(self.total, self.maximum, partition.times))

    def forget(self, number: int) -> None:
        """Leave out a partition that went to another process."""
        self.total -= self._of_partition.pop(number, 0)

    def clear(self) -> None:
        """Leave out all."""
        self.total = 0
        self._of_partition.clear()


def _what_to_do(total: int, maximum: int, times: Times) -> str:
    behind_s = (times.log_ms - times.settled_ms) / 1_000
    door = (
        f"A Kafka door is {behind_s:,.0f} s behind, and until it has caught up no id is forgotten: "
        "start it, or retire its sources (litmus settings retire_sources=…). "
        if behind_s > BEHIND_S
        else ""
    )
    return (
        f"{total:,} ids within the horizon, must be at most {maximum:,}; they reach back "
        f"{(times.log_ms - times.horizon_ms) / 1_000:,.0f} s. Nothing is lost and nothing is "
        f"counted wrong: the log has it all, and a start goes on from there. {door}Without ticks "
        "no id is forgotten either: litmus status says whether control is ready. Add a worker "
        "(litmus worker add), or give this one more memory (about 46 bytes an id) and a higher "
        "LITMUS_IDS_MAX; a shorter lateness keeps fewer ids from then on"
    )
