"""Every look that was published, held to the reference at exactly its tick and offsets."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from tools.torture.audit.findings import Findings
from tools.torture.audit.partition_fold import FATES
from tools.torture.audit.reference import Moment, TickState

Json = dict[str, Any]

LOOKS, LEDGER = "looks", "ledger"


class LookAudit:
    """Takes looks in the order of ``litmus.looks`` and walks the reference beside them.

    Attributes:
        compared: Looks whose integers were held to the reference.
    """

    def __init__(
        self, states: Iterator[TickState], ledgers: dict[int, Json], findings: Findings
    ) -> None:
        """Start before the first tick.

        Args:
            states: The reference, tick by tick.
            ledgers: Records of the engine's ledger, by tick.
            findings: Where differences go.
        """
        self.compared = 0
        self._states = states
        self._state: TickState | None = None
        self._ledgers = ledgers
        self._findings = findings
        self._identities: dict[tuple[str, int], str] = {}
        self._definitions: dict[str, tuple[Any, str]] = {}
        self._paths: dict[tuple[str, str, str], tuple[float | None, Json]] = {}
        self._ended = False

    @property
    def tick(self) -> int:
        """Return the tick that the reference stands at."""
        return self._state.number if self._state else 0

    def take(self, value: bytes) -> None:
        """Compare the next look of the topic."""
        one = msgspec.json.decode(value)
        experiment_id, tick = one["experiment_id"], one["look"]["tick"]
        key, sha256 = (experiment_id, tick), one["look"]["sha256"]
        where = f"{experiment_id}, tick {tick}"
        if key in self._identities:
            self._findings.compare("repeated looks", where, self._identities[key], sha256)
            return
        self._identities[key] = sha256
        if tick < self.tick:
            self._findings.differ(LOOKS, f"{where}: comes after looks of tick {self.tick}")
            return
        self.advance(tick)
        if self.tick != tick or self._state is None:
            self._findings.differ(LOOKS, f"{where}: no tick {tick} in every partition")
            return
        moment = self._state.moments.get(experiment_id)
        if moment is None:
            self._findings.differ(LOOKS, f"{where}: no such experiment")
            return
        self.compared += 1
        if not moment.needs_look:
            self._findings.differ(LOOKS, f"{where}: nothing had changed, expected no look")
        moment.needs_look = False
        self._compare(where, one, moment, self._state)
        self._compare_paths(where, one)

    def advance(self, tick: int) -> None:
        """Walk the reference up to a tick; what should have been published by then is missing."""
        while self.tick < tick and not self._ended:
            self._leave()
            state = next(self._states, None)
            if state is None:
                self._ended = True
                return
            self._state = state
            ledger = self._ledgers.get(state.number)
            if ledger is not None:
                compare_ledger(ledger, state, self._findings)

    def finish(self, tick: int) -> None:
        """Walk up to the last tick that was merged, and leave it."""
        self.advance(tick)
        if self.tick < tick:
            self._findings.differ(LOOKS, f"merged up to tick {tick}, partitions hold {self.tick}")
        self._leave()

    def _leave(self) -> None:
        if self._state is None:
            return
        for experiment_id, moment in self._state.moments.items():
            if moment.needs_look:
                self._findings.differ(
                    LOOKS, f"{experiment_id}, tick {self.tick}: expected a look, found none"
                )
                moment.needs_look = False

    def _compare(self, where: str, one: Json, moment: Moment, state: TickState) -> None:
        definition, inputs = moment.rules.definition, one["inputs"]
        expected = moment.as_strings()
        for name in expected.keys() | one["integers"].keys():
            found = one["integers"].get(name)
            wanted = expected.get(name)
            if found != wanted and not (wanted is None and _is_empty(found)):
                self._findings.differ(LOOKS, f"{where}, {name}: expected {wanted}, found {found}")
        times = state.times
        offsets = {str(number): offset for number, offset in state.offsets.items()}
        for name, wanted, found in (
            ("inputs.integers", one["integers"], inputs["integers"]),
            ("inputs.times", [times.log_ms, times.settled_ms, times.horizon_ms], inputs["times"]),
            ("inputs.tick", state.number, inputs["tick"]),
            ("offsets", offsets, one["look"]["offsets"]),
            ("inputs.offsets", offsets, inputs["offsets"]),
            ("inputs.definition", self._identity_of(definition), inputs["definition"]),
            ("sha256", _identity(inputs), one["look"]["sha256"]),
            ("final", (moment.is_final, moment.is_final), (one["final"], inputs["final"])),
            ("version", definition.version, one["version"]),
            ("status", definition.status, one["status"]),
            ("crossovers", moment.integers[moment.rules.crossovers], one["crossovers"]),
            (
                "variants",
                list(zip(moment.rules.places, moment.integers, strict=False)),
                [(two["variant"], two["units"]) for two in one["variants"]],
            ),
            ("metrics", moment.published(), _published(one["metrics"])),
        ):
            if wanted != found:
                self._findings.differ(LOOKS, f"{where}, {name}: expected {wanted}, found {found}")
        self._findings.count(LOOKS)

    def _identity_of(self, definition: Any) -> str:
        known = self._definitions.get(definition.id)
        if known is None or known[0] is not definition:
            known = self._definitions[definition.id] = (definition, _identity(definition))
        return known[1]

    def _compare_paths(self, where: str, one: Json) -> None:
        """No running interval widens, no running p-value rises, as long as they are of one cap."""
        for metric in one["metrics"]:
            for effect in metric["effects"]:
                now = effect["absolute"].get("always_valid")
                if now is None:
                    continue
                path = (one["experiment_id"], metric["metric_id"], effect["variant"])
                cap = (metric.get("cap") or {}).get("cap")
                known_cap, before = self._paths.get(path, (cap, None))
                self._paths[path] = (cap, now)
                self._findings.count("running intervals")
                if before is not None and cap == known_cap and _is_wider(before, now):
                    line = f"{where}, {path[1]}, {path[2]}: widened from {before} to {now}"
                    self._findings.differ("running intervals", line)


def compare_ledger(ledger: Json, state: TickState, findings: Findings) -> None:
    """Hold a record of the engine's ledger to the reference at its tick."""
    where = f"tick {state.number}"
    for number, rows in state.rows.items():
        wanted = {"partition": number, "offset": state.offsets[number]}
        wanted |= dict(zip(FATES, rows, strict=True))
        told: Json = next((one for one in ledger["partitions"] if one["partition"] == number), {})
        # It may say more than that.
        same = {name: told.get(name) for name in wanted}
        findings.compare(LEDGER, f"{where}, partition {number}", wanted, same)
    totals = [sum(column) for column in zip(*state.rows.values(), strict=True)]
    findings.compare(
        LEDGER, f"{where}, rows", dict(zip(FATES, totals, strict=True)), ledger["rows"]
    )
    for experiment_id, wanted in state.ledgers.items():
        found = ledger["experiments"].get(experiment_id)
        findings.compare(LEDGER, f"{where}, experiment {experiment_id}", wanted, found)
    unknown = ledger["experiments"].keys() - state.ledgers.keys()
    if unknown:
        findings.differ(LEDGER, f"{where}: experiments {sorted(unknown)}, expected none of these")


def _published(metrics: list[Json]) -> list[Json]:
    return [
        {
            "metric_id": one["metric_id"],
            "basis": one["basis"],
            "variants": [(two["variant"], two["units"], two["total"]) for two in one["variants"]],
        }
        for one in metrics
    ]


def _identity(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def _is_empty(found: Any) -> bool:
    """Return whether what a look shows beside what is expected is nothing at all."""
    return found in (None, [], {}) or (isinstance(found, list) and not any(found))


def _is_wider(before: Json, now: Json) -> bool:
    if now["running_p_value"] > before["running_p_value"]:
        return True
    if before["running_low"] is None or now["running_low"] is None:  # empty, and stays so
        return before["running_low"] is None and now["running_low"] is not None
    return bool(
        now["running_low"] < before["running_low"] or now["running_high"] > before["running_high"]
    )
