"""A running worker holds its sums to a fold of its cells, when asked.

Between two messages, on the event loop: nothing is copied, and nothing moves meanwhile. A fold is
what a restart would compute, so afterwards the sums are right whatever was found; what was found
is answered, logged and counted.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stream_processors.accumulate.partition import Partition

SUMS = ("units", "attribution", "sums", "overflowed", "buckets", "histograms")
"""What ``Partition.sums`` returns, in its order."""

ANSWER_S_MAX = 60.0

_log = logging.getLogger(__name__)


class LiveAudit:
    """Audits the partitions of this process.

    Args:
        partitions: What the process owns, by number; changes as partitions come and go.
        loop: Returns the event loop that applies messages.

    Attributes:
        audit_count: How often it was asked.
        difference_count: Sums that were not their fold, ever.
    """

    def __init__(
        self,
        partitions: Mapping[int, Partition],
        loop: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        self._partitions = partitions
        self._loop = loop
        self.audit_count = 0
        self.difference_count = 0

    def answer(self) -> dict[str, Any]:
        """Return what an audit finds; from any thread but the event loop's."""
        found = asyncio.run_coroutine_threadsafe(self.run(), self._loop())
        return found.result(ANSWER_S_MAX)

    async def run(self) -> dict[str, Any]:
        """Audit one partition after the other; between two of them messages are applied."""
        audited: list[int] = []
        differences: list[dict[str, Any]] = []
        for number in sorted(self._partitions):
            partition = self._partitions.get(number)
            if partition is None or not partition.is_live:
                continue
            differences += fold_differences(partition)
            audited.append(number)
            await asyncio.sleep(0)
        self.audit_count += 1
        self.difference_count += len(differences)
        for one in differences:
            _log.error("sums_differ %s", one)
        return {"partitions": audited, "differences": differences}


def fold_differences(partition: Partition) -> list[dict[str, Any]]:
    """Return where the sums differ from a fold of the cells; afterwards they are the fold's."""
    kept = partition.sums()
    partition.refold()
    folded = partition.sums()
    return [
        {
            "where": f"partition {partition.number}",
            "tick": partition.tick,
            "what": name,
            "expected": np.asarray(there).tolist(),
            "found": np.asarray(here).tolist(),
        }
        for name, here, there in zip(SUMS, kept, folded, strict=True)
        if not np.array_equal(np.asarray(here), np.asarray(there))
    ]
