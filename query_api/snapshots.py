"""The latest definition and look of every experiment, and the engine's ledger, in memory.

Written by one thread, read by any: every change is one assignment of an immutable value.
"""

import math
from typing import Any, NamedTuple

import msgspec

from schemas.times import parse_time_ms

Json = dict[str, Any]

_OF_THE_RECORD = ("segments", "integers", "inputs")
"""What a record of litmus.looks holds beside the results: those by segment, which are asked for by
themselves, and enough to compute it again."""


class Identity(NamedTuple):
    """Which look: readers keep the highest and drop repeats."""

    log_id: str
    tick: int
    sha256: str


class Snapshot(NamedTuple):
    """An experiment as it was last published.

    Attributes:
        definition: The public definition.
        results: The results object of the contract; None before the first look.
        segments: Results by segment of the same look, by attribute.
    """

    definition: Json
    results: Json | None
    segments: Json

    @property
    def identity(self) -> Identity | None:
        """Return which look this is, None before the first."""
        look = self.results and self.results.get("look")
        return identity_of(look) if look else None


class _Record(msgspec.Struct, frozen=True):
    definition: Json
    results: Json | None = None
    segments: Json = msgspec.field(default_factory=dict)


_record_decoder = msgspec.json.Decoder(_Record)


def identity_of(look: Json) -> Identity:
    """Return the identity of a ``look`` object."""
    return Identity(look.get("log_id", ""), look["tick"], look.get("sha256", ""))


class Snapshots:
    """What is known of every experiment.

    Attributes:
        ledger: The engine's ledger; None before its first record.
        caught_up: Whether all that was published before the start has been read.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Snapshot] = {}
        self.ledger: Json | None = None
        self.caught_up = False

    def get(self, experiment_id: str) -> Snapshot | None:
        """Return the snapshot of an experiment, None if there is no such experiment."""
        return self._latest.get(experiment_id)

    def in_order(self) -> list[Snapshot]:
        """Return every snapshot, in the order of creation."""
        latest = list(self._latest.values())
        return sorted(latest, key=lambda s: (s.definition["created_at"], s.definition["id"]))

    def __len__(self) -> int:
        return len(self._latest)

    def take(self, key: str, value: bytes | None) -> bool:
        """Read one record of ``litmus.snapshots``; return whether it changed anything.

        Raises:
            msgspec.MsgspecError: If it is no snapshot.
        """
        if value is None:
            return self._latest.pop(key, None) is not None
        record = _record_decoder.decode(value)
        new = Snapshot(record.definition, record.results, record.segments)
        old = self._latest.get(key)
        kept = new if old is None else _newer_of(old, new)
        if kept == old:
            return False
        self._latest[key] = kept
        return True

    def take_ledger(self, value: bytes | None) -> None:
        """Read one record of ``litmus.ledger``.

        Raises:
            msgspec.MsgspecError: If it is no ledger.
        """
        if value is None:
            return
        ledger = msgspec.json.decode(value, type=Json)
        old = self.ledger
        if old is None or _ledger_order(ledger) >= _ledger_order(old):
            self.ledger = ledger

    def age_s(self, now_ms: int) -> float:
        """Return how old the newest tick that is known is; NaN before the first.

        The ledger's ticks go on while no result changes, so this is the age of every look.
        """
        if self.ledger is None:
            return math.nan
        return (now_ms - parse_time_ms(self.ledger["as_of"])) / 1_000


def _ledger_order(ledger: Json) -> tuple[str, int]:
    return ledger.get("log_id", ""), ledger["tick"]


def _newer_of(old: Snapshot, new: Snapshot) -> Snapshot:
    """Return the newer definition with the newer look: a writer that had lost may come late."""
    old_first = old.definition["version"] > new.definition["version"]
    definition = old.definition if old_first else new.definition
    before, after = old.identity, new.identity
    is_news = after is not None and (before is None or after[:2] > before[:2])
    newer = new if is_news else old
    return Snapshot(definition, newer.results, newer.segments)


def current_results(snapshot: Snapshot, *, now_ms: int, ledger: Json | None = None) -> Json:
    """Return the results object of the contract for the latest look.

    Status and version are those of the definition now; every number is copied. Partitions that
    hold looks back are in the ledger, which is published when no look can be.
    """
    if snapshot.results is None:
        return empty_results(snapshot.definition)
    results = with_age(snapshot.results, now_ms=now_ms, ledger=ledger)
    results["status"] = snapshot.definition["status"]
    results["version"] = snapshot.definition["version"]
    if ledger and "behind" in ledger and ledger["tick"] >= results["look"]["tick"]:
        results["look"]["behind"] = ledger["behind"]
    return results


def with_age(results: Json, *, now_ms: int, ledger: Json | None = None) -> Json:
    """Return results with the age of their look, in the contract's order of fields.

    A look is made when something changes, so the latest one stays current while nothing does:
    its age counts from the last tick at which it was known to be, which is ``current_at``. How
    far settled time was behind then says how long matured units wait beyond their window.
    """
    look = results["look"]
    current_at, settled_lag_ms = look["as_of"], look.get("settled_lag_ms")
    if ledger and ledger.get("log_id") == look.get("log_id") and ledger["tick"] > look["tick"]:
        current_at = ledger["as_of"]
        if "settled" in ledger:
            settled_lag_ms = parse_time_ms(current_at) - parse_time_ms(ledger["settled"])
    age_ms = max(0, now_ms - parse_time_ms(current_at))
    aged = {"tick": look["tick"], "as_of": look["as_of"], "age_ms": age_ms}
    rest = {name: value for name, value in look.items() if name != "age_ms"}
    shown = {name: value for name, value in results.items() if name not in _OF_THE_RECORD}
    current = {"current_at": current_at, "settled_lag_ms": settled_lag_ms}
    return {**shown, "look": {**aged, **rest, **current}}


def by_segment(results: Json, segments: Json, attribute: str) -> Json:
    """Return the results of every value of an attribute, with the look that they are of."""
    return {
        "experiment_id": results["experiment_id"],
        "attribute": attribute,
        "look": results["look"],
        "segments": segments.get(attribute, []),
    }


def empty_results(definition: Json) -> Json:
    """Return the results object of an experiment without a look."""
    return {
        "experiment_id": definition["id"],
        "version": definition["version"],
        "status": definition["status"],
        "look": None,
        "variants": [{"variant": variant["id"], "units": 0} for variant in definition["variants"]],
        "crossovers": 0,
        "sample_ratio": None,
        "metrics": [],
    }
