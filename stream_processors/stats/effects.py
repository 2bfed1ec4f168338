"""What a comparison says: the effect on both scales, by the test for one look and for all looks."""

from typing import Literal, NamedTuple

from stream_processors.stats.relative import Interval
from stream_processors.stats.sequential import SequentialTest


class FixedHorizon(NamedTuple):
    """Right for one look that was planned.

    Attributes:
        test: ``z`` for rates, ``welch`` for totals and ratios (and all that is adjusted by a
            covariate), ``woodruff`` for quantiles.
        statistic: z or t.
        p_value: Two-sided.
        low: Lower end of the interval of the difference.
        high: Its upper end.
        degrees_of_freedom: Of t; None for z.
    """

    test: Literal["z", "welch", "woodruff"]
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
    """

    status: str
    estimate: float | None = None
    method: Literal["log", "fieller"] | None = None
    fixed_horizon: Interval | None = None
    sequence: Interval | None = None
    std_error: float | None = None
    degrees_of_freedom: float | None = None


class Summary(NamedTuple):
    """A metric in one variant.

    Attributes:
        status: ``ok``, ``no_units``, ``insufficient`` (one unit: a mean only), ``undefined``
            (denominators that sum to 0) or ``invalid_input``.
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


class Effect(NamedTuple):
    """Treatment against control. What is None is so for the reason in ``status``.

    Attributes:
        status: ``ok`` or a status of ``edges``.
        flags: What a reader should know besides; ``interval_decides`` where the p-value of one
            look and the interval disagree about ruling out no effect.
        estimate: Treatment mean - control mean, in metric units.
        std_error: √(s²/n summed over both), n - 1 variances; also for rates, whose z is pooled.
        fixed_horizon: The test for one look.
        sequence: The test for all looks; None before the burn-in.
        relative: The effect on the relative scale.
        degrees_of_freedom: Satterthwaite's, of the std_error; None for quantiles.
        control: The metric in the control.
        treatment: The metric in the treatment.
        cuped: The adjusted effect; None of a metric without a covariate.
        cap: The cap that was chosen; None of a metric without a cap at a quantile.
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
