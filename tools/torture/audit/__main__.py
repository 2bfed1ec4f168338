"""``python -m tools.torture.audit HOME``: audits a run again that was kept in a home."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tools.home import Home
from tools.settings import Settings
from tools.torture.examining import examine_run
from tools.torture.run import JOURNAL


def main(
    home: Annotated[Path, typer.Argument(help="Home of a stopped stack.", exists=True)],
    ledger: Annotated[
        Path | None, typer.Option(help="What /v1/ledger said at last, as JSON, if it was kept.")
    ] = None,
) -> None:
    """Audit a kept run; exit 0 only if there is no difference."""
    console = Console()
    with Home(home).locked():
        settings = Settings(home=home.resolve())
        said = None if ledger is None else json.loads(ledger.read_text())
        report = examine_run(settings, settings.home / JOURNAL, said, console)
    for line in report.differences:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print_json(data=report.compared)
    console.print(
        f"{report.events_compared:,} events and {report.looks_compared:,} looks compared, "
        f"{report.difference_count} differences"
    )
    raise typer.Exit(1 if report.difference_count else 0)


if __name__ == "__main__":
    typer.run(main)
