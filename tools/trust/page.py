"""The report as a page that needs nothing else: data, plots and what draws them in one file."""

import json
from pathlib import Path
from typing import Any

from tools.settings import CHECKOUT

_TEMPLATE = Path(__file__).with_name("page.html")
_UPLOT = CHECKOUT / "query_api" / "page" / "vendor" / "uplot"
_EXPORT = "export { uPlot as default };"


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write the page of a report."""
    path.write_text(page_of(report), encoding="utf-8")


def page_of(report: dict[str, Any]) -> str:
    """Return the page of a report."""
    program = (_UPLOT / "uPlot.esm.js").read_text(encoding="utf-8")
    assert _EXPORT in program, "uPlot no longer ends as this page expects"
    parts = {
        "/*UPLOT_CSS*/": (_UPLOT / "uPlot.min.css").read_text(encoding="utf-8"),
        "/*UPLOT_JS*/": program.replace(_EXPORT, ""),
        # A text of ours may name a tag; it must not end the element that holds it.
        "/*REPORT*/": json.dumps(report).replace("<", "\\u003c"),
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    for place, content in parts.items():
        page = page.replace(place, content, 1)
    return page
