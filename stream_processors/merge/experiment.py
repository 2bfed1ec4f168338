"""One experiment as merge holds it: last report of every partition, path state, last look."""

from schemas.definitions import Definition
from schemas.partials import READABLE_VERSION, ExperimentSums
from stream_processors.merge.look import Asked, Cut, Look
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.records import ExperimentRecord
from stream_processors.merge.totals import ATTRIBUTIONS, Totals, totals_of


class MergedExperiment:
    """Sums and path of one experiment. It changes at ticks only.

    Attributes:
        definition: As of ``tick``.
        tick: Last tick that changed it; replayed ticks up to it are skipped.
        is_owed: Whether a look was due and skipped, or none was computed yet.
        sha256: Identity of the last look; empty before the first.
        fits: Whether a look at its sums fits into a message, as far as is known. One that does not
            is owed, and asked for again when the sums or the definition change, or after a restart.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.tick = 0
        self.is_owed = True
        self.sha256 = ""
        self.fits = True
        self._sums: dict[int, ExperimentSums] = {}
        self._state_versions: dict[int, int] = {}
        self._looked: Totals | None = None
        self._path = ExperimentPath()

    @property
    def has_started(self) -> bool:
        """Return whether there is anything to look at."""
        return self.definition.started_at_ms is not None

    @property
    def state_versions(self) -> set[int]:
        """Return the rules under which its sums were counted; more than one: no look."""
        return set(self._state_versions.values())

    def redefine(self, definition: Definition) -> None:
        """Go on with another definition; metrics may have been added."""
        self.definition = definition
        self.is_owed = self.fits = True

    def report(self, partition: int, state_version: int, sums: ExperimentSums) -> None:
        """Replace what a partition said before: sums are cumulative."""
        self._sums[partition] = sums
        self._state_versions[partition] = state_version

    def asks(self, cut: Cut) -> Asked | None:
        """Return the look to compute at a tick; None if nothing has changed since the last one."""
        totals = self._totals()
        if totals == self._looked and not (self.is_owed and self.fits):
            return None
        return Asked(self.definition, totals, cut, self._path)

    def remember(self, asked: Asked, look: Look) -> None:
        """Go on from a look that was asked for and computed."""
        self._path, self.sha256 = look.path_after, look.sha256
        self._looked, self.is_owed, self.fits = asked.totals, False, True

    def forgo(self, asked: Asked) -> None:
        """Go on without a look that was too large to be published: as if it had not been made."""
        self._looked, self.is_owed, self.fits = asked.totals, True, False

    def attribution(self) -> dict[str, int]:
        """Return what became of its metric events, over all partitions."""
        counts = zip(*(sums.attribution for sums in self._sums.values()), strict=True)
        totals = list(map(sum, counts)) or [0] * len(ATTRIBUTIONS)
        return dict(zip(ATTRIBUTIONS, totals, strict=True))

    def to_record(self) -> ExperimentRecord:
        """Return all that is needed to go on after ``tick``."""
        return ExperimentRecord(
            self.tick,
            self.definition,
            self._sums,
            self._state_versions,
            self._path,
            self.is_owed,
            self.sha256,
        )

    @classmethod
    def from_record(cls, record: ExperimentRecord) -> "MergedExperiment":
        """Return the experiment that ``to_record`` described."""
        experiment = cls(record.definition)
        experiment.tick = record.tick
        experiment.sha256 = record.sha256
        experiment.is_owed = record.is_owed
        experiment._path = record.path
        for partition, sums in record.sums.items():
            experiment.report(partition, record.state_versions[partition], sums)
        if not record.is_owed:
            experiment._looked = experiment._totals()
        return experiment

    def _totals(self) -> Totals:
        """Return the sums over all partitions whose reports this version reads."""
        readable = (
            sums
            for partition, sums in self._sums.items()
            if self._state_versions[partition] >= READABLE_VERSION
        )
        return totals_of(readable, self.definition)
