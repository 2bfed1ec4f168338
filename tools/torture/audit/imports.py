"""Imports: what their senders were told, held to what the log holds and the ledger says.

A batch is compared by two numbers per partition that do not depend on the order of its rows: how
many there are, and the sum of their fingerprints. A row that is missing, there twice, of another
day or in another partition changes one of them.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from schemas.times import parse_time_ms
from tools.torture.audit.findings import Findings
from tools.torture.audit.hashing import hash128, partition_of
from tools.torture.audit.units import DAY_MS
from tools.torture.journal import Command, CommandAttempt, Entry

Json = dict[str, Any]
IMPORTED = "imported rows"
_BATCH = re.compile(r"/v1/imports/([^/]+)/(\d+)")
_MODULUS = 1 << 64
_encode = msgspec.msgpack.Encoder().encode

BatchKey = tuple[str, int]
"""Id of the import, number of the batch."""


class Batch(NamedTuple):
    """Rows of a batch in one partition: how many, and the sum of their fingerprints."""

    rows: int = 0
    checksum: int = 0

    def plus(self, fingerprint: int) -> "Batch":
        """Return it with one more row."""
        return Batch(self.rows + 1, (self.checksum + fingerprint) % _MODULUS)


Contents = tuple[Batch, ...]
"""By partition."""

Logged = Mapping[int, Mapping[BatchKey, Batch]]
"""By partition, the batches that were the next ones there."""


def fingerprint_of_row(high: int, low: int, metric: str, day: int, value: float) -> int:
    """Return 64 bits of a row: the unit's hash, name of the events, UTC day, value."""
    said = _encode((high, low, metric, day, value + 0.0))  # both zeros are one
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "little")


class Sent(NamedTuple):
    """What senders of imports were told.

    Attributes:
        done: Contents of batches of which a sender was told that they are done.
        possible: Contents of batches that may be there, because no answer came.
    """

    done: dict[BatchKey, list[Contents]]
    possible: dict[BatchKey, list[Contents]]


def read_sent(entries: Iterable[Entry], partition_count: int) -> Sent:
    """Return what a journal says of imports."""
    open_batches: dict[int, tuple[BatchKey, Contents]] = {}
    sent = Sent({}, {})
    for entry in entries:
        if isinstance(entry, Command):
            found = _BATCH.fullmatch(entry.path)
            if found is not None:
                key = found[1], int(found[2])
                open_batches[entry.number] = key, _contents(entry.body, partition_count)
        elif isinstance(entry, CommandAttempt) and entry.number in open_batches:
            key, contents = open_batches[entry.number]
            if entry.fate == "rejected":
                continue
            kept = (sent.done if entry.fate == "accepted" else sent.possible).setdefault(key, [])
            if contents not in kept:
                kept.append(contents)
    return sent


def compare_imports(sent: Sent, logged: Logged, findings: Findings) -> None:
    """Hold what senders were told to the log: each batch as a whole, in every partition."""
    keys = set(sent.done) | {key for batches in logged.values() for key in batches}
    for key in sorted(keys):
        where = f"import {key[0]}, batch {key[1]}"
        contents = sent.done.get(key, [])
        found = [logged[number].get(key) for number in sorted(logged)]
        findings.count(IMPORTED, sum(one.rows for one in found if one is not None))
        if len(contents) > 1:
            findings.differ(IMPORTED, f"{where}: two different contents were told to be done")
        elif contents:
            for number, (expected, there) in enumerate(zip(contents[0], found, strict=True)):
                if expected != there:
                    line = f"{where}, partition {number}: expected {expected}, found {there}"
                    findings.differ(IMPORTED, line)
        elif not any(_may_be(one, found) for one in sent.possible.get(key, ())):
            findings.differ(IMPORTED, f"{where}: expected nothing, nobody sent this")


def _may_be(contents: Contents, found: list[Batch | None]) -> bool:
    """Return whether a batch without an answer is there whole, or in some partitions."""
    return all(there is None or there == one for one, there in zip(contents, found, strict=True))


def compare_ledger(told: list[Json], logged: Logged, findings: Findings) -> None:
    """Hold the ledger's account of imports to the log's: of an import whose batches are done."""
    for one in told:
        name, count = one["import_id"], one["batches"]
        rows = sum(
            batch.rows
            for batches in logged.values()
            for (import_id, number), batch in batches.items()
            if import_id == name and number <= count
        )
        wanted = {"rows": rows, "log_rows": rows, "difference": 0, "parts_missing": 0}
        findings.compare("ledger", f"import {name}", wanted, {key: one[key] for key in wanted})


def _contents(body: bytes, partition_count: int) -> Contents:
    parts = [Batch()] * partition_count
    for line in body.splitlines():
        said = msgspec.json.decode(line)
        key = f"{said.get('unit_type', 'user')}/{said['unit_id']}"
        timestamp = said["timestamp"]
        at_ms = parse_time_ms(timestamp) if isinstance(timestamp, str) else timestamp
        row = (*hash128(key), said["metric"], at_ms // DAY_MS, float(said.get("value", 1.0)))
        number = partition_of(key, partition_count)
        parts[number] = parts[number].plus(fingerprint_of_row(*row))
    return tuple(parts)
