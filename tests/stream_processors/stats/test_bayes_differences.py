"""Posteriors of differences of means whose variances had to be estimated too."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import special

from stream_processors.stats import bayes_prior_rules
from stream_processors.stats.bayes import EffectPosterior, NormalPrior, effect_posterior
from stream_processors.stats.bayes_differences import Differences, difference_posteriors
from stream_processors.stats.tails import Floats


def differences(*rows: dict[str, Any]) -> Differences:
    """Return rows of ``estimate``, ``errors``, ``freedoms`` and, if not flat, ``prior``."""
    priors = [row.get("prior", NormalPrior()) for row in rows]
    return Differences(
        np.array([row["estimate"] for row in rows], dtype=np.float64),
        np.array([row["errors"] for row in rows], dtype=np.float64).T,
        np.array([row["freedoms"] for row in rows], dtype=np.float64).T,
        np.array([prior.mean for prior in priors]),
        np.array([prior.std_dev for prior in priors]),
        np.array([row.get("alpha", 0.05) for row in rows]),
        np.array([row.get("is_lower_better", False) for row in rows], dtype=bool),
    )


def posterior(**row: Any) -> EffectPosterior[float]:
    return EffectPosterior(*(float(one[0]) for one in difference_posteriors(differences(row))))


def student_density(x: Floats, freedom: float, scale: float) -> Floats:
    constant = special.gammaln((freedom + 1) / 2) - special.gammaln(freedom / 2)
    density = np.exp(constant - (freedom + 1) / 2 * np.log1p(np.square(x / scale) / freedom))
    return np.asarray(density / (scale * math.sqrt(freedom * math.pi)))


@pytest.mark.parametrize("freedom", [2, 3, 5, 6, 19, 20, 59, 60, 299, 300, 5_000])
def test_one_estimated_variance_makes_a_students_t(freedom: int) -> None:
    found = posterior(estimate=0.5, errors=(0.0, 0.3), freedoms=(math.inf, freedom))
    reach = -0.3 * special.stdtrit(freedom, 0.025)

    assert found.chance_to_win == pytest.approx(special.stdtr(freedom, 0.5 / 0.3), abs=1e-8)
    assert (found.low, found.high) == pytest.approx((0.5 - reach, 0.5 + reach), rel=1e-6)
    assert found.mean == 0.5
    if freedom == 2:
        assert math.isinf(found.std_dev)
    else:
        assert found.std_dev == pytest.approx(0.3 * math.sqrt(freedom / (freedom - 2)))


@pytest.mark.parametrize(
    ("errors", "freedoms", "prior"),
    [
        ((0.3, 0.4), (3, 5), NormalPrior(0.0, 0.5)),
        ((0.3, 0.2), (2, 2), NormalPrior(0.2, 1.0)),
        ((0.1, 0.1), (9, 30), NormalPrior(-0.1, 0.3)),
        ((0.2, 0.05), (25, 400), NormalPrior(0.4, 0.2)),
    ],
)
def test_the_posterior_is_that_of_brute_force(
    errors: tuple[float, float], freedoms: tuple[int, int], prior: NormalPrior
) -> None:
    """Both densities of t are multiplied over a grid of the control's mean and the effect."""
    estimate = 0.35
    found = posterior(estimate=estimate, errors=errors, freedoms=freedoms, prior=prior)

    spots = np.linspace(-14, 14, 1_001)
    control = errors[0] * np.sinh(spots)
    masses = student_density(control, freedoms[0], errors[0]) * np.cosh(spots)
    effects = np.linspace(prior.mean - 9 * prior.std_dev, prior.mean + 9 * prior.std_dev, 2_001)
    density = np.array(
        [
            masses @ student_density(one - estimate + control, freedoms[1], errors[1])
            for one in effects
        ]
    )
    density *= np.exp(-0.5 * np.square((effects - prior.mean) / prior.std_dev))
    density /= density.sum()
    mean = float(density @ effects)
    below = np.cumsum(density) - density / 2

    assert found.mean == pytest.approx(mean, abs=1e-6)
    assert found.std_dev == pytest.approx(math.sqrt(density @ np.square(effects - mean)), rel=1e-5)
    assert found.loss_treatment == pytest.approx(density @ np.maximum(-effects, 0), abs=2e-5)
    assert found.chance_to_win == pytest.approx(1 - np.interp(0, effects, below), abs=1e-4)
    assert np.interp([found.low, found.high], effects, below) == pytest.approx(
        [0.025, 0.975], abs=1e-4
    )


def brute_force(
    estimate: float, errors: tuple[float, float], freedoms: tuple[float, float], prior: NormalPrior
) -> tuple[float, float, float, float, float]:
    """Return mean, deviation, chance and the ends of 95 %, all by a fine grid of the effect.

    With two estimated variances the control's error is integrated over a grid as well. All in
    logarithms, and with no regard to where the weight is.
    """
    reach = 12 * prior.std_dev
    low, high = min(prior.mean, estimate) - reach, max(prior.mean, estimate) + reach
    effects = np.linspace(low, high, 40_001 if errors[0] == 0 else 1_501)
    off = effects - estimate
    if errors[0] == 0:
        log_density = log_student(off, freedoms[1], errors[1])
    else:
        span = np.abs(off).max() + 12 * max(errors)
        control = np.linspace(-span, span, 1_501)
        of_control = log_student(control, freedoms[0], errors[0])
        log_density = np.array(
            [
                special.logsumexp(of_control + log_student(one + control, freedoms[1], errors[1]))
                for one in off
            ]
        )
    log_density = log_density - 0.5 * np.square((effects - prior.mean) / prior.std_dev)
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    mean = float(density @ effects)
    deviation = math.sqrt(density @ np.square(effects - mean))
    below = np.cumsum(density) - density / 2
    ends = np.interp([0.025, 0.975], below, effects)
    return mean, deviation, 1 - float(np.interp(0, effects, below)), float(ends[0]), float(ends[1])


def log_student(x: Floats, freedom: float, scale: float) -> Floats:
    return np.asarray(-(freedom + 1) / 2 * np.log1p(np.square(x / scale) / freedom))


def drawn_contradictions(count: int, *, seed: int, pairs: bool) -> list[dict[str, Any]]:
    """Return rows whose priors are up to 25 standard errors off, with freedoms of all tiers."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        errors = random.uniform(0.05, 0.1, 2)
        freedoms = np.exp(random.uniform(math.log(3), math.log(1_000), 2))
        gap = random.uniform(0, 25) * float(np.hypot(*errors))
        if not pairs:
            errors[0], freedoms[0] = 0.0, math.inf
        prior = NormalPrior(float(random.choice([-1, 1])) * gap, float(random.uniform(0.03, 0.3)))
        rows.append(
            {
                "estimate": 0.05, "errors": tuple(errors), "freedoms": tuple(freedoms),
                "prior": prior,
            }
        )  # fmt: skip
    return rows


@pytest.mark.parametrize(("pairs", "count"), [(False, 150), (True, 4)])
def test_a_prior_that_contradicts_the_data_is_weighed_exactly(pairs: bool, count: int) -> None:
    rows = drawn_contradictions(count, seed=20_261_123, pairs=pairs)
    found = difference_posteriors(differences(*rows))

    for at, row in enumerate(rows):
        mean, deviation, chance, low, high = brute_force(
            row["estimate"], row["errors"], row["freedoms"], row["prior"]
        )
        near = (3e-3 if pairs else 1e-3) * deviation
        assert found.mean[at] == pytest.approx(mean, abs=near / 100), row
        assert found.std_dev[at] == pytest.approx(deviation, rel=1e-4), row
        assert found.chance_to_win[at] == pytest.approx(chance, abs=1e-4), row
        assert (found.low[at], found.high[at]) == pytest.approx((low, high), abs=near), row


def test_up_to_the_bound_nodes_around_the_estimates_say_what_those_of_the_box_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Priors nearly as far off as is allowed, wide and narrow, and freedoms of all tiers."""
    random = np.random.default_rng(20_261_124)
    count = 400
    freedoms = np.exp(random.uniform(math.log(20), math.log(1e6), (2, count)))
    freedoms[0, :50] = math.inf
    errors = np.exp(random.uniform(-3, 0, (2, count)))
    scale = np.hypot(*errors)
    std_devs = np.exp(random.uniform(-6, 4, count)) * scale
    allowed = np.sqrt(2 * bayes_prior_rules.TILT_MILD * np.sqrt(freedoms.min(axis=0) / 2))
    gaps = allowed * random.uniform(0.9, 0.9999, count) * random.choice([-1, 1], count)
    ones = np.ones(count)
    given = Differences(
        gaps * np.hypot(std_devs, scale), errors, freedoms, 0 * ones, std_devs, 0.05 * ones,
        ones < 0,
    )  # fmt: skip

    around = difference_posteriors(given)
    monkeypatch.setattr(bayes_prior_rules, "TILT_MILD", -1.0)
    boxes = difference_posteriors(given)

    assert np.mean(around.mean != boxes.mean) > 0.5, "two rules"
    for name in ("mean", "std_dev", "low", "high"):
        off = np.abs(getattr(around, name) - getattr(boxes, name)) / boxes.std_dev
        assert off.max() < 1e-6, name
    assert np.abs(around.chance_to_win - boxes.chance_to_win).max() < 1e-6


def test_between_two_modes_both_keep_their_weight() -> None:
    """16 standard errors or 6.4 of the prior: either may be wrong, and both are as likely."""
    errors, freedoms, prior = (0.0, 0.1), (math.inf, 12.0), NormalPrior(0.0, 0.25)
    found = posterior(estimate=1.6, errors=errors, freedoms=freedoms, prior=prior)
    expected = brute_force(1.6, errors, freedoms, prior)

    assert found.std_dev > 0.3, "two modes"
    assert (found.mean, found.std_dev) == pytest.approx(expected[:2], rel=1e-6)
    assert found.chance_to_win == pytest.approx(expected[2], abs=1e-6)


@pytest.mark.parametrize("gap", [30, 1_000, 100_000])
def test_a_prior_that_is_absurdly_far_off_still_has_an_answer(gap: float) -> None:
    prior = NormalPrior(0.0, 0.1)
    found = posterior(
        estimate=0.1 * gap, errors=(0.0, 0.1), freedoms=(math.inf, 10**6), prior=prior
    )
    of_two = posterior(
        estimate=0.1 * gap, errors=(0.07, 0.07), freedoms=(10**6, 10**6), prior=prior
    )
    spots = np.linspace(0, 0.1 * gap, 2_000_001)
    log_density = log_student(spots - 0.1 * gap, 10**6, 0.1) - 0.5 * np.square(spots / 0.1)

    assert found.mean == pytest.approx(spots[log_density.argmax()], rel=1e-3, abs=1e-3)
    for one in (found, of_two):
        assert one.low < one.mean < one.high
        assert 0 < one.std_dev <= 0.1 * gap


@pytest.mark.parametrize("prior", [NormalPrior(), NormalPrior(0.1, 0.2)])
def test_with_very_many_units_the_standard_error_is_as_good_as_known(prior: NormalPrior) -> None:
    found = posterior(
        estimate=0.2, errors=(0.06, 0.08), freedoms=(10**9, 10**9), prior=prior,
        is_lower_better=True,
    )  # fmt: skip
    known = effect_posterior(0.2, 0.1, alpha=0.05, prior=prior, is_lower_better=True)

    assert tuple(found) == pytest.approx(tuple(known), rel=1e-6)


@pytest.mark.parametrize("units", [3, 5, 10, 50])
def test_what_is_called_95_percent_likely_is_so_in_at_least_95_percent(units: int) -> None:
    """Fixed seed, variances 1 and 9; the law of Behrens and Fisher errs on the safe side."""
    replications = {3: 400, 5: 400, 10: 600, 50: 3_000}[units]
    random = np.random.default_rng([20_261_122, units])
    control = random.normal(0.0, 1.0, (replications, units))
    treatment = random.normal(0.5, 3.0, (replications, units))
    errors = np.stack([one.std(axis=1, ddof=1) for one in (control, treatment)]) / math.sqrt(units)
    estimates = treatment.mean(axis=1) - control.mean(axis=1)
    ones = np.ones(replications)

    found = difference_posteriors(
        Differences(
            estimates, errors, np.full((2, replications), units - 1.0), 0 * ones,
            math.inf * ones, 0.05 * ones, ones < 0,
        )
    )  # fmt: skip
    covered = np.mean((found.low < 0.5) & (found.high > 0.5))
    known = effect_posterior(estimates, np.hypot(*errors), alpha=0.05)
    naively = np.mean((known.low < 0.5) & (known.high > 0.5))

    noise = 3 * math.sqrt(0.95 * 0.05 / replications)
    assert covered > 0.95 - noise
    if units <= 5:
        assert naively < 0.95 - noise
    if units == 50:
        assert covered < 0.96 + noise


def test_effects_drawn_from_the_prior_lie_where_the_posterior_says() -> None:
    """Four units in each variant: of effects with chance p to be gains, a share p are."""
    replications, units = 400, 4
    random = np.random.default_rng(7)
    effects = random.normal(0.0, 1.0, replications)
    control = random.normal(0.0, 1.0, (replications, units))
    treatment = random.normal(effects[:, None], 1.0, (replications, units))
    errors = np.stack([one.std(axis=1, ddof=1) for one in (control, treatment)]) / math.sqrt(units)
    ones = np.ones(replications)
    found = difference_posteriors(
        Differences(
            treatment.mean(axis=1) - control.mean(axis=1), errors,
            np.full((2, replications), units - 1.0), 0 * ones, ones, 0.1 * ones, ones < 0,
        )
    )  # fmt: skip

    inside = np.mean((found.low < effects) & (effects < found.high))
    assert inside == pytest.approx(0.9, abs=3 * math.sqrt(0.09 / replications) + 0.01)
    assert np.mean(effects[found.chance_to_win > 0.9] > 0) > 0.88
    assert np.mean(effects[found.chance_to_win < 0.1] > 0) < 0.12


def test_many_differences_at_once_are_each_of_them() -> None:
    rows = [
        {"estimate": 0.1 * at, "errors": (0.2, 0.1 + at), "freedoms": freedoms, "alpha": 0.1}
        for at, freedoms in enumerate([(3, 400), (math.inf, 7), (30, 3), (3, 400), (25, 2_000)])
    ]
    rows[3]["prior"], rows[1]["is_lower_better"] = NormalPrior(0.0, 0.1), True

    together = difference_posteriors(differences(*rows))

    for at, row in enumerate(rows):
        alone = posterior(**row)
        assert [float(one[at]) for one in together] == pytest.approx(list(alone), rel=1e-9)


def test_turning_the_direction_swaps_chances_and_losses() -> None:
    up = posterior(estimate=0.3, errors=(0.2, 0.3), freedoms=(4, 6))
    down = posterior(estimate=0.3, errors=(0.2, 0.3), freedoms=(4, 6), is_lower_better=True)

    assert down.chance_to_win == pytest.approx(1 - up.chance_to_win)
    assert (down.loss_treatment, down.loss_control) == pytest.approx(
        (up.loss_control, up.loss_treatment)
    )
    assert up.loss_control - up.loss_treatment == pytest.approx(up.mean)
    assert (down.low, down.high) == (up.low, up.high)


@pytest.mark.parametrize(
    "bad",
    [
        {"estimate": math.nan},
        {"errors": (0.0, 0.0)},
        {"errors": (-1.0, 1.0)},
        {"freedoms": (1, 5)},
        {"prior": NormalPrior(0.0, 0.0)},
        {"alpha": 0.0},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        posterior(**({"estimate": 0.1, "errors": (0.1, 0.1), "freedoms": (5, 5)} | bad))
