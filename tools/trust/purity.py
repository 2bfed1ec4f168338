"""A look is a function of what its record holds: protocol 15.

Run as a program it reads records and definitions, and nothing else, and writes the results that
the product computes from them: another process, another memory.
"""

import subprocess
import sys
from random import Random
from typing import Any

import msgspec

from schemas.definitions import Definition
from stream_processors.merge.look import recompute
from tools.settings import CHECKOUT
from tools.trust.bands import Band
from tools.trust.checks import Check, Found, Part, Protocol, Trial, exactly_none
from tools.trust.logs import experiment, generate
from tools.trust.machine import run

UNITS = 900
TOLERANCE = 1e-12
SECONDS_MAX = 300
_INPUTS = ("integers", "inputs")


class Recorded(msgspec.Struct):
    """What the other process is given."""

    definition: Definition
    records: list[dict[str, Any]]


def recompute_all(trial: Trial) -> Found:
    """Take a log to its looks; let another process compute them from their records."""
    seed = int(trial.rng.integers(2**31))
    random = Random(seed)  # noqa: S311  # repeatable, not secret
    outcome = run(generate(random, UNITS), partition_count=3, random=random)
    records = list(outcome.looks.values())
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "tools.trust.purity"],
        input=msgspec.json.encode(Recorded(experiment(), records)),
        capture_output=True,
        check=True,
        cwd=CHECKOUT,
        timeout=SECONDS_MAX,
    )
    again = msgspec.json.decode(answer.stdout)
    published = [
        _without_inputs(msgspec.json.decode(msgspec.json.encode(record))) for record in records
    ]
    numbers, others, worst = 0, int(len(again) != len(published)), 0.0
    for one, other in zip(published, again, strict=False):
        found = _compare(_blind(one), _blind(other))
        numbers += found[0]
        others += found[1]
        worst = max(worst, found[2])
    return Found(
        [
            Check(
                "15.numbers",
                f"largest relative difference of {numbers:,} numbers of {len(records)} looks, "
                "computed again from their records in another process",
                worst,
                Band(0.0, TOLERANCE),
                len(records),
                "exact",
            ),
            exactly_none(
                "15.words",
                "fields, statuses and words that differ between the two",
                others,
                len(records),
            ),
        ]
    )


def _without_inputs(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _INPUTS}


def _blind(results: dict[str, Any]) -> dict[str, Any]:
    """Return results without what depends on when they are read: which partitions were behind."""
    return results | {"look": results["look"] | {"behind": []}}


def _compare(one: Any, other: Any) -> tuple[int, int, float]:
    """Return how many numbers were compared, what else differs, and the largest difference."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() | other.keys()
        return _added([_compare(one.get(key), other.get(key)) for key in keys])
    if isinstance(one, list) and isinstance(other, list):
        found = [_compare(*pair) for pair in zip(one, other, strict=False)]
        return _added([*found, (0, int(len(one) != len(other)), 0.0)])
    if _is_number(one) and _is_number(other):
        scale = max(abs(one), abs(other))
        return 1, 0, abs(one - other) / scale if scale else 0.0
    return 0, int(one != other), 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _added(found: list[tuple[int, int, float]]) -> tuple[int, int, float]:
    return (
        sum(one[0] for one in found),
        sum(one[1] for one in found),
        max((one[2] for one in found), default=0.0),
    )


def main() -> None:
    """Compute the looks of the records on standard input."""
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Recorded)
    looks = [recompute(record, given.definition) for record in given.records]
    sys.stdout.buffer.write(msgspec.json.encode([_without_inputs(look.record) for look in looks]))


PURITY = Protocol(
    "15",
    "A look can be computed again",
    "Every number of a published look follows from its own record: the integers, the definition "
    "and the path that it names. Nothing else is needed, and nothing else enters.",
    "All looks of a random log, computed again in another process; numbers within 1e-12, "
    "everything else equal.",
    [Part("recompute", recompute_all, 5.0)],
)

if __name__ == "__main__":
    main()
