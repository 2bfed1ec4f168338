"""Restarts of merge change nothing and widen nothing: protocol 21."""

from random import Random
from typing import Any

from tools.trust.checks import Found, Part, Protocol, Trial, exactly_none
from tools.trust.logs import generate
from tools.trust.machine import Outcome, Trouble, run

KILLS = 50
KILLS_EACH = 10
UNITS = 900


def kill_merge(trial: Trial) -> Found:
    """Kill merge at random partials, its last records lost, and compare every look."""
    differing = widened = repeated = looks = 0
    kills = trial.size(KILLS, least=KILLS_EACH)
    for number in range(-(-kills // KILLS_EACH)):
        seed = int(trial.rng.integers(2**31))
        lines = generate(_random(seed), UNITS)
        # The same seed makes the same log and the same order of partials.
        calm = run(lines, partition_count=1 + 2 * (number % 2), random=_random(seed))
        rough = run(
            lines,
            partition_count=1 + 2 * (number % 2),
            random=_random(seed),
            trouble=Trouble(merge_kills=KILLS_EACH),
        )
        differing += sum(
            rough.looks.get(tick) != record for tick, record in calm.looks.items()
        ) + len(rough.looks.keys() - calm.looks.keys())
        repeated += sum(record != calm.looks[tick] for tick, record in rough.repeated)
        widened += _widenings(rough)
        looks += len(calm.looks)
    return Found(
        [
            exactly_none(
                "21.looks",
                f"looks that differ, in any number, from those without {kills} kills",
                differing,
                looks,
            ),
            exactly_none(
                "21.repeated",
                "looks that a restart published again and that said something else",
                repeated,
                looks,
            ),
            exactly_none(
                "21.widened",
                "running p-values that rose, running intervals that widened, over all looks",
                widened,
                looks,
            ),
        ]
    )


def _random(seed: int) -> Random:
    return Random(seed)  # noqa: S311  # repeatable, not secret


def _widenings(outcome: Outcome) -> int:
    """Return how often a running number lost what it had; a path is of one cap."""
    lost, before = 0, dict[tuple[str, str], tuple[float | None, tuple[float, float, float]]]()
    for tick in sorted(outcome.looks):
        for key, cap, now in _running(outcome.looks[tick]):
            known_cap, known = before.get(key, (cap, now))
            if cap == known_cap:
                lost += now[0] > known[0] or now[1] < known[1] or now[2] > known[2]
            before[key] = cap, now
    return lost


def _running(
    record: dict[str, Any],
) -> list[tuple[tuple[str, str], float | None, tuple[float, float, float]]]:
    """Return cap, and running p-value, low and high of every comparison that has them."""
    return [
        (
            (metric["metric_id"], effect["variant"]),
            (metric["cap"] or {}).get("cap"),
            (shown["running_p_value"], shown["running_low"], shown["running_high"]),
        )
        for metric in record["metrics"]
        if metric["basis"] == "matured"
        for effect in metric["effects"]
        if (shown := effect["absolute"]["always_valid"]) is not None
        and shown["running_low"] is not None
    ]


RESTARTS = Protocol(
    "21",
    "Restarts lose nothing",
    "A restart of the process that publishes looks changes no look, and no running p-value or "
    "interval ever gives back what it had.",
    "50 kills at random moments, the last records lost as a crash loses them; every number of "
    "every look must be equal.",
    [Part("kills", kill_merge, 10.0)],
)
