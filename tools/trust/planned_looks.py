"""A few planned looks that share one error: protocol 4."""

from functools import partial

import numpy as np

from stream_processors.merge.planned import Information, Plans, path_after
from stream_processors.stats.effects import Plan
from stream_processors.stats.group_sequential import (
    GroupPath,
    GroupPlan,
    is_closed,
    next_boundary,
    repeated_p_value,
    take_look,
)
from stream_processors.stats.spending import Spending
from stream_processors.stats.sub_density import START, Region, advance, exit_high
from stream_processors.stats.tails import normal_critical_value
from tools.trust.bands import around, of_known
from tools.trust.checks import Check, Found, Part, Protocol, Trial, exactly_none, share
from tools.trust.laws import LAWS, Columns, Floats, chunks, draw
from tools.trust.product import sequences

ALPHA = 0.05
PLANNED_UNITS = 2_000
"""Of both variants; a hundredth of them is a whole number of pairs."""

SCHEDULES: dict[str, tuple[float, ...]] = {
    "equal": (0.2, 0.4, 0.6, 0.8, 1.0),
    "unequal": (0.13, 0.37, 0.55, 0.81, 1.0),
    "overrun": (0.25, 0.5, 0.75, 1.18),
    "daily": tuple(round(look / 14, 3) for look in range(1, 15)),
}
SPENDINGS = {
    "obrien_fleming": Spending("obrien_fleming"),
    "pocock": Spending("pocock"),
    "power": Spending("power", 2.0),
}
REPEATED_SAMPLE = 200

TICKS = tuple(round(0.1 + 0.025 * tick, 3) for tick in range(37))
"""Information at which somebody looks who may stop: from the burn-in to the planned end."""

STOPPED: dict[str, tuple[float, ...]] = {
    "one_look": (1.0,),
    "equal": SCHEDULES["equal"],
}


def planned_looks(spending: str, schedule: str, trial: Trial) -> Found:
    """Try A/A experiments with a few looks, z of real units and the product's boundaries."""
    plan = GroupPlan(ALPHA, SPENDINGS[spending], SCHEDULES[schedule])
    replications = trial.size(20_000, least=500)
    z, information = _statistics(trial, replications, SCHEDULES[schedule])
    paths = [_path(row, information, plan) for row in z.tolist()]
    rejected = [abs(path[-1].z) >= path[-1].boundary for path in paths]
    sample = trial.size(REPEATED_SAMPLE, least=30)
    check_id = f"4.{spending}.{schedule}"
    name = f"{spending.replace('_', '-')} spending, {len(information)} {schedule} looks"
    checks = [
        Check(
            check_id,
            f"{name}: A/A experiments that reject",
            share(rejected),
            around(ALPHA, replications),
            replications,
        ),
        exactly_none(
            f"{check_id}.repeated_p",
            f"{name}: experiments whose repeated p-value says something else than the boundary",
            sum(
                (repeated_p_value(path, plan) <= ALPHA) != says
                for path, says in zip(paths[:sample], rejected, strict=False)
            ),
            min(replications, sample),
        ),
    ]
    if (spending, schedule) == ("obrien_fleming", "equal"):
        checks.append(_cumulative_as_nominal(z, replications, plan))
    return Found(checks)


def stopped_when_it_looked_good(spending: str, schedule: str, trial: Trial) -> Found:
    """Try A/A experiments that end as soon as an end there and then would be a finding.

    The watcher sees every tick, planned or not, and asks the product what it would make of an end.
    """
    plan = GroupPlan(ALPHA, SPENDINGS[spending], STOPPED[schedule])
    replications = trial.size(20_000, least=500)
    z, information = _statistics(trial, replications, TICKS)
    units = [round(one * PLANNED_UNITS) for one in information]
    plans = Plans(PLANNED_UNITS, plan, plan)
    found = [_is_found_by_stopping(row, units, plans) for row in z.tolist()]
    name = f"{spending.replace('_', '-')} spending, planned looks at {_listed(plan.planned_looks)}"
    checks = [
        Check(
            f"4.{spending}.{schedule}.stopped_when_it_looked_good",
            f"{name}: A/A experiments that reject when they may be stopped at any of "
            f"{len(TICKS)} moments",
            share(found),
            around(ALPHA, replications),
            replications,
        )
    ]
    if schedule == "one_look":
        checks.append(_ends_as_looks(z, replications, plan, name))
    return Found(checks)


def _listed(looks: tuple[float, ...]) -> str:
    return ", ".join(f"{one:g}" for one in looks)


def _is_found_by_stopping(z: list[float], units: list[int], plans: Plans) -> bool:
    path: GroupPath = ()
    for tick, (now, statistic) in enumerate(zip(units, z, strict=True)):
        ended = path_after(path, Information(now, True, tick, None), statistic, plans)
        if ended and abs(ended[-1].z) >= ended[-1].boundary:
            return True
        if ended != path:
            path = path_after(path, Information(now, False, tick, None), statistic, plans)
    return False


def _ends_as_looks(z: Floats, replications: int, plan: GroupPlan, name: str) -> Check:
    """Return the control: every end is an official look, with what may be spent by then."""
    boundaries = [next_boundary((), one, plan=plan)[0] for one in TICKS]
    grid, known = START, 0.0
    for tick, (at, boundary) in enumerate(zip(TICKS, boundaries, strict=True)):
        known += 2 * exit_high(grid, at, boundary)
        if at < TICKS[-1]:
            grid = advance(grid, Region(at, -boundary, boundary), step=TICKS[tick + 1] - at)
    return Check(
        "4.control.ends_as_looks",
        f"{name}: an end at any moment taken for a look, at what may be spent by then: calculated "
        f"to reject {100 * known:.1f} % when it may be stopped at any of {len(TICKS)} moments",
        share(np.any(np.abs(z) >= np.array(boundaries), axis=1).tolist()),
        of_known(known, replications),
        replications,
        "control",
    )


def _statistics(
    trial: Trial, replications: int, information: tuple[float, ...]
) -> tuple[Floats, tuple[float, ...]]:
    """Return z at every look, a row per experiment, and the information that was reached."""
    units = [round(one * PLANNED_UNITS / 2) for one in information]
    steps = np.diff([0, *units]).tolist()
    found = []
    for size in chunks(replications, units[-1]):
        control, treatment = (_cumulated(trial, size, steps) for _ in range(2))
        found.append(sequences(LAWS["normal"], control, treatment, Plan(ALPHA)).z)
    return np.concatenate(found), tuple(2 * one / PLANNED_UNITS for one in units)


def _cumulated(trial: Trial, size: int, steps: list[int]) -> Columns:
    drawn = [draw(LAWS["normal"], trial.rng, (size, 1), units=step).total for step in steps]
    return Columns(
        *(np.concatenate(column, axis=1) for column in zip(*drawn, strict=True))
    ).cumulated()


def _path(z: list[float], information: tuple[float, ...], plan: GroupPlan) -> GroupPath:
    path: GroupPath = ()
    for at, statistic in zip(information, z, strict=True):
        path = take_look(path, information=at, z=statistic, plan=plan)
        if is_closed(path, plan):
            break
    return path


def _cumulative_as_nominal(z: Floats, replications: int, plan: GroupPlan) -> Check:
    """Return the control: all that may be spent by now, taken as the level of this very look."""
    # Both sides' formula, as in the program that has this error (expan 1.4.0).
    total = plan._replace(spending=Spending("obrien_fleming_total"))
    spent = [
        take_look((), information=one, z=0.0, plan=total)[-1].alpha_spent
        for one in plan.planned_looks
    ]
    critical = np.array([normal_critical_value(level) for level in spent])
    return Check(
        "4.control.cumulative_as_nominal",
        "all that may be spent so far used as the level of each look: known to reject 6.1 %",
        share(np.any(np.abs(z) >= critical, axis=1).tolist()),
        of_known(0.06101457421748506, replications),
        replications,
        "control",
    )


GROUP_SEQUENTIAL = Protocol(
    "4",
    "Planned looks",
    "A group-sequential test rejects 5 % of experiments without an effect, over all of its looks "
    "together: equal ones, unequal ones, daily ones, when more units come than were planned, "
    "and whenever it is stopped.",
    "Lan-DeMets boundaries solved by the product; 20,000 experiments each, 4.5 to 5.5 %.",
    [
        Part(f"{spending}_{schedule}", partial(planned_looks, spending, schedule), seconds)
        for spending, schedule, seconds in (
            ("obrien_fleming", "equal", 30.0),
            ("obrien_fleming", "unequal", 30.0),
            ("obrien_fleming", "overrun", 25.0),
            ("obrien_fleming", "daily", 60.0),
            ("pocock", "equal", 30.0),
            ("pocock", "unequal", 30.0),
            ("power", "equal", 30.0),
        )
    ]
    + [
        Part(
            f"{spending}_{schedule}_stopped",
            partial(stopped_when_it_looked_good, spending, schedule),
            60.0,
        )
        for spending, schedule in (("pocock", "one_look"), ("obrien_fleming", "equal"))
    ],
)
