"""The dataset as three experiments, and what their results have to be. Pure.

Control is the policy ``random``, treatment is ``bts``. A unit is one impression.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tools.demo.dataset import CAMPAIGNS, Dataset

ALPHA = 0.05
N_STAR = 5_000
WINDOW_MS = 5_000

METRIC = "click"
UNIT_TYPE = "impression"
VARIANTS = {"control": "random", "treatment": "bts"}
"""Which policy a variant is."""

TITLES = {"all": "all items", "men": "men's items", "women": "women's items"}


class Arm(NamedTuple):
    """What the data say of one variant.

    Attributes:
        units: Impressions.
        conversions: Impressions with a click.
    """

    units: int
    conversions: int

    @property
    def rate(self) -> float:
        """Return the share of impressions with a click."""
        return self.conversions / self.units


class Reading(NamedTuple):
    """One comparison of two arms, as its two kinds of readers read it.

    Attributes:
        z: Statistic of the pooled two-sided z test of two rates.
        p_value: Its p-value, true to its name at one look that was fixed beforehand.
        low: Lower end of the always-valid interval of the difference.
        high: Its upper end.
    """

    z: float
    p_value: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Return whether a fixed-horizon reader would call this a difference."""
        return self.p_value < ALPHA

    @property
    def excludes_zero(self) -> bool:
        """Return whether the always-valid interval decides."""
        return self.low > 0 or self.high < 0


def experiment_id(campaign: str) -> str:
    """Return the id of a campaign's experiment."""
    return f"obd-{campaign}"


def definition_of(campaign: str) -> dict[str, Any]:
    """Return the definition of a campaign's experiment, as it is posted."""
    return {
        "id": experiment_id(campaign),
        "name": f"Open Bandit Dataset, {TITLES[campaign]}: Thompson sampling against chance",
        "unit_type": UNIT_TYPE,
        "hypothesis": {
            "null": "Items chosen by Thompson sampling are clicked as often as random ones.",
            "alternative": "They are clicked more or less often.",
        },
        "variants": [
            {"id": "control", "weight": 0.5, "is_control": True},
            {"id": "treatment", "weight": 0.5},
        ],
        "metrics": [
            {
                "id": METRIC,
                "kind": "conversion",
                "role": "decision",
                "window": f"{WINDOW_MS // 1000}s",
            }
        ],
        "analysis": {"method": "always_valid", "alpha": ALPHA, "n_star": N_STAR},
    }


def truth_of(dataset: Dataset) -> dict[str, dict[str, Arm]]:
    """Return units and conversions by campaign and variant, counted in the files."""
    return {
        campaign: {
            variant: Arm(
                len(dataset[campaign, policy].clicked),
                int(dataset[campaign, policy].clicked.sum()),
            )
            for variant, policy in VARIANTS.items()
        }
        for campaign in CAMPAIGNS
    }


def reading_of(arms: Mapping[str, Arm]) -> Reading:
    """Return what the two tests say of these counts, computed from the textbook's formulas.

    Written apart from the platform's statistics on purpose: the demo holds one to the other.
    The interval is the asymptotic confidence sequence of Waudby-Smith et al., arXiv:2103.06476.
    """
    control, treatment = arms["control"], arms["treatment"]
    estimate = treatment.rate - control.rate
    count = control.units + treatment.units
    pooled = (control.conversions + treatment.conversions) / count
    pooled_error = math.sqrt(pooled * (1 - pooled) * (1 / control.units + 1 / treatment.units))
    z = estimate / pooled_error
    error = math.sqrt(_mean_variance(control) + _mean_variance(treatment))
    radius = error * critical_value(count)
    return Reading(z, math.erfc(abs(z) / math.sqrt(2)), estimate - radius, estimate + radius)


def critical_value(count: int) -> float:
    """Return how many standard errors the always-valid interval spans on either side."""
    rho_squared = (-2 * math.log(ALPHA) + math.log(1 - 2 * math.log(ALPHA))) / N_STAR
    k = count * rho_squared
    return math.sqrt((1 + k) / k * 2 * math.log(math.sqrt(1 + k) / ALPHA))


def _mean_variance(arm: Arm) -> float:
    return arm.rate * (1 - arm.rate) / (arm.units - 1)
