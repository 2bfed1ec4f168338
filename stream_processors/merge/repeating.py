"""The newest snapshot of every experiment is published again now and then.

``litmus.snapshots`` is compacted by experiment. A merge process that froze while it published, and
thaws when another has taken over, puts older snapshots behind newer ones; where nothing happens
any more, the older one would stay, for whoever reads the topic from its beginning. So whoever
merges repeats what it published, byte by byte; readers drop what they have.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from schemas.control import TICKS_PER_SECOND
from schemas.hashing import stable_hash64
from stream_processors.merge.experiment import MergedExperiment

REPEAT_TICKS = 10 * 60 * TICKS_PER_SECOND


class _Published(NamedTuple):
    slot: int
    sha256: str
    version: int
    snapshot: msgspec.Raw


class SnapshotRepeats:
    """The newest snapshot, as JSON, of every experiment that this process made one of.

    While it counts anew, behind what is published, it remembers what it makes and repeats nothing.
    Those of others need no repeating: what a zombie publishes late is newer than all that it
    published before, so what it hides was published by its successor.
    """

    def __init__(self) -> None:
        self._published: dict[str, _Published] = {}

    def due(self, tick: int) -> dict[str, msgspec.Raw]:
        """Return what is to be published again at a tick: everything once in ``REPEAT_TICKS``."""
        slot = tick % REPEAT_TICKS
        return {
            experiment_id: one.snapshot
            for experiment_id, one in self._published.items()
            if one.slot == slot
        }

    def publish(self, experiment: MergedExperiment, snapshot: msgspec.Raw) -> None:
        """Remember the newest snapshot of an experiment."""
        definition = experiment.definition
        slot = stable_hash64(definition.id) % REPEAT_TICKS
        published = _Published(slot, experiment.sha256, definition.version, snapshot)
        self._published[definition.id] = published

    def keep_current(self, experiments: Mapping[str, MergedExperiment]) -> None:
        """Forget what is not the newest any more: another process may have gone on meanwhile."""
        self._published = {
            experiment_id: one
            for experiment_id, one in self._published.items()
            if (known := experiments.get(experiment_id)) is not None
            and (known.sha256, known.definition.version) == (one.sha256, one.version)
        }
