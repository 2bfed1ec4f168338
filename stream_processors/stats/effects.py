"""What a comparison says: the effect on both scales, by the test for one look and for all looks."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from stream_processors.stats.bayes import EffectPosterior
from stream_processors.stats.edges import flag_names, status_name
from stream_processors.stats.inference import Inference
from stream_processors.stats.relative import Contrast, Interval
from stream_processors.stats.sequential import SequentialTest
from stream_processors.stats.strata import Handling

TestName = Literal["z", "welch", "woodruff", "ranks"]


class FixedHorizon(NamedTuple):
    """Right for one look that was planned.

    Attributes:
        test: ``z`` for rates, ``welch`` for totals and ratios (and all that is adjusted by a
            covariate), ``woodruff`` for quantiles, ``ranks`` for those with ties.
        statistic: z or t; of ranks √(z_c² + z_t²) (``tied_quantiles``).
        p_value: Two-sided.
        low: Lower end of the interval of the difference.
        high: Its upper end.
        degrees_of_freedom: Of t; None for z.
    """

    test: TestName
    statistic: float
    p_value: float
    low: float
    high: float
    degrees_of_freedom: float | None = None

    @property
    def rejects(self) -> bool:
        """Return whether no effect is ruled out: the interval decides, not the p-value."""
        return self.low > 0 or self.high < 0


class RelativeEffect(NamedTuple):
    """Effect as a share of the control's mean.

    Attributes:
        status: ``ok``, or why the numbers are None.
        estimate: (treatment - control) / |control|.
        method: How the fixed-horizon interval was made: ``log`` or ``fieller``.
        fixed_horizon: Its interval at one planned look; None where it is unbounded.
        sequence: Its interval at all looks, by the same method; None before the burn-in and
            where it is unbounded.
        std_error: Of the estimate, by the delta method.
        degrees_of_freedom: Of the fixed-horizon interval's t; None for a normal one.
        posterior: What is believed of it, where that was asked for.
    """

    status: str
    estimate: float | None = None
    method: Literal["log", "fieller"] | None = None
    fixed_horizon: Interval | None = None
    sequence: Interval | None = None
    std_error: float | None = None
    degrees_of_freedom: float | None = None
    posterior: EffectPosterior[float] | None = None


class Summary(NamedTuple):
    """A metric in one variant.

    Attributes:
        status: ``ok``, ``no_units``, ``insufficient`` (one unit: a mean only), ``undefined``
            (denominators that sum to 0), ``ties`` (a quantile without a standard error) or
            ``invalid_input``.
        unit_count: Units that count.
        mean: Per unit; for a ratio the ratio, for a quantile the quantile.
        variance: Of the values (of a ratio's, linearised), n - 1 in the denominator. None for
            quantiles.
        std_error: Of the mean.
    """

    status: str
    unit_count: int
    mean: float | None = None
    variance: float | None = None
    std_error: float | None = None


class AppliedCap(NamedTuple):
    """The cap of unit totals that a look chose from the grid; the same for all variants.

    Attributes:
        status: ``ok``, or why totals are not capped (``caps.CapChoice``).
        cap: In metric units; None if totals are not capped.
        capped_units: Units whose total exceeds it: the control's, the treatment's.
    """

    status: str
    cap: float | None = None
    capped_units: tuple[int, int] = (0, 0)


class CupedEffect(NamedTuple):
    """The effect with the part taken away that the units' own past explains.

    Attributes:
        status: As of ``Effect``; what it hides is None.
        flags: What a reader should know of.
        estimate: Treatment - control, adjusted, in metric units.
        std_error: Of the estimate.
        degrees_of_freedom: Satterthwaite's.
        fixed_horizon: The test for one look.
        sequence: The test for all looks; None before the burn-in.
        relative: The adjusted effect over the control's unadjusted mean.
        theta: How much a unit's value moves with its covariate.
        variance_reduction: 1 - adjusted over unadjusted variance of the effect; about ρ² where
            every unit has a pre-period. It can be a little below 0.
        covered_share: Share of both variants' units that have a pre-period.
        control_mean: The control's adjusted mean.
        treatment_mean: The treatment's.
        handling: How units without a pre-period were treated; by counts of units alone.
        posterior: What is believed of it, where that was asked for.
    """

    status: str
    flags: tuple[str, ...] = ()
    estimate: float | None = None
    std_error: float | None = None
    degrees_of_freedom: float | None = None
    fixed_horizon: FixedHorizon | None = None
    sequence: SequentialTest | None = None
    relative: RelativeEffect = RelativeEffect("undefined")
    theta: float | None = None
    variance_reduction: float | None = None
    covered_share: float | None = None
    control_mean: float | None = None
    treatment_mean: float | None = None
    handling: Handling | None = None
    posterior: EffectPosterior[float] | None = None


class Effect(NamedTuple):
    """Treatment against control. What is None is so for the reason in ``status``.

    Attributes:
        status: ``ok`` or a status of ``edges``.
        flags: What a reader should know besides; ``interval_decides`` where the p-value of one
            look and the interval disagree about ruling out no effect.
        estimate: Treatment mean - control mean, in metric units.
        std_error: √(s²/n summed over both), n - 1 variances; also for rates, whose z is pooled.
            None with the flag ``ties``.
        fixed_horizon: The test for one look.
        sequence: The test for all looks; None before the burn-in.
        relative: The effect on the relative scale.
        degrees_of_freedom: Satterthwaite's, of the std_error; None for quantiles.
        control: The metric in the control.
        treatment: The metric in the treatment.
        cuped: The adjusted effect; None of a metric without a covariate.
        cap: The cap that was chosen; None of a metric without a cap at a quantile.
        posterior: What is believed of it, where that was asked for.
    """

    status: str
    flags: tuple[str, ...]
    estimate: float | None
    std_error: float | None
    fixed_horizon: FixedHorizon | None
    sequence: SequentialTest | None
    relative: RelativeEffect
    degrees_of_freedom: float | None = None
    control: Summary = Summary("no_units", 0)
    treatment: Summary = Summary("no_units", 0)
    cuped: CupedEffect | None = None
    cap: AppliedCap | None = None
    posterior: EffectPosterior[float] | None = None


class Plan(NamedTuple):
    """How results are read, fixed at the start.

    Attributes:
        alpha: Error probability, in (0, 1).
        n_star: Units of a pair at which the sequence is about tightest.
        tau: Standard deviation of the effects that the sequence is tuned for instead, in metric
            units (mSPRT): None tunes by ``n_star``.
    """

    alpha: float = 0.05
    n_star: int = 5_000
    tau: float | None = None


def shared_fields(
    inference: Inference, contrast: Contrast, tests: Sequence[TestName]
) -> list[tuple[Any, ...]]:
    """Return the fields that unadjusted and adjusted effects share, per comparison.

    They are status, flags, estimate, standard error, fixed horizon, sequence, relative effect and
    degrees of freedom.
    """
    verdicts = inference.verdicts
    columns = zip(
        tests,
        verdicts.status.tolist(),
        verdicts.relative_status.tolist(),
        verdicts.flags.tolist(),
        verdicts.shows_effect.tolist(),
        verdicts.shows_tests.tolist(),
        verdicts.shows_sequence.tolist(),
        inference.interval_decides.tolist(),
        inference.is_tied.tolist(),
        contrast.difference.tolist(),
        inference.effect.T.tolist(),
        inference.fixed.T.tolist(),
        inference.sequence.T.tolist(),
        _relatives(inference),
        strict=True,
    )
    results: list[tuple[Any, ...]] = []
    for (
        test, status, relative_status, flags, has_effect, has_tests, has_sequence, decides,
        is_tied, difference, (std_error, freedom), fixed, sequence, relative,
    ) in columns:  # fmt: skip
        name = status_name(status)
        if not has_effect:
            results.append((name, (), None, None, None, None, RelativeEffect(name), None))
            continue
        if not has_tests:
            results.append(
                (name, (), difference, std_error, None, None, RelativeEffect(name), None)
            )
            continue
        results.append(
            (
                name,
                flag_names(flags)
                + (("interval_decides",) if decides else ())
                + (("ties",) if is_tied else ()),
                difference,
                None if is_tied else std_error,
                FixedHorizon(
                    "ranks" if is_tied else test,
                    fixed[0],
                    fixed[1],
                    fixed[2],
                    fixed[3],
                    None if is_tied or test == "z" else freedom,
                ),
                SequentialTest(*sequence) if has_sequence else None,
                relative or RelativeEffect("ties" if is_tied else status_name(relative_status)),
                None if is_tied else freedom,
            )
        )
    return results


def _relatives(inference: Inference) -> list[RelativeEffect | None]:
    """Return the effects on the relative scale; None where the verdict hides them."""
    relatives: list[RelativeEffect | None] = []
    for shown, is_log, bounded, always, numbers in zip(
        inference.verdicts.shows_relative.tolist(),
        inference.is_log.tolist(),
        inference.is_bounded.tolist(),
        inference.is_sequence_bounded.tolist(),
        inference.relative.T.tolist(),
        strict=True,
    ):
        if not shown:
            relatives.append(None)
            continue
        estimate, std_error, freedom, low, high, sequence_low, sequence_high = numbers
        relatives.append(
            RelativeEffect(
                "ok" if bounded else "undefined",
                estimate,
                "log" if is_log else "fieller",
                Interval(low, high) if bounded else None,
                Interval(sequence_low, sequence_high) if always else None,
                std_error,
                freedom if is_log and math.isfinite(freedom) else None,
            )
        )
    return relatives
