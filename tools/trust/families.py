"""Many comparisons, one promise: protocol 10."""

import numpy as np

from stream_processors.stats.multiplicity import adjust_e_values, adjust_p_values
from stream_processors.stats.sequential import confidence_sequence
from stream_processors.stats.tails import two_sided_normal_p_value
from tools.trust.bands import STD_ERRORS, Band, at_most
from tools.trust.checks import Check, Found, Part, Protocol, Trial, share
from tools.trust.laws import Floats

ALPHA = 0.05
SIZE = 10
TRUE_EFFECTS = 3
EFFECT = 3.0
"""In standard errors."""

CORRELATION = 0.5
REPLICATIONS = 10_000
UNITS = 10_000


def no_effects(trial: Trial) -> Found:
    """Try families without any effect: a claim in a family is a false one."""
    replications = trial.size(REPLICATIONS, least=500)
    checks = []
    for name, correlation in (("independent", 0.0), ("correlated", CORRELATION)):
        p_values = two_sided_normal_p_value(_statistics(trial, replications, correlation))
        claimed = [
            any(adjust_p_values(row, procedure="holm", alpha=ALPHA).rejects)
            for row in p_values.tolist()
        ]
        checks.append(
            Check(
                f"10.holm.{name}",
                f"families of {SIZE} {name} comparisons without effects in which Holm claims one",
                share(claimed),
                at_most(ALPHA, replications),
                replications,
            )
        )
    unadjusted = share(np.any(p_values < ALPHA, axis=1).tolist())
    checks.append(
        Check(
            "10.unadjusted",
            "the same, correlated, without any correction: too many",
            unadjusted,
            Band(0.2, None),
            replications,
            "control",
        )
    )
    return Found(checks)


def some_effects(trial: Trial) -> Found:
    """Try families with three true effects among ten: the share of false claims is bounded."""
    replications = trial.size(REPLICATIONS, least=500)
    bound = ALPHA * (SIZE - TRUE_EFFECTS) / SIZE
    checks = []
    for name, correlation in (("independent", 0.0), ("correlated", CORRELATION)):
        z = _statistics(trial, replications, correlation)
        z[:, :TRUE_EFFECTS] += EFFECT
        log_e = confidence_sequence(z, np.ones_like(z), unit_count=UNITS, alpha=ALPHA, n_star=UNITS)
        false, found = _false_discoveries(
            [
                adjust_p_values(row, procedure="benjamini_hochberg", alpha=ALPHA).rejects
                for row in two_sided_normal_p_value(z).tolist()
            ]
        )
        checks += _discovery_checks(f"10.bh.{name}", f"BH, {name}", false, found, bound)
        false, found = _false_discoveries(
            [adjust_e_values(row, alpha=ALPHA).rejects for row in log_e.log_e_value.tolist()]
        )
        checks += _discovery_checks(f"10.e_bh.{name}", f"e-BH, {name}", false, found, ALPHA)
    return Found(checks)


def _statistics(trial: Trial, replications: int, correlation: float) -> Floats:
    shared = trial.rng.standard_normal((replications, 1))
    own = trial.rng.standard_normal((replications, SIZE))
    return np.asarray(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)


def _false_discoveries(claims: list[tuple[bool, ...]]) -> tuple[Floats, Floats]:
    """Return the share of false ones among the claims of each family, and of effects found."""
    table = np.array(claims)
    wrong = table[:, TRUE_EFFECTS:].sum(axis=1)
    return wrong / np.maximum(table.sum(axis=1), 1), table[:, :TRUE_EFFECTS].mean(axis=1)


def _discovery_checks(
    check_id: str, title: str, false: Floats, found: Floats, bound: float
) -> list[Check]:
    replications = len(false)
    reach = STD_ERRORS * float(false.std()) / np.sqrt(replications)
    return [
        Check(
            check_id,
            f"{title}: false ones among the claims, 3 of 10 comparisons with an effect",
            float(false.mean()),
            Band(None, bound + reach),
            replications,
        ),
        Check(
            f"{check_id}.found",
            f"{title}: effects that it finds: it must find some",
            float(found.mean()),
            Band(0.05, None),
            replications,
            "control",
        ),
    ]


FAMILIES = Protocol(
    "10",
    "Several comparisons at once",
    "With ten comparisons in a family, Holm makes a false claim in at most 5 % of families; the "
    "false ones among the claims of BH and e-BH stay below their bound.",
    "10,000 families, independent and with a correlation of .5; bounds + 4 standard errors.",
    [Part("no_effects", no_effects, 3.0), Part("some_effects", some_effects, 4.0)],
)
