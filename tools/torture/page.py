"""The report as a page that needs nothing else."""

from pathlib import Path
from typing import Any


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write it."""
