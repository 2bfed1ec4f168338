"""Why units must have matured before they decide: protocols 23 and 24.

In both, the same experiments are read on two bases by the same functions: on all units with their
totals to date (open), and on the units whose window is over (matured).
"""

import numpy as np

from stream_processors.stats.effects import Plan
from stream_processors.stats.group_sequential import GroupPath, GroupPlan, is_closed, take_look
from tools.trust.bands import Band, around, at_most, near
from tools.trust.checks import Check, Figure, Found, Part, Protocol, Trial, share
from tools.trust.laws import LAWS, Columns, Floats, Rng, chunks, sums_of
from tools.trust.product import Mask, sequences

ALPHA = 0.05
LAW = LAWS["normal"]._replace(title="use", precision=2)
RATE = LAWS["bernoulli_0.1"]

UNITS = 120
"""Per variant, all entered at once."""

MINUTES_A_DAY = 24 * 60
WATCHED_DAYS = 90
WINDOW_DAYS = 7
LOOKS = np.unique(np.rint(np.geomspace(1, WATCHED_DAYS * MINUTES_A_DAY, 400))).astype(np.int64)
"""Minutes since enrolment at which somebody looks: every minute first, then ever less often."""

MATURED_AT = int(np.searchsorted(LOOKS, WINDOW_DAYS * MINUTES_A_DAY))
USE_SPREAD = 2.0
"""Standard deviation of a unit's use in a minute."""

DAILY_UNITS = 200
DAYS = 14
OPEN_ENDED_RUNS = 40_000
OPEN_ENDED_REFERENCE = 0.0596
"""Lan-DeMets on open totals at 14 daily looks, by another program."""

SOONER_DAYS = 28
SOONER_UNITS = 500
SOONER_WINDOW_DAYS = 7
SOONER_RATE = 0.1


def enrolment_over(trial: Trial) -> Found:
    """Stop to enrol at once, and go on to watch totals that grow for 90 days."""
    replications = trial.size(4_000, least=600)
    plan = Plan(alpha=ALPHA, n_star=2 * UNITS)
    ever_open: list[Mask] = []
    ever_matured: list[Mask] = []
    for size in chunks(replications, len(LOOKS) * UNITS):
        totals = [_use(trial.rng, size) for _ in range(2)]
        columns = [sums_of(np.swapaxes(one, 1, 2)) for one in totals]
        shown = sequences(LAW, columns[0], columns[1], plan)
        ever_open.append(np.logical_or.accumulate(shown.excludes(0.0) & shown.is_shown, axis=1))
        matured = sequences(LAW, _matured(totals[0]), _matured(totals[1]), plan)
        rejects = matured.excludes(0.0) & matured.is_shown
        ever_matured.append(np.asarray(np.any(rejects, axis=1)))
    by_look = np.concatenate(ever_open)
    matured_share = share(np.concatenate(ever_matured))
    checks = [
        Check(
            "23.open",
            f"totals that still grow, watched for {WATCHED_DAYS} days: A/A experiments that "
            "reject; must be too many",
            share(by_look[:, -1]),
            Band(around(ALPHA, replications).high, None),
            replications,
            "control",
        ),
        Check(
            "23.matured",
            "the same experiments, units counted when their week is over: that reject",
            matured_share,
            at_most(ALPHA, replications),
            replications,
        ),
    ]
    days = LOOKS / MINUTES_A_DAY
    figure = Figure(
        "23.open_and_matured",
        "lines",
        "Enrolment is over, totals still grow",
        "days",
        "share of A/A experiments that ever rejected",
        days.tolist(),
        {
            "open totals": by_look.mean(axis=0).tolist(),
            "matured units": np.where(days >= WINDOW_DAYS, matured_share, 0.0).tolist(),
            "promised": [ALPHA] * len(days),
        },
        note="No unit is added after the first moment, so a test that counts units does not know "
        "that it is looked at anew.",
    )
    return Found(checks, [figure])


def daily_cohorts(trial: Trial) -> Found:
    """Enrol for 14 days, and read a group-sequential test at open totals or at matured units."""
    replications = trial.size(20_000, least=1_000)
    plan = GroupPlan(ALPHA, planned_looks=tuple(day / DAYS for day in range(1, DAYS + 1)))
    rejected: dict[str, list[bool]] = {"open": [], "matured": []}
    for size in chunks(replications, DAYS * DAILY_UNITS * 4):
        arms = [_cohorts(trial.rng, size) for _ in range(2)]
        for basis, place in (("open", 0), ("matured", 1)):
            z = sequences(LAW, arms[0][place], arms[1][place], Plan(alpha=ALPHA)).z
            rejected[basis] += [_group_rejects(row, plan) for row in z.tolist()]
    return Found(
        [
            Check(
                "23.group_sequential.open",
                f"planned looks at open totals, {DAYS} days: A/A experiments that reject, against "
                "another simulator, which found 6.0 %",
                share(rejected["open"]),
                near(OPEN_ENDED_REFERENCE, of=OPEN_ENDED_RUNS, replications=replications),
                replications,
                "control",
            ),
            Check(
                "23.group_sequential.matured",
                f"planned looks at units that have had their day, {DAYS} days: that reject",
                share(rejected["matured"]),
                around(ALPHA, replications),
                replications,
            ),
        ]
    )


def sooner(trial: Trial) -> Found:
    """Let a treatment change when people buy, and not whether."""
    replications = trial.size(5_000, least=300)
    plan = Plan(alpha=ALPHA, n_star=SOONER_DAYS * SOONER_UNITS)
    control = _purchases(trial.rng, replications, delays=SOONER_WINDOW_DAYS)
    treatment = _purchases(trial.rng, replications, delays=1)
    checks, curves = [], {}
    for place, basis in enumerate(("open", "matured")):
        shown = sequences(RATE, control[place], treatment[place], plan)
        ever = np.logical_or.accumulate(shown.excludes(0.0) & shown.is_shown, axis=1)
        curves[f"{basis} basis"] = ever.mean(axis=0).tolist()
        found = share(ever[:, -1])
        if basis == "open":
            check = Check(
                "24.open",
                "a treatment that only makes people buy sooner: experiments in which open totals "
                "show an effect; must be nearly all",
                found,
                Band(0.9, None),
                replications,
                "control",
            )
        else:
            check = Check(
                "24.matured",
                "the same experiments, units whose week is over: that show an effect",
                found,
                at_most(ALPHA, replications),
                replications,
            )
        checks.append(check)
    figure = Figure(
        "24.sooner",
        "lines",
        "The same people buy, only sooner",
        "days",
        "share of experiments that found an effect",
        [float(day) for day in range(1, SOONER_DAYS + 1)],
        curves | {"promised": [ALPHA] * SOONER_DAYS},
        note="On any day the treatment's newest units have bought already and the control's have "
        "not. It is not noise: the open basis measures something else, and more data makes it "
        "more certain of it.",
    )
    return Found(checks, [figure])


def _use(rng: Rng, size: int) -> Floats:
    """Return totals to date at every look, in quanta: shape (size, units, looks)."""
    spans = np.sqrt(np.diff(LOOKS, prepend=0)) * USE_SPREAD * 10**LAW.precision
    values = rng.standard_normal((size, UNITS, len(LOOKS))) * spans
    return np.cumsum(np.rint(values, out=values), axis=2, out=values)


def _matured(totals: Floats) -> Columns:
    """Return the sums of units whose window is over, as they come: looks at every tenth unit."""
    final = totals[:, :, MATURED_AT]
    return sums_of(final.reshape(len(final), UNITS // 10, 10)).cumulated()


def _cohorts(rng: Rng, size: int) -> tuple[Columns, Columns]:
    """Return sums of open totals after each day, and of the first day's totals."""
    quanta = 10.0**LAW.precision
    values = rng.standard_normal((size, DAYS, DAILY_UNITS, DAYS))
    # A unit's day d counts from its own entry: days after the last one are not seen.
    # Around 0: a mean above it would spread the totals of young and old units further apart.
    values = np.rint(values * quanta)
    totals = np.cumsum(values, axis=3)
    matured = sums_of(totals[..., 0]).cumulated()
    by_day = []
    for day in range(DAYS):
        ages = day - np.arange(day + 1)
        seen = totals[:, np.arange(day + 1), :, ages]
        # Indexing by two arrays puts their axis first: (cohort, size, units).
        by_day.append(sums_of(np.swapaxes(seen, 0, 1).reshape(size, -1)))
    columns = (np.stack(column, axis=1) for column in zip(*by_day, strict=True))
    return Columns(*columns), matured


def _group_rejects(z: list[float], plan: GroupPlan) -> bool:
    path: GroupPath = ()
    for information, statistic in zip(plan.planned_looks, z, strict=True):
        path = take_look(path, information=information, z=statistic, plan=plan)
        if is_closed(path, plan):
            break
    return bool(abs(path[-1].z) >= path[-1].boundary)


def _purchases(rng: Rng, size: int, *, delays: int) -> tuple[Columns, Columns]:
    """Return sums after each day, open and matured, of units that enter evenly.

    A tenth buys, on one of the first ``delays`` days, each as likely.
    """
    days = SOONER_DAYS
    buyers = rng.binomial(SOONER_UNITS, SOONER_RATE, (size, days))
    by_delay = rng.multinomial(buyers, np.full(delays, 1 / delays))
    open_buyers = np.zeros((size, days))
    for delay in range(delays):
        open_buyers[:, delay:] += by_delay[:, : days - delay, delay]
    units = np.full((size, days), float(SOONER_UNITS))
    seen = _rate_columns(units, open_buyers)
    matured_units, matured_buyers = np.zeros((2, size, days))
    matured_units[:, SOONER_WINDOW_DAYS:] = SOONER_UNITS
    matured_buyers[:, SOONER_WINDOW_DAYS:] = buyers[:, : days - SOONER_WINDOW_DAYS]
    return seen.cumulated(), _rate_columns(matured_units, matured_buyers).cumulated()


def _rate_columns(units: Floats, buyers: Floats) -> Columns:
    return Columns(units, buyers[..., None], buyers[..., None])


GROWING = Protocol(
    "23",
    "Enrolment over, totals still growing",
    "When no units come any more but totals still grow, every look is a new draw that a test "
    "over units cannot count; on matured units nothing changes once all have matured.",
    "Experiments without an effect: the open basis must reject in more than 5 % (it is why it "
    "never decides), the matured one in at most 5 % (+ chance).",
    [Part("watched", enrolment_over, 6.0), Part("planned_looks", daily_cohorts, 180.0)],
)

SOONER = Protocol(
    "24",
    "Buying sooner is not buying more",
    "A treatment that only makes people buy sooner has no effect on who buys within a week; "
    "totals to date say that it has.",
    "28 days of 500 units a day and variant, a daily look, 5,000 experiments: the open basis must "
    "be wrong in nearly all, the matured one in at most 5 % (+ chance).",
    [Part("sooner", sooner, 5.0)],
)
