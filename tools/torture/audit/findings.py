"""What an audit found: differences as lines of text, and how much was compared, per check."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

LINES_PER_CHECK_MAX = 50
"""Lines kept of one check; the rest is counted. A broken run may differ in millions of places."""


class Report(NamedTuple):
    """The outcome of an audit.

    Attributes:
        events_compared: Events of the journal that were held to the log.
        looks_compared: Looks whose integers were held to the reference.
        differences: Lines that name what, where, expected and found; the first of each check.
        difference_count: All of them, also those without a line.
        compared: Per check, how many things were compared.
    """

    events_compared: int
    looks_compared: int
    differences: list[str]
    difference_count: int
    compared: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the report as it stands in a file."""
        return self._asdict()


class Findings:
    """Collects differences and counts."""

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._lines: dict[str, list[str]] = {}

    def count(self, check: str, number: int = 1) -> None:
        """Note that so many things of a check were compared."""
        self.compared[check] += number

    def differ(self, check: str, line: str) -> None:
        """Note a difference."""
        self._counts[check] += 1
        lines = self._lines.setdefault(check, [])
        if len(lines) < LINES_PER_CHECK_MAX:
            lines.append(f"{check}: {line}")

    def compare(self, check: str, where: str, expected: object, found: object) -> None:
        """Note that one thing was compared, and how it differs if it does."""
        self.compared[check] += 1
        if expected != found:
            self.differ(check, f"{where}: expected {expected}, found {found}")

    def require(self, *checks: str) -> None:
        """Make a difference of every check that compared nothing: silence is no success."""
        for check in checks:
            if not self.compared[check]:
                self.differ(check, "nothing was compared")

    def merge(self, other: "Findings") -> None:
        """Take over what another process found."""
        self.compared.update(other.compared)
        for check, lines in other._lines.items():  # noqa: SLF001  # its own class
            mine = self._lines.setdefault(check, [])
            mine += lines[: LINES_PER_CHECK_MAX - len(mine)]
        self._counts.update(other._counts)  # noqa: SLF001

    @property
    def differences(self) -> list[str]:
        """Return the lines, and one for those of each check that were left out."""
        found = []
        for check, lines in self._lines.items():
            found += lines
            if (left := self._counts[check] - len(lines)) > 0:
                found.append(f"{check}: {left} more")
        return found

    def report(self, counts: Mapping[str, int]) -> Report:
        """Return the report; ``counts`` names the events and looks compared."""
        return Report(
            events_compared=counts["events"],
            looks_compared=counts["looks"],
            differences=self.differences,
            difference_count=sum(self._counts.values()),
            compared=dict(self.compared),
        )
