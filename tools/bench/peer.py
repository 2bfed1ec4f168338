"""The peer: the same rules in plain Python, as one would write them by hand.

Dicts and sets, one row after the other, from the very same packed batches. It knows only what the
workload needs: one experiment, first assignment decides, ids seen once, windows, exact sums.
"""

from schemas.batch import KIND_ASSIGNMENT, unpack
from schemas.definitions import Definition
from schemas.partials import Sums


class PlainPython:
    """Counts one experiment with dicts."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._seen: set[tuple[int, int]] = set()
        self._units: dict[tuple[int, int], tuple[int, str, list[int]]] = {}

    def apply(self, message: bytes) -> None:
        """Count the rows of one message; a metric event comes after its unit's assignment."""
        batch = unpack(message)
        metrics = self._definition.metrics
        rows = zip(
            batch.kind.tolist(),
            zip(batch.event_hash_high.tolist(), batch.event_hash_low.tolist(), strict=True),
            zip(batch.unit_hash_high.tolist(), batch.unit_hash_low.tolist(), strict=True),
            batch.variant.codes.tolist(),
            batch.metric.codes.tolist(),
            batch.value.tolist(),
            batch.timestamp.tolist(),
            strict=True,
        )
        for kind, event, unit, variant, name, value, timestamp in rows:
            if event in self._seen:
                continue
            self._seen.add(event)
            if kind == KIND_ASSIGNMENT:
                if unit not in self._units:
                    totals = [0] * len(metrics)
                    self._units[unit] = (timestamp, batch.variant.values[variant], totals)
                continue
            entry, _, totals = self._units[unit]
            for place, metric in enumerate(metrics):
                within = entry <= timestamp < entry + (metric.window_ms or 0)
                if metric.event != batch.metric.values[name] or not within:
                    continue
                if metric.kind == "sum":
                    totals[place] += round(value * 10**metric.precision)
                elif metric.kind == "count" or value > 0:
                    totals[place] += 1

    def sums(self) -> list[list[Sums]]:
        """Return the sums per metric and variant, over all units."""
        result = []
        for place, metric in enumerate(self._definition.metrics):
            per_variant = {variant: Sums() for variant in self._definition.variant_ids}
            for _, variant, totals in self._units.values():
                total = min(1, totals[place]) if metric.kind == "conversion" else totals[place]
                per_variant[variant] = per_variant[variant].plus(Sums(1, total, total**2))
            result.append(list(per_variant.values()))
        return result
