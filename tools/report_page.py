"""A report as a page that needs nothing else: data, plots and what draws them in one file."""

import json
from pathlib import Path
from typing import Any

from tools.settings import CHECKOUT

_UPLOT = CHECKOUT / "query_api" / "page" / "vendor" / "uplot"
_EXPORT = "export { uPlot as default };"


def write_page(path: Path, template: Path, report: dict[str, Any]) -> None:
    """Write the page of a report; see ``page_of``."""
    path.write_text(page_of(template, report), encoding="utf-8")


def page_of(template: Path, report: dict[str, Any]) -> str:
    """Return the page of a report.

    Args:
        template: HTML with a place for the report and one for each part of uPlot.
        report: What its script reads.
    """
    program = (_UPLOT / "uPlot.esm.js").read_text(encoding="utf-8")
    assert _EXPORT in program, "uPlot no longer ends as this page expects"
    parts = {
        "/*UPLOT_CSS*/": (_UPLOT / "uPlot.min.css").read_text(encoding="utf-8"),
        "/*UPLOT_JS*/": program.replace(_EXPORT, ""),
        # A text of ours may name a tag; it must not end the element that holds it.
        "/*REPORT*/": json.dumps(report).replace("<", "\\u003c"),
    }
    page = template.read_text(encoding="utf-8")
    for place, content in parts.items():
        page = page.replace(place, content, 1)
    return page
