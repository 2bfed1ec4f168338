"""A run of the suite: which protocols, how they are shown, what is written at the end."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from tools.errors import LitmusError
from tools.home import write_json
from tools.report_page import write_page
from tools.trust.checks import Protocol
from tools.trust.display import Display
from tools.trust.protocols import PROTOCOLS
from tools.trust.report import Result, failures, report_of, summary_table
from tools.trust.running import run_all

PAGE = Path(__file__).with_name("page.html")
LINES_SHOWN_MAX = 40
NOT_ASKED = "left out: the machine was not to be taken (--no-stack)"


def choose(only: str) -> list[Protocol]:
    """Return the protocols of a comma-separated list of numbers; all of them for an empty one.

    Raises:
        LitmusError: If there is none of a number.
    """
    known = {one.id: one for one in PROTOCOLS}
    ids = [one.strip() for one in only.split(",") if one.strip()]
    unknown = [one for one in ids if one not in known]
    if unknown:
        raise LitmusError(
            f"No protocol {', '.join(unknown)}; there are {', '.join(known)}: --only 1,2"
        )
    return [known[one] for one in ids] if ids else list(PROTOCOLS)


def carry_out(
    console: Console, chosen: list[Protocol], *, seed: int, scale: float, stack: bool
) -> Result:
    """Run protocols, showing how it goes."""
    began_s = time.monotonic()
    not_run = {one.id: one.not_run for one in chosen if one.not_run is not None}
    if not stack:
        not_run |= {one.id: NOT_ASKED for one in chosen if one.is_whole_stack}
    left = [one for one in chosen if one.id not in not_run]
    sizes = "at full size" if scale == 1 else f"at {scale:g} of the full sizes"
    console.print(f"[bold]Litmus trust[/]: {len(left)} protocols {sizes}, seed {seed}.")
    ran = []
    with Display(console, left) as display:
        for one in run_all(left, seed=seed, scale=scale, started=display.starts):
            display.take(one)
            if one.unavailable:
                not_run[one.protocol.id] = one.unavailable
            else:
                ran.append(one)
    return Result(seed, scale, chosen, ran, not_run, time.monotonic() - began_s)


def conclude(console: Console, result: Result, folder: Path) -> dict[str, Any]:
    """Write the report and its page, say what they say, and return the report."""
    report = report_of(result)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "trust.json", report)
    write_page(folder / "trust.html", PAGE, report)
    console.print()
    console.print(summary_table(report))
    for one in report["not_run"]:
        console.print(f"[yellow]not run: {one['id']}, {one['name']}[/]: {escape(one['reason'])}")
    for line in failures(report)[:LINES_SHOWN_MAX]:
        console.print(f"  {escape(line)}", style="red", soft_wrap=True)
    held = sum(row["passed"] for row in report["protocols"])
    console.print(
        f"{held} of {len(report['protocols'])} checks hold, {len(report['not_run'])} protocols "
        f"not run · seed {result.seed} · {result.seconds / 60:.1f} minutes",
        style="bold green" if result.passed else "bold red",
    )
    console.print(f"report: {folder}/trust.json and trust.html", soft_wrap=True)
    return report
