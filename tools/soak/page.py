"""The report of a soak as one HTML file that needs nothing else: the plots are SVG."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any

from tools.soak.judging import MB, Latency
from tools.soak.sampling import Sample

WIDTH, HEIGHT = 860, 240
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 14, 30
POINTS_MAX = 600

_COLOURS = (
    *("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951"),
    *("#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"),
)
"""As many as a stack has processes, with its supervisor and who drives it."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1e23; --faint: #8a919c; --line: #d8dbe0; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --faint: #9aa0a6; --line: #3c4043; --paper: #17191c } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 900px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto } svg text { fill: var(--faint); font-size: 11px }
.ok { color: #2e8b57 } .bad { color: #d1453b }
"""

Point = tuple[float, float]


def make_page(
    verdict: dict[str, Any], samples: Iterable[Sample], latencies: Sequence[Latency]
) -> str:
    """Return the page."""
    by_name = {
        name: list(group)
        for name, group in groupby(
            sorted(samples, key=lambda one: (one.name, one.at_s)), key=lambda one: one.name
        )
    }

    def lines(value: Callable[[Sample], float]) -> dict[str, list[Point]]:
        return {name: [(one.at_s, value(one)) for one in of] for name, of in by_name.items()}

    from_s = verdict["judged_from_s"]
    plots = [
        ("Resident memory, MB", lines(lambda one: one.rss_bytes / MB)),
        ("Open file descriptors", lines(lambda one: one.fds)),
        ("From the 202 to the look, ms", {"latency": [(one.at_s, one.ms) for one in latencies]}),
    ]
    body = "\n".join(
        f"<h2>{title}</h2>\n{plot(series, judged_from_s=from_s)}" for title, series in plots
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Litmus soak</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Litmus soak: {_verdict(verdict)}</h1>\n{_summary(verdict)}\n{_table(verdict)}\n"
        f"{body}\n</body></html>\n"
    )


def plot(series: dict[str, list[Point]], *, judged_from_s: float) -> str:
    """Return lines over minutes as SVG; what is left of the dashed line is warm-up."""
    points = [point for of in series.values() for point in of]
    if not points:
        return "<p>Nothing was measured.</p>"
    right_s = max(at for at, _ in points) or 1.0
    top = max(value for _, value in points) * 1.05 or 1.0

    def x(at_s: float) -> float:
        return round(LEFT + at_s / right_s * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM), 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        level = y(share * top)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level}" y2="{level}" '
            f'stroke="var(--line)"/><text x="{LEFT - 6}" y="{level + 4}" text-anchor="end">'
            f"{share * top:,.0f}</text>"
        )
        minutes = share * right_s / 60
        parts.append(
            f'<text x="{x(share * right_s)}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{minutes:.1f} min</text>"
        )
    if judged_from_s < right_s:
        parts.append(
            f'<line x1="{x(judged_from_s)}" x2="{x(judged_from_s)}" y1="{TOP}" '
            f'y2="{HEIGHT - BOTTOM}" stroke="var(--faint)" stroke-dasharray="4 4"/>'
        )
    for place, (name, of) in enumerate(series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(f"{x(at)},{y(value)}" for at, value in _thinned(of))
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>'
        )
        parts.append(
            f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 10 + 16 * place}" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _thinned(points: list[Point]) -> list[Point]:
    """Return at most so many points as a screen shows, the largest of each stretch."""
    stretch = -(-len(points) // POINTS_MAX)
    return [
        max(points[start : start + stretch], key=lambda point: point[1])
        for start in range(0, len(points), max(1, stretch))
    ]


def _verdict(verdict: dict[str, Any]) -> str:
    if verdict["passed"]:
        return '<span class="ok">passed</span>'
    return '<span class="bad">failed</span>'


def _summary(verdict: dict[str, Any]) -> str:
    events, latency = verdict["events"], verdict["latency"]
    sent = (
        f"{events['sent']:,} events in {verdict['seconds'] / 60:.1f} minutes "
        f"({verdict['events_per_second']:,.0f} a second), "
        f"{events['repeated']:,} of them sent twice; the ledger is {escape(events['status'])}."
    )
    lines = [
        sent,
        "Ids of the first minutes had not expired: memory is shown, not judged."
        if not verdict["memory_judged"]
        else f"Memory is judged from minute {verdict['judged_from_s'] / 60:.1f} on (dashed).",
    ]
    if latency["probes"]:
        lines.append(
            f"From the 202 to the look: p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms."
        )
    lines += [f'<b class="bad">{escape(problem)}</b>' for problem in verdict["problems"]]
    return "".join(f"<p>{line}</p>" for line in lines)


def _table(verdict: dict[str, Any]) -> str:
    head = ("process", "MB/min", "first MB", "last MB", "most MB", "fds", "threads", "CPU %")
    rows = [
        (
            escape(name),
            _shown(one["slope_mb_per_minute"]),
            one["rss_mb_first"],
            one["rss_mb_last"],
            one["rss_mb_max"],
            f"{one['fds_first']} → {one['fds_last']}",
            one["threads_last"],
            _shown(one["cpu_percent"]),
        )
        for name, one in verdict["processes"].items()
    ]
    cells = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><tr>{heads}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value)
