"""What will be broken, in which order: a pure function of a seed.

A schedule names gaps, not times of day: a fault begins so many seconds after the one before is
over (or while it is not, where faults overlap). A time fixed beforehand would pile faults up on a
slow machine and wait for nothing on a fast one.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple

from tools.errors import LitmusError


class UnknownFaultError(LitmusError):
    """A fault was asked for by a name that none has."""


class Kind(StrEnum):
    """A way to break things."""

    KILL = "kill"
    TERMINATE = "terminate"
    FREEZE = "freeze"
    ZOMBIE = "zombie"
    JOIN = "worker joins"
    LEAVE = "worker leaves"
    LOSE = "worker lost"
    DRAIN = "worker drained"
    BROKER_RESTART = "broker restart"
    BROKER_KILL = "broker kill"
    KILL_ALL = "kill everything"
    SLOW_LINK = "slow link"
    CUT_LINK = "cut link"
    STALLED_LINK = "stalled link"
    FULL_DISK = "full disk"
    CLOCK_STEP = "clock step"


PROCESSES = ("accumulate-0", "gateway", "kafka-door", "control", "merge", "query-api")
SUBSTITUTED = ("accumulate-0", "control", "kafka-door", "merge")
"""Processes beside which another may work: while one is frozen the other takes over."""

LINKS = ("clients", "gateway", "kafka-door", "accumulate-0", "control", "merge")
"""``clients``: to the gateway; the others: of a process to the broker."""

DISKS = ("kafka", "clickhouse", "faust")
STACK = "everything"
BROKER = "kafka"
JOINERS_MAX = 2


class Fault(NamedTuple):
    """One thing that will be broken.

    Attributes:
        number: In the order of the schedule, from 1.
        kind: How.
        target: What.
        gap_s: Seconds after the fault before this one is over.
        hold_s: Seconds until it is mended; 0: nothing has to be mended by us.
        size: How far: ms of a clock step, ms of delay of a slow link; else 0.
        overlaps: It begins ``gap_s`` after the fault before *began*, over or not.
    """

    number: int
    kind: Kind
    target: str
    gap_s: float
    hold_s: float = 0.0
    size: int = 0
    overlaps: bool = False

    @property
    def label(self) -> str:
        """Return the kind as reports name it: with its target where there are several."""
        is_plain = self.target in (STACK, BROKER) and self.kind in _PLAIN
        if is_plain or self.kind in _OF_WORKERS:
            return str(self.kind)
        return f"{self.kind} {self.target.removesuffix('-0')}"


class _Habit(NamedTuple):
    """How often a kind comes, what it hits, how long it is held."""

    weight: float
    targets: Sequence[str]
    hold_s: tuple[float, float] = (0.0, 0.0)
    size: tuple[int, int] = (0, 0)


_OF_WORKERS = frozenset({Kind.JOIN, Kind.LEAVE, Kind.LOSE, Kind.DRAIN})
_PLAIN = frozenset({Kind.KILL_ALL, Kind.BROKER_KILL, Kind.BROKER_RESTART})
_LEAVING = frozenset({Kind.LEAVE, Kind.LOSE, Kind.DRAIN})

_STEPS = {Kind.JOIN: 1} | dict.fromkeys(_LEAVING, -1)
"""How a kind changes the number of workers that joined."""

SESSION_TIMEOUT_S = 10.0
"""Of the consumer groups in the embedded stack; what is frozen longer is thrown out."""

_FROZEN_S = (SESSION_TIMEOUT_S + 1.0, SESSION_TIMEOUT_S + 3.0)

# Most faults are quick, so that 300 of them fit into less than an hour.
_HABITS = {
    Kind.KILL: _Habit(40, PROCESSES),
    Kind.TERMINATE: _Habit(9, PROCESSES),
    Kind.CUT_LINK: _Habit(8, LINKS, (0.0, 3.0)),
    Kind.SLOW_LINK: _Habit(7, LINKS, (2.0, 5.0), (50, 250)),
    Kind.CLOCK_STEP: _Habit(5, PROCESSES, (2.0, 4.0), (-30_000, 30_000)),
    Kind.STALLED_LINK: _Habit(4, LINKS, (2.0, 6.0)),
    Kind.FREEZE: _Habit(4, (*PROCESSES, BROKER), _FROZEN_S),
    Kind.ZOMBIE: _Habit(3, SUBSTITUTED, _FROZEN_S),
    Kind.LEAVE: _Habit(2, ("joiner",)),
    Kind.LOSE: _Habit(2.5, ("joiner",)),
    Kind.DRAIN: _Habit(2, ("joiner",)),
    Kind.BROKER_RESTART: _Habit(3, (BROKER,)),
    Kind.BROKER_KILL: _Habit(2.5, (BROKER,)),
    Kind.FULL_DISK: _Habit(3, DISKS, (3.0, 5.0)),
    Kind.KILL_ALL: _Habit(1.5, (STACK,)),
}
# A worker joins for every one that leaves or is lost: see _counts.

_OVERLAP_SHARE = 0.15
_OVERLAPPING = frozenset({Kind.KILL, Kind.TERMINATE, Kind.CUT_LINK, Kind.SLOW_LINK})
"""Kinds that may begin while another fault lasts."""


def make_schedule(
    seed: int,
    count: int,
    *,
    seconds_between: float = 1.0,
    impossible: Collection[Kind] = (),
    disks: Sequence[str] = DISKS,
    only: Collection[str] = (),
) -> list[Fault]:
    """Return ``count`` faults, of every possible kind where there are enough of them.

    Args:
        seed: The same one gives the same schedule.
        count: Faults.
        seconds_between: Mean gap.
        impossible: Kinds that this machine does not allow.
        disks: What can be given a disk of its own, to be filled.
        only: Kinds, or labels of faults (``kill accumulate``), to do nothing else; all if empty.

    Raises:
        UnknownFaultError: If one of ``only`` is neither, or is not possible here.
    """
    random = Random(seed)  # noqa: S311  # repeatable, not secret
    possible = _targets(frozenset(impossible), disks, only)
    kinds = _kinds(random, count, list(possible))
    _let_join_before_leaving(kinds)
    targets: dict[Kind, list[str]] = {}
    faults: list[Fault] = []
    for number, kind in enumerate(kinds, 1):
        habit = _HABITS.get(kind, _JOINING)
        if not targets.get(kind):
            every = possible.get(kind, habit.targets)
            targets[kind] = random.sample(every, len(every))
        low, high = habit.size
        may_overlap = bool(faults) and {kind, faults[-1].kind} <= _OVERLAPPING
        overlaps = random.random() < _OVERLAP_SHARE and may_overlap
        faults.append(
            Fault(
                number,
                kind,
                targets[kind].pop(),
                round(random.uniform(0.3, 1.7) * seconds_between, 2),
                round(random.uniform(*habit.hold_s), 2),
                random.randint(low, high),
                overlaps,
            )
        )
    return faults


_JOINING = _Habit(0, ("joiner",))


def _targets(
    impossible: frozenset[Kind], disks: Sequence[str], only: Collection[str]
) -> dict[Kind, Sequence[str]]:
    """Return what each kind may hit; a kind that hits nothing is not there."""
    every = {
        kind: disks if kind is Kind.FULL_DISK else habit.targets
        for kind, habit in _HABITS.items()
        if kind not in impossible
    }
    if not only:
        return every
    names = {
        (kind, target): {str(kind), Fault(0, kind, target, 0.0).label}
        for kind, targets in every.items()
        for target in targets
    }
    known = set().union(*names.values())
    if not known.issuperset(only):
        unknown = ", ".join(sorted(set(only) - known))
        message = f"no such fault here: {unknown}; there are: {', '.join(sorted(known))}"
        raise UnknownFaultError(message)
    chosen = {at for at, of_one in names.items() if of_one.intersection(only)}
    kept = {kind: [one for one in hit if (kind, one) in chosen] for kind, hit in every.items()}
    return {kind: hit for kind, hit in kept.items() if hit}


def _kinds(random: Random, count: int, possible: list[Kind]) -> list[Kind]:
    """Return the kinds of all faults in their order, before joins and leaves are put straight."""
    counts = _counts(count, possible)
    kinds = [kind for kind in Kind for _ in range(counts.get(kind, 0))]
    random.shuffle(kinds)
    return kinds


def _counts(count: int, possible: list[Kind]) -> dict[Kind, int]:
    """Share ``count`` faults among kinds by weight, one at least of each while they last.

    Repeatedly the kind is taken that is furthest behind its share; one that leaves takes a join
    with it, so it costs two.
    """
    weight = {kind: _HABITS[kind].weight for kind in possible}
    counts = dict.fromkeys(possible, 0)
    left, joins = count, 0
    while left:
        affordable = [kind for kind in possible if _cost(kind) <= left]
        if not affordable:
            break  # one fault is left, and only workers that joined before may be hit
        missing = [kind for kind in affordable if not counts[kind]]
        chosen = max(missing or affordable, key=lambda kind: weight[kind] / (counts[kind] + 1))
        counts[chosen] += 1
        joins += chosen in _LEAVING
        left -= _cost(chosen)
    return counts | {Kind.JOIN: joins}


def _cost(kind: Kind) -> int:
    return 2 if kind in _LEAVING else 1


def _let_join_before_leaving(kinds: list[Kind]) -> None:
    """Swap so that only workers that joined leave, and never more than the maximum are there."""
    joined = 0
    for place, kind in enumerate(kinds):
        if kind in _LEAVING and joined == 0:
            later = kinds.index(Kind.JOIN, place)
            kinds[place], kinds[later] = kinds[later], kinds[place]
        elif kind is Kind.JOIN and joined == JOINERS_MAX:
            later = next(at for at in range(place, len(kinds)) if kinds[at] in _LEAVING)
            kinds[place], kinds[later] = kinds[later], kinds[place]
        joined += _STEPS.get(kinds[place], 0)


def expected_seconds(faults: Sequence[Fault], *, recovery_s: float = 5.0) -> float:
    """Return about how long a schedule takes, were every recovery ``recovery_s`` long."""
    return sum(fault.gap_s + fault.hold_s + recovery_s for fault in faults)
