"""What looks remember of looks: running p-values and intervals, group-sequential looks.

Running numbers only narrow, as long as they are about one thing: an effect at one cap. When a cap
at a quantile moves, they begin anew. What was spent at a planned look stays spent all the same.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from stream_processors.stats.group_sequential import GroupPath


class CapMove(msgspec.Struct, frozen=True):
    """The last time that a cap moved from under running numbers, which began anew there.

    Attributes:
        tick: Number of the tick of the look at which they did.
        before: The cap of the numbers before, in quanta; None: totals were not capped.
    """

    tick: int
    before: int | None = None


class GroupState(msgspec.Struct, frozen=True):
    """A group-sequential test as of its last official look; between looks it stays as it is.

    Attributes:
        looks: The official looks so far; at least one.
        estimate: The effect there, in metric units.
        std_error: Its standard error there.
        low: Highest lower end of the repeated intervals at this cap so far; all hold together.
        high: Lowest upper end so far.
        relative: The relative effect there; None where there was none.
        relative_std_error: Its standard error, by the delta method.
        relative_low: Highest lower end of the relative intervals at this cap so far.
        relative_high: Lowest upper end of them.
        cap: Chosen cap of the grid there, in quanta; None where none was chosen.
        moved: Since which look ``low`` and ``high`` are kept, if the cap moved before it.
    """

    looks: GroupPath
    estimate: float
    std_error: float
    low: float
    high: float
    relative: float | None = None
    relative_std_error: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    cap: int | None = None
    moved: CapMove | None = None


class GuardedArm(msgspec.Struct, frozen=True):
    """A variant as it was at an official look."""

    units: float
    mean: float
    std_error: float


class GuardState(msgspec.Struct, frozen=True):
    """The group-sequential test of a guardrail as of its last official look.

    Attributes:
        looks: One-sided, at harm: a high z is a loss. At least one.
        control: The control there.
        treatment: The treatment there.
    """

    looks: GroupPath
    control: GuardedArm
    treatment: GuardedArm


class ComparisonPath(msgspec.Struct, frozen=True, omit_defaults=True):
    """The looks so far at one variant, metric and cap, matured units only.

    What a guardrail has shown outlives the cap at which it was shown: the looks at all caps
    together err with alpha at most (docs/statistics.md), and a failure is not to be forgotten.
    A pass is of one cap: an effect within the margin at another may be beyond it at this one.

    Attributes:
        p_value: Smallest always-valid p-value so far.
        low: Highest lower end so far; None before the first look after the burn-in.
        high: Lowest upper end so far.
        group: Of method group_sequential; None before the first official look.
        harm_p_value: Of a guardrail: smallest p-value of "it got no worse" so far.
        guard: Of a guardrail and method group_sequential: the one-sided test of harm.
        failed_room: Of a guardrail: lowest upper bound of its room so far; 0: it never failed.
        passed_room: Of a guardrail that may be watched all the time: highest lower bound of its
            room at this cap so far; 0: it never passed.
        relative_low: Highest lower end of the relative interval so far; None before the first.
        relative_high: Lowest upper end of it so far.
        cap: Chosen cap of the grid at these looks, in quanta; None where none was chosen.
        moved: Since which look these are kept, if the cap moved before it.
    """

    p_value: float = 1.0
    low: float | None = None
    high: float | None = None
    group: GroupState | None = None
    harm_p_value: float = 1.0
    guard: GuardState | None = None
    failed_room: float = 0.0
    relative_low: float | None = None
    relative_high: float | None = None
    cap: int | None = None
    moved: CapMove | None = None
    passed_room: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Return whether the intersection of the intervals is empty: for good, then."""
        return self.low is not None and self.high is not None and self.low > self.high

    @property
    def is_relative_empty(self) -> bool:
        """Return whether the intersection of the relative intervals is empty."""
        low, high = self.relative_low, self.relative_high
        return low is not None and high is not None and low > high

    def at_cap(self, cap: int | None, tick: int) -> "ComparisonPath":
        """Return the path on which a look at a cap comes: this one, or one that begins there."""
        if self.cap == cap or self.low is None:
            return msgspec.structs.replace(self, cap=cap)
        return ComparisonPath(
            group=self.group,
            harm_p_value=self.harm_p_value,
            guard=self.guard,
            failed_room=self.failed_room,
            cap=cap,
            moved=CapMove(tick, self.cap),
        )

    def after(
        self, p_value: float, low: float, high: float, relative: tuple[float, float] | None = None
    ) -> "ComparisonPath":
        """Return the path with one more look; ``relative``: its relative interval, if any."""
        relative_low, relative_high = relative or (None, None)
        return msgspec.structs.replace(
            self,
            p_value=min(self.p_value, p_value),
            low=most(max, self.low, low),
            high=most(min, self.high, high),
            relative_low=most(max, self.relative_low, relative_low),
            relative_high=most(min, self.relative_high, relative_high),
        )


def most(
    of: Callable[[float, float], float], before: float | None, now: float | None
) -> float | None:
    """Return the larger or smaller of two ends, of which either may be missing."""
    if before is None or now is None:
        return now if before is None else before
    return of(before, now)


Paths = dict[str, dict[str, ComparisonPath]]
"""By metric id, then by variant id."""

NO_LOOK = ComparisonPath()


class ExperimentPath(msgspec.Struct, frozen=True):
    """The path state of an experiment. MessagePack keeps its doubles exactly.

    The p-values of the split had other names while they came from a single prior: those are not
    read any more, because a running minimum over two statistics is no p-value.

    Attributes:
        comparisons: Of the effects as they are.
        split_p_value: Smallest sequential p-value of the sample ratio so far.
        adjusted: Of the effects adjusted by a covariate.
        segment_split_p_values: Smallest sequential p-values of the split within segments, by
            attribute, then by value.
    """

    comparisons: Paths = msgspec.field(default_factory=dict)
    split_p_value: float = 1.0
    adjusted: Paths = msgspec.field(default_factory=dict)
    segment_split_p_values: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)

    def of(self, metric_id: str, variant_id: str) -> ComparisonPath:
        """Return the path of one comparison."""
        return self.comparisons.get(metric_id, {}).get(variant_id, NO_LOOK)

    def adjusted_of(self, metric_id: str, variant_id: str) -> ComparisonPath:
        """Return the path of one comparison adjusted by a covariate."""
        return self.adjusted.get(metric_id, {}).get(variant_id, NO_LOOK)

    def exact(self) -> dict[str, Any]:
        """Return it with every float as a hexadecimal string, as it goes into an identity."""
        return {
            "comparisons": _written(self.comparisons),
            "split_p_value": self.split_p_value.hex(),
            "adjusted": _written(self.adjusted),
            "segment_split_p_values": _hex(self.segment_split_p_values),
        }

    @classmethod
    def from_exact(cls, value: dict[str, Any]) -> "ExperimentPath":
        """Return the path that ``exact`` wrote down."""
        return msgspec.convert(_from_hex(value), cls)


def _written(paths: Paths) -> dict[str, dict[str, Any]]:
    return {
        metric_id: {variant_id: _exact(path) for variant_id, path in of_metric.items()}
        for metric_id, of_metric in paths.items()
    }


def _exact(path: ComparisonPath) -> dict[str, Any]:
    """Return a path as ``_hex`` writes it, but sooner: nearly all are of running numbers alone."""
    written: dict[str, Any] = {
        "p_value": path.p_value.hex(),
        "low": None if path.low is None else path.low.hex(),
        "high": None if path.high is None else path.high.hex(),
        "harm_p_value": path.harm_p_value.hex(),
    }
    if path.group is not None:
        written["group"] = _exact_group(path.group)
    if path.guard is not None:
        written["guard"] = _hex(msgspec.to_builtins(path.guard))
    if path.failed_room < 0:
        written["failed_room"] = path.failed_room.hex()
    if path.passed_room > 0:
        written["passed_room"] = path.passed_room.hex()
    if path.relative_low is not None and path.relative_high is not None:
        written["relative_low"] = path.relative_low.hex()
        written["relative_high"] = path.relative_high.hex()
    if path.cap is not None:
        written["cap"] = path.cap
    if path.moved is not None:
        written["moved"] = msgspec.to_builtins(path.moved)
    return written


def _exact_group(state: GroupState) -> dict[str, Any]:
    """Return a state with what it has of caps and relative intervals, where it has any."""
    written: dict[str, Any] = msgspec.to_builtins(state)
    integers = {name: written.pop(name) for name in ("cap", "moved")}
    if state.relative_low is None:
        del written["relative_low"], written["relative_high"]
    written = _hex(written)
    return written | {name: value for name, value in integers.items() if value is not None}


def _hex(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _hex(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_hex(one) for one in value]
    return value if value is None else float(value).hex()


def _from_hex(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _from_hex(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_from_hex(one) for one in value]
    return float.fromhex(value) if isinstance(value, str) else value
