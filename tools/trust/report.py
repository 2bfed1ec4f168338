"""What a run came to: ``trust.json``, for programs, and the table that a person sees."""

import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from rich.table import Table

from tools.trust.bands import Band
from tools.trust.checks import Figure, Protocol
from tools.trust.running import Judged, Ran


class Result(NamedTuple):
    """A run of the suite.

    Attributes:
        seed: Of all that was drawn.
        scale: Share of the full sizes; 1 is the proof, less is a rehearsal.
        protocols: Those that were asked for, in order.
        ran: Their parts.
        not_run: Protocol id to why it was not run.
        seconds: On the clock.
    """

    seed: int
    scale: float
    protocols: Sequence[Protocol]
    ran: Sequence[Ran]
    not_run: dict[str, str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Return whether all that ran held, and something ran."""
        return bool(self.ran) and all(bool(one.passed) for one in self.ran)


def report_of(result: Result) -> dict[str, Any]:
    """Return ``.litmus/reports/trust.json``."""
    order = {one.id: place for place, one in enumerate(result.protocols)}
    ran = sorted(result.ran, key=lambda one: (order[one.protocol.id], _place(one)))
    rows = [_row(one.protocol, judged) for one in ran for judged in one.judged]
    return {
        "seed": result.seed,
        "scale": result.scale,
        "passed": result.passed,
        "seconds": round(result.seconds, 1),
        "protocols": rows,
        "not_run": [
            {"id": one.id, "name": one.name, "reason": result.not_run[one.id]}
            for one in result.protocols
            if one.id in result.not_run
        ],
        "errors": [
            {"id": f"{one.protocol.id}.{one.part.name}", "error": one.error}
            for one in ran
            if one.error
        ],
        "about": [
            _about(one, [row for row in rows if row["protocol"] == one.id], ran)
            for one in result.protocols
        ],
        "figures": [_figure(figure) for one in ran for figure in one.found.figures],
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }


def summary_table(report: dict[str, Any]) -> Table:
    """Return the table of protocols: what held, what did not, what was not run."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "protocol", "checks", "held", "second try", "CPU s"):
        table.add_column(name, justify="left" if name in ("", "protocol") else "right")
    for one in report["about"]:
        if one["status"] == "not run":
            table.add_row(one["id"], one["name"], "-", "not run", "-", "-", style="yellow")
            continue
        style = None if one["status"] == "passed" else "bold red"
        table.add_row(
            one["id"],
            one["name"],
            str(one["checks"]),
            str(one["held"]),
            str(one["second_tries"]),
            f"{one['seconds']:.0f}",
            style=style,
        )
    return table


def failures(report: dict[str, Any]) -> list[str]:
    """Return a line for everything that did not hold."""
    lines = [
        f"{row['id']}: {_number(row['value'])}, must be {_band_text(row)}"
        + (f"; second seed: {_number(row['second_value'])}" if "second_value" in row else "")
        for row in report["protocols"]
        if not row["passed"]
    ]
    return lines + [f"{one['id']}: {one['error']}" for one in report["errors"]]


def _place(one: Ran) -> int:
    return [part.name for part in one.protocol.parts].index(one.part.name)


def _row(protocol: Protocol, judged: Judged) -> dict[str, Any]:
    check = judged.check
    row: dict[str, Any] = {
        "id": check.id,
        "protocol": protocol.id,
        "name": check.name,
        "value": _finite(check.value),
        "low": _limit(check.band.low),
        "high": _limit(check.band.high),
        "replications": check.replications,
        "passed": bool(judged.passed),
        "kind": check.kind,
    }
    if judged.again is not None:
        row |= {
            "second_value": _finite(judged.again.value),
            "second_low": _limit(judged.again.band.low),
            "second_high": _limit(judged.again.band.high),
        }
    return row


def _about(protocol: Protocol, rows: list[dict[str, Any]], ran: Sequence[Ran]) -> dict[str, Any]:
    mine = [one for one in ran if one.protocol.id == protocol.id]
    status = "not run"
    if mine:
        status = "passed" if all(one.passed for one in mine) else "failed"
    return {
        "id": protocol.id,
        "name": protocol.name,
        "claim": protocol.claim,
        "method": protocol.method,
        "status": status,
        "checks": len(rows),
        "held": sum(row["passed"] for row in rows),
        "second_tries": sum("second_value" in row for row in rows),
        "seconds": round(sum(one.seconds for one in mine), 1),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return figure._asdict() | {
        "bands": {
            label: {"low": low, "high": high} for label, (low, high) in (figure.bands or {}).items()
        }
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _limit(value: float | None) -> float | None:
    return None if value is None else float(value)


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.5g}"


def _band_text(row: dict[str, Any]) -> str:
    band = Band(row["low"], row["high"])
    if band.low is None:
        return f"<= {_number(band.high)}"
    if band.high is None:
        return f">= {_number(band.low)}"
    return f"{_number(band.low)} to {_number(band.high)}"
