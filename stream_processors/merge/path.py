"""What looks remember of looks: running p-values and running intervals. They only narrow."""

from typing import Any

import msgspec


class ComparisonPath(msgspec.Struct, frozen=True):
    """The looks so far at one variant and metric, matured units only.

    Attributes:
        p_value: Smallest always-valid p-value so far.
        low: Highest lower end so far; None before the first look after the burn-in.
        high: Lowest upper end so far.
    """

    p_value: float = 1.0
    low: float | None = None
    high: float | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether the intersection of the intervals is empty: for good, then."""
        return self.low is not None and self.high is not None and self.low > self.high

    def after(self, p_value: float, low: float, high: float) -> "ComparisonPath":
        """Return the path with one more look."""
        return ComparisonPath(
            min(self.p_value, p_value),
            low if self.low is None else max(self.low, low),
            high if self.high is None else min(self.high, high),
        )


class ExperimentPath(msgspec.Struct, frozen=True):
    """The path state of an experiment. MessagePack and JSON keep its doubles exactly.

    Attributes:
        comparisons: By metric id, then by variant id.
        sample_ratio_p_value: Smallest sequential p-value of the sample ratio so far.
    """

    comparisons: dict[str, dict[str, ComparisonPath]] = msgspec.field(default_factory=dict)
    sample_ratio_p_value: float = 1.0

    def of(self, metric_id: str, variant_id: str) -> ComparisonPath:
        """Return the path of one comparison."""
        return self.comparisons.get(metric_id, {}).get(variant_id, _NO_LOOK)

    def exact(self) -> dict[str, Any]:
        """Return it with every float as a hexadecimal string, as it goes into an identity."""
        return {
            "comparisons": {
                metric_id: {
                    variant_id: [_hex(path.p_value), _hex(path.low), _hex(path.high)]
                    for variant_id, path in paths.items()
                }
                for metric_id, paths in self.comparisons.items()
            },
            "sample_ratio_p_value": self.sample_ratio_p_value.hex(),
        }

    @classmethod
    def from_exact(cls, value: dict[str, Any]) -> "ExperimentPath":
        """Return the path that ``exact`` wrote down."""
        comparisons = {
            metric_id: {
                variant_id: ComparisonPath(float.fromhex(p_value), _from_hex(low), _from_hex(high))
                for variant_id, (p_value, low, high) in paths.items()
            }
            for metric_id, paths in value["comparisons"].items()
        }
        return cls(comparisons, float.fromhex(value["sample_ratio_p_value"]))


_NO_LOOK = ComparisonPath()


def _hex(value: float | None) -> str | None:
    return None if value is None else value.hex()


def _from_hex(value: str | None) -> float | None:
    return None if value is None else float.fromhex(value)
