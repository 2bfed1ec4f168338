"""``litmus trust``: try what the statistics promise, and publish what was found."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from tools.errors import LitmusError
from tools.settings import SHARED

REPORTS = SHARED / "reports"
PLAIN_WIDTH = 120
_INTERRUPTED = 130


def trust(
    *,
    seed: Annotated[
        int, typer.Option(envvar="SEED", min=0, help="The same one draws the same numbers.")
    ] = 1,
    only: Annotated[
        str, typer.Option(help="Protocols to run, by number: 1,2,14. All without it.")
    ] = "",
    scale: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of the full sizes; bands widen.")
    ] = 1.0,
    stack: Annotated[
        bool, typer.Option(help="Run what starts the whole stack, too; it needs the machine.")
    ] = True,
    reports: Annotated[Path, typer.Option(help="Folder of trust.json and trust.html.")] = REPORTS,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Try every promise of the statistics on the product's own functions; exit 1 if one fails."""
    from tools.trust.suite import (  # noqa: PLC0415  # seconds of imports, for every command
        carry_out,
        choose,
        conclude,
    )

    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    # Stopped by a supervisor or a timeout, it must not leave a stack behind.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = carry_out(console, choose(only), seed=seed, scale=scale, stack=stack)
    except LitmusError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(_INTERRUPTED)
    report = conclude(console, result, reports.absolute())
    if as_json:
        print(json.dumps(report, indent=2))
    sys.exit(0 if result.passed else 1)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
