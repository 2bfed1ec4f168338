"""A plan at the terminal: one column per method, the formula below, and a curve."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from query_api.measuring import Measured
from schemas.planning import Answer, CurvePoint, Formula, SplitAnswer

METHOD_WORDS = {
    "always_valid": "always valid",
    "group_sequential": "group sequential",
    "fixed_horizon": "fixed horizon",
    "bayesian": "Bayesian",
}
GOAL_WORDS = {
    "sample_size": "Units that are needed",
    "power": "Power that there is",
    "minimum_effect": "Smallest effect that is found",
}
CHECK_WORDS = {"sequential": "watched", "chi_square": "at the last look"}
BAR_WIDTH = 40


def show(console: Console, answers: Sequence[Answer], measured: Measured | None) -> None:
    """Print answers to one question; one per method."""
    first = answers[0]
    if measured is not None:
        console.print(
            f"From {measured.metric_id} as of {measured.as_of}: {measured.units:,} units of the "
            "control that count.",
            markup=False,
        )
    console.print(f"{GOAL_WORDS[first.goal]} ({first.kind}, control at {_number(first.baseline)})")
    console.print(_table(answers))
    for one in answers:
        _tell_formula(console, METHOD_WORDS[one.method], one.formula)
        for note in one.notes:
            console.print(f"  {note}", style="yellow", markup=False, soft_wrap=True)
        if one.curve:
            _draw(console, one.curve, one.units)


def show_split(console: Console, answer: SplitAnswer) -> None:
    """Print which broken split the checks see; one column per check."""
    shares = ", ".join(f"{share:.4g}" for share in answer.shares)
    console.print(f"Broken split, planned {shares}, units of variant {answer.variant} lost")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for one in answer.checks:
        table.add_column(CHECK_WORDS[one.check], justify="right")
    checks = answer.checks
    table.add_row("", *("" if one.status == "ok" else "not attainable" for one in checks))
    table.add_row("lost", *(_share(one.loss) for one in checks))
    table.add_row("units that come", *(_count(one.units) for one in checks))
    table.add_row("power", *(_share(one.power) for one in checks))
    console.print(table)
    for one in checks:
        _tell_formula(console, CHECK_WORDS[one.check], one.formula)
    for note in answer.notes:
        console.print(f"  {note}", style="yellow", markup=False, soft_wrap=True)


def _tell_formula(console: Console, title: str, formula: Formula) -> None:
    console.print(f"\n{title}: {formula.name}", style="bold", markup=False)
    console.print(f"  {formula.expression}", markup=False, soft_wrap=True)
    console.print(f"  {formula.source}", style="dim", markup=False, soft_wrap=True)


def _table(answers: Sequence[Answer]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for one in answers:
        table.add_column(METHOD_WORDS[one.method], justify="right")
    for title, write in _ROWS:
        cells = [write(one) for one in answers]
        if any(cells):
            table.add_row(title, *(cell or "–" for cell in cells))  # noqa: RUF001  # a dash
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.4g} %"


def _days(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _status(one: Answer) -> str:
    return "" if one.status == "ok" else one.status.replace("_", " ")


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} times"


def _level(one: Answer) -> str:
    return f"{one.alpha_per_comparison:.4g}" if one.comparisons > 1 else ""


_ROWS: tuple[tuple[str, Callable[[Answer], str]], ...] = (
    ("", _status),
    ("units, all variants", lambda one: _count(one.units)),
    ("units per variant", lambda one: ", ".join(f"{count:,}" for count in one.units_by_variant)),
    ("power", lambda one: _share(one.power)),
    ("power at one look", lambda one: _share(one.power_single_look)),
    ("effect", lambda one: _number(one.effect)),
    ("relative effect", lambda one: _share(one.relative_effect)),
    ("smallest relative effect", lambda one: _share(one.relative_minimum_effect)),
    ("days", lambda one: _days(one.days)),
    ("units at the stop, on average", lambda one: _count(one.expected_units)),
    ("the same without an effect", lambda one: _count(one.expected_units_null)),
    ("days to the stop, on average", lambda one: _days(one.expected_days)),
    ("units over fixed horizon", lambda one: _times(one.inflation)),
    ("alpha of a comparison", _level),
    ("N*", lambda one: _count(one.n_star)),
    ("|z| to exceed", lambda one: ", ".join(f"{bound:.3f}" for bound in one.boundaries)),
    ("assurance", lambda one: _share(one.assurance)),
)


def _draw(console: Console, curve: Sequence[CurvePoint], units: int | None) -> None:
    console.print("  units        power", style="dim")
    for point in curve:
        bar = "█" * round(BAR_WIDTH * point.power)
        near = units is not None and abs(point.units - units) <= units / len(curve)
        style = "bold green" if near else ""
        line = f"  {point.units:>11,}  {100 * point.power:5.1f} %  {bar}"
        console.print(line, style=style, markup=False)
