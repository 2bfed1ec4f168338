"""What became of the rows of imports that this process applied: kept, or too old to be."""

import numpy as np

from schemas.imports import DAY_MS, read_import
from stream_processors.accumulate.partition import Partition


class Imported:
    """Rows of the parts that a partition took since the process began.

    Attributes:
        kept_count: Their day's totals are kept.
        too_old_count: Their day is before those that are kept of the metric name: who enters from
            now on has nothing of them. Units that are in already have, if their covariate
            reaches so far back.
    """

    def __init__(self) -> None:
        self.kept_count = 0
        self.too_old_count = 0

    def count(self, partition: Partition, value: bytes) -> None:
        """Count the rows of a part that the partition has just taken."""
        part, columns = read_import(value)
        entries = [partition.control.catalogue.get(name) for name in part.metrics]
        keep_days = np.array([entry.keep_days if entry else 0 for entry in entries], np.int64)
        first_days = partition.times.horizon_ms // DAY_MS - keep_days
        too_old = int((columns["day"] < first_days[columns["metric"]]).sum())
        self.too_old_count += too_old
        self.kept_count += len(columns["day"]) - too_old
