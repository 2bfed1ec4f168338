"""Guardrails: has a metric got no worse than by a margin? And has it got worse at all?

Three one-sided statements, each wrong with at most alpha:

- ``pass``: worse by less than the margin (non-inferior). Every guardrail has to pass before one
  ships, so passing needs no correction for their number.
- ``fail``: worse by more than the margin.
- ``harm``: worse, by whatever amount; one such alarm among many guardrails is easily chance, so
  alarms are corrected by Holm (``families``, with ``harm_p_value``).

A relative margin d is a linear contrast, treatment - (1 - d) control, and needs no ratio and no
interval of a ratio.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from stream_processors.stats.proportions import Rate
from stream_processors.stats.rate_margins import rates_in_ratio, score_bounds, score_statistic
from stream_processors.stats.sequential import mixture_variance, one_sided_sequence

Direction = Literal["increase", "decrease"]
Status = Literal["pass", "fail", "harm", "undecided"]

EXPECTED_MIN = 5
"""Converted units, and others, to expect in each variant at a relative margin of a rate; with fewer
the score test errs up to 1.6 times as often as promised, from here on about 1.2 times at most."""


class Margin(NamedTuple):
    """How much worse a metric may get.

    Attributes:
        size: Above 0: in metric units, or as a share of the control's |mean|.
        scale: Which of the two.
    """

    size: float
    scale: Literal["absolute", "relative"]


class ArmMean(NamedTuple):
    """An estimate of one variant: a mean, a rate, a ratio, a quantile.

    Attributes:
        unit_count: Units, >= 2.
        mean: Estimate, in metric units.
        std_error: Of the estimate, >= 0.
    """

    unit_count: int
    mean: float
    std_error: float


class Guardrail(NamedTuple):
    """What is guarded.

    Attributes:
        margin: How much worse it may get.
        direction: Which way is better.
        alpha: Error probability of each statement, one-sided, in (0, 1/2).
    """

    margin: Margin
    direction: Direction = "increase"
    alpha: float = 0.05


class GuardrailTest(NamedTuple):
    """A guardrail at one look. Everything is signed so that more is better.

    Attributes:
        status: ``pass``, ``fail``, ``harm``, or ``undecided``; a metric that is worse, but by
            less than the margin, passes and has ``is_harmed``.
        is_harmed: Whether it is worse at all, uncorrected for the number of guardrails.
        reason: Why nothing could be decided: ``zero_variance``; ``few_expected`` where only harm
            could (``EXPECTED_MIN``), with no bounds of the room; else None.
        margin: In metric units.
        gain: Treatment - control, towards what is better, in metric units.
        low: One-sided lower bound of the gain.
        high: One-sided upper bound of the gain.
        room: How far the treatment is from the margin: gain + margin, the contrast that is tested.
        room_low: Its one-sided lower bound; above 0: ``pass``.
        room_high: Its one-sided upper bound; below 0: ``fail``.
        statistic: Room over its standard error; None where that is 0.
        p_value: Of "worse by the margin or more"; small for ``pass``.
        harm_p_value: Of "not worse"; small for ``harm``.
        critical_value: Standard errors from an estimate to its bounds.
    """

    status: Status
    is_harmed: bool
    reason: str | None
    margin: float
    gain: float
    low: float | None
    high: float | None
    room: float
    room_low: float | None
    room_high: float | None
    statistic: float | None
    p_value: float | None
    harm_p_value: float | None
    critical_value: float | None


class Contrast(NamedTuple):
    """A signed combination of two means with its standard error and Satterthwaite's freedom."""

    estimate: float
    std_error: float
    degrees_of_freedom: float


def gain_of(control: ArmMean, treatment: ArmMean, direction: Direction) -> Contrast:
    """Return treatment - control, towards what is better."""
    return _contrast(control, treatment, weight=1.0, sign=_sign(direction), added=0.0)


def room_of(control: ArmMean, treatment: ArmMean, guardrail: Guardrail) -> Contrast:
    """Return how far the treatment is from the margin; above 0: on the right side.

    For a relative margin d and an increase that is better: treatment - (1 - d) control, with
    variance se_t² + (1 - d)² se_c². A decrease has 1 + d, and a negative mean the other sign: the
    margin is a share of |mean|.
    """
    size, scale = guardrail.margin
    sign = _sign(guardrail.direction)
    if scale == "absolute":
        return _contrast(control, treatment, weight=1.0, sign=sign, added=size)
    weight = 1 - sign * math.copysign(size, control.mean)
    return _contrast(control, treatment, weight=weight, sign=sign, added=0.0)


def fixed_guardrail(
    control: ArmMean, treatment: ArmMean, guardrail: Guardrail, *, is_rate: bool = False
) -> GuardrailTest:
    """Return a guardrail at one planned look.

    Means by Welch's t. Rates by the score test, which also works when nobody converted; against a
    relative margin once there are ``EXPECTED_MIN``.

    Args:
        control: At least two units.
        treatment: The same.
        guardrail: What is guarded.
        is_rate: Whether the means are shares of units.
    """
    if is_rate and guardrail.margin.scale == "absolute":
        return _rate_guardrail(control, treatment, guardrail)
    room = room_of(control, treatment, guardrail)
    gain = gain_of(control, treatment, guardrail.direction)
    if room.std_error == 0 or gain.std_error == 0:
        return _undecided(control, guardrail, room=room.estimate, gain=gain.estimate)
    if is_rate:
        # Wald's error of a small variant is small where it has few conversions by chance: of 50
        # units beside 950, at 1 %, z would call 63 % worse by the margin that are not.
        harm = _score_side(control, treatment, guardrail, added=0.0)
        side = _ratio_side(control, treatment, guardrail, room.estimate)
        if side is None:
            return _harm_only(control, guardrail, room=room.estimate, gain=harm)
        return _judged(control, guardrail, room=side, gain=harm)
    sides = [_t_side(one, guardrail.alpha) for one in (room, gain)]
    return _judged(control, guardrail, room=sides[0], gain=sides[1])


def sequential_guardrail(
    control: ArmMean, treatment: ArmMean, guardrail: Guardrail, *, n_star: float
) -> GuardrailTest:
    """Return a guardrail that may be watched all the time, by one-sided confidence sequences.

    Each statement is wrong at *any* look with at most alpha. The p-values are of this look; their
    running minima stay valid. A burn-in comes first, as for every sequence (``edges``).

    Args:
        control: At least two units.
        treatment: The same.
        guardrail: What is guarded.
        n_star: Units of the pair at which the sequence is about tightest; fixed at the start.
    """
    room = room_of(control, treatment, guardrail)
    gain = gain_of(control, treatment, guardrail.direction)
    if room.std_error == 0 or gain.std_error == 0:
        return _undecided(control, guardrail, room=room.estimate, gain=gain.estimate)
    units = control.unit_count + treatment.unit_count
    k = units * float(mixture_variance(2 * guardrail.alpha, n_star))
    sides = _sequential_sides((room, gain), guardrail.alpha, k)
    return _judged(control, guardrail, room=sides[0], gain=sides[1])


def planned_guardrail(
    control: ArmMean, treatment: ArmMean, guardrail: Guardrail, *, boundary: float
) -> GuardrailTest:
    """Return a guardrail at an official look of a group-sequential test.

    Args:
        control: At the look; at least two units.
        treatment: The same.
        guardrail: What is guarded.
        boundary: Of that look, of a ``GroupPlan`` with one side and the guardrail's alpha. All
            bounds of all looks hold together. There are no p-values: ``repeated_p_value`` gives
            them for a path of one statement.
    """
    room = room_of(control, treatment, guardrail)
    gain = gain_of(control, treatment, guardrail.direction)
    if room.std_error == 0 or gain.std_error == 0:
        return _undecided(control, guardrail, room=room.estimate, gain=gain.estimate)
    sides = [_Side(*_ends(one, boundary), None, None, boundary) for one in (room, gain)]
    return _judged(control, guardrail, room=sides[0], gain=sides[1])


class _Side(NamedTuple):
    """One contrast with its bounds and the p-values of "at most 0" and "at least 0"."""

    estimate: float
    std_error: float
    low: float
    high: float
    p_value: float | None
    opposite_p_value: float | None
    critical_value: float


def _ends(one: Contrast, critical: float) -> tuple[float, float, float, float]:
    reach = critical * one.std_error
    return one.estimate, one.std_error, one.estimate - reach, one.estimate + reach


def _t_side(one: Contrast, alpha: float) -> _Side:
    freedom, t = one.degrees_of_freedom, one.estimate / one.std_error
    critical = -float(special.stdtrit(freedom, alpha))
    tails = float(special.stdtr(freedom, -t)), float(special.stdtr(freedom, t))
    return _Side(*_ends(one, critical), *tails, critical)


def _sequential_sides(contrasts: Sequence[Contrast], alpha: float, k: float) -> list[_Side]:
    """Return both sides of every contrast; an upper bound is a lower one of what is negated."""
    estimates = np.array([one.estimate for one in contrasts])
    errors = np.array([one.std_error for one in contrasts])
    found = one_sided_sequence(
        np.concatenate([estimates, -estimates]), np.tile(errors, 2), k=k, alpha=alpha
    )
    critical, p_values = float(found.critical_value), found.p_value.tolist()
    opposite = p_values[len(contrasts) :]
    return [
        _Side(*_ends(one, critical), p_value, its_opposite, critical)
        for one, p_value, its_opposite in zip(contrasts, p_values, opposite, strict=False)
    ]


def _rate_guardrail(control: ArmMean, treatment: ArmMean, guardrail: Guardrail) -> GuardrailTest:
    room, gain = (
        _score_side(control, treatment, guardrail, added=added)
        for added in (guardrail.margin.size, 0.0)
    )
    return _judged(control, guardrail, room=room, gain=gain)


def _score_side(
    control: ArmMean, treatment: ArmMean, guardrail: Guardrail, *, added: float
) -> _Side:
    rates, sign = (_rate(control), _rate(treatment)), _sign(guardrail.direction)
    low, high = score_bounds(*rates, alpha=guardrail.alpha)
    low, high = (low, high) if sign > 0 else (-high, -low)
    z = sign * score_statistic(rates[0], rates[1], -sign * added)
    estimate = sign * (treatment.mean - control.mean) + added
    return _Side(
        estimate=estimate,
        std_error=estimate / z if z and math.isfinite(z) else 0.0,
        low=low + added,
        high=high + added,
        p_value=float(special.ndtr(-z)),
        opposite_p_value=float(special.ndtr(z)),
        critical_value=-float(special.ndtri(guardrail.alpha)),
    )


def _ratio_side(
    control: ArmMean, treatment: ArmMean, guardrail: Guardrail, room: float
) -> _Side | None:
    """Return the score test of a relative margin; None before enough units could be expected.

    Its bounds are of the standard error at the margin, so they agree with the p-values.

    References:
        Farrington, Manning (1990), Statistics in Medicine 9, 1447-1454: the ratio of two rates.
    """
    sign, size = _sign(guardrail.direction), guardrail.margin.size
    weight = 1 - sign * size
    rates = rates_in_ratio(_rate(control), _rate(treatment), weight)
    pairs = (control.unit_count, rates.control), (treatment.unit_count, rates.treatment)
    # With a weight of 0 or less only a treatment of 0 is beyond the margin: one conversion says no.
    expected = min(units * min(rate, 1 - rate) for units, rate in pairs)
    if weight > 0 and expected < EXPECTED_MIN:
        return None
    errors = [math.sqrt(rate * (1 - rate) / units) for units, rate in pairs]
    std_error = math.hypot(weight * errors[0], errors[1])
    z = room / std_error if std_error else math.copysign(math.inf, room) if room else 0.0
    critical = -float(special.ndtri(guardrail.alpha))
    ends = _ends(Contrast(room, std_error, math.inf), critical)
    return _Side(*ends, float(special.ndtr(-z)), float(special.ndtr(z)), critical)


def _rate(arm: ArmMean) -> Rate:
    return Rate(arm.unit_count, round(arm.mean * arm.unit_count))


def _judged(control: ArmMean, guardrail: Guardrail, *, room: _Side, gain: _Side) -> GuardrailTest:
    is_harmed = gain.high < 0
    status: Status = "undecided"
    if room.low > 0:
        status = "pass"
    elif room.high < 0:
        status = "fail"
    elif is_harmed:
        status = "harm"
    return GuardrailTest(
        status=status,
        is_harmed=is_harmed,
        reason=None,
        margin=_margin(control, guardrail),
        gain=gain.estimate,
        low=gain.low,
        high=gain.high,
        room=room.estimate,
        room_low=room.low,
        room_high=room.high,
        statistic=room.estimate / room.std_error if room.std_error else None,
        p_value=room.p_value,
        harm_p_value=gain.opposite_p_value,
        critical_value=room.critical_value,
    )


def _harm_only(
    control: ArmMean, guardrail: Guardrail, *, room: float, gain: _Side
) -> GuardrailTest:
    is_harmed = gain.high < 0
    return _undecided(control, guardrail, room=room, gain=gain.estimate)._replace(
        status="harm" if is_harmed else "undecided",
        is_harmed=is_harmed,
        reason="few_expected",
        low=gain.low,
        high=gain.high,
        harm_p_value=gain.opposite_p_value,
    )


def _undecided(
    control: ArmMean, guardrail: Guardrail, *, room: float, gain: float
) -> GuardrailTest:
    return GuardrailTest(
        status="undecided",
        is_harmed=False,
        reason="zero_variance",
        margin=_margin(control, guardrail),
        gain=gain,
        low=None,
        high=None,
        room=room,
        room_low=None,
        room_high=None,
        statistic=None,
        p_value=None,
        harm_p_value=None,
        critical_value=None,
    )


def _contrast(
    control: ArmMean, treatment: ArmMean, *, weight: float, sign: float, added: float
) -> Contrast:
    errors = abs(weight) * control.std_error, treatment.std_error
    std_error = math.hypot(*errors)
    freedom = math.inf
    if std_error > 0:
        counts = control.unit_count, treatment.unit_count
        freedom = 1 / math.fsum(
            (error / std_error) ** 4 / (count - 1)
            for error, count in zip(errors, counts, strict=True)
        )
    estimate = sign * (treatment.mean - weight * control.mean) + added
    return Contrast(estimate, std_error, freedom)


def _margin(control: ArmMean, guardrail: Guardrail) -> float:
    size, scale = guardrail.margin
    return size if scale == "absolute" else size * abs(control.mean)


def _sign(direction: Direction) -> float:
    return 1.0 if direction == "increase" else -1.0
