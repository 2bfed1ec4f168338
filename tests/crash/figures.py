"""Figures of crash tests: ``.litmus/reports/crash.json``, and a table at the end of the run."""

from statistics import median
from typing import Any

from tests.crash.killing import Recovery
from tools.home import read_json, write_json
from tools.settings import SHARED

REPORT = SHARED / "reports" / "crash.json"


def write_figures(test: str, figures: dict[str, Any]) -> None:
    """Replace what the report says of one test."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT, (read_json(REPORT) or {}) | {test: figures})


def recovery_figures(recoveries: list[Recovery]) -> dict[str, Any]:
    """Return, per process and over all, kills and seconds until it was live again."""
    names = sorted({one.name for one in recoveries})
    groups = {name: [one for one in recoveries if one.name == name] for name in names}
    return {name: _summary(group) for name, group in (groups | {"all": recoveries}).items()}


def _summary(recoveries: list[Recovery]) -> dict[str, Any]:
    seconds = [one.seconds for one in recoveries]
    return {
        "kills": len(recoveries),
        "recovery_s_p50": round(median(seconds), 2),
        "recovery_s_max": round(max(seconds), 2),
        "of_it_backoff_s_p50": round(median(one.pause_seconds for one in recoveries), 2),
    }


def table(figures: dict[str, Any]) -> list[str]:
    """Return the lines of a table of one test's figures."""
    lines = [f"{name:<22} {value}" for name, value in figures.items() if name != "recovery"]
    for name, one in figures.get("recovery", {}).items():
        lines.append(
            f"{name:<22} {one['kills']} kills, live again after {one['recovery_s_p50']} s (p50), "
            f"{one['recovery_s_max']} s (max)"
        )
    return lines
