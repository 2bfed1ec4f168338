"""The integers of a look, as the reference shows them: the only place that knows their form."""

from typing import Any

from tools.torture.audit.rules import COVARIATE_SUMS, SUMS, MetricRules, Rules


def shown(rules: Rules, integers: list[int]) -> dict[str, Any]:
    """Return an experiment's integers as strings, by the names that a look gives them."""
    width = len(rules.places)

    def rows(start: int, size: int) -> list[list[str]]:
        return [
            [str(one) for one in integers[at : at + size]]
            for at in range(start, start + size * width, size)
        ]

    def covariates(metric: MetricRules, start: int) -> list[list[str]]:
        if not metric.days:
            return []
        return [[n, q, x, qq, qx, xx] for n, q, qq, x, xx, qx in rows(start, COVARIATE_SUMS)]

    found: dict[str, Any] = {
        "units": [str(one) for one in integers[:width]],
        "crossovers": str(integers[rules.crossovers]),
        "matured": [rows(one.matured, SUMS) for one in rules.metrics],
        "open": [rows(one.start, SUMS) for one in rules.metrics],
        "overflowed": [str(integers[one.overflowed]) for one in rules.metrics],
    }
    if rules.has_covariates:
        found["matured_covariates"] = [
            covariates(one, one.matured_covariates) for one in rules.metrics
        ]
        found["open_covariates"] = [covariates(one, one.covariates) for one in rules.metrics]
    return found
