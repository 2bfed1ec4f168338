"""``litmus plan``: asks the same questions as ``POST /v1/power``, without a stack."""

import json
import sys
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console

from query_api.measuring import Measured
from schemas.planning import Answer, SplitAnswer
from tools.errors import LitmusError, NotRunningError
from tools.home import Home
from tools.planning.measured import measure
from tools.planning.showing import show, show_split
from tools.settings import Settings

METHODS = ("always_valid", "group_sequential", "fixed_horizon", "bayesian")

_OPTIONS = {
    "effect.absolute": "--effect",
    "effect.relative": "--relative-effect",
    "margin.absolute": "--margin",
    "margin.relative": "--relative-margin",
    "prior.sd": "--prior-sd",
    "prior.mean": "--prior-mean",
    "covariate_correlation": "--correlation",
    "covariate_share": "--correlation-share",
    "weights": "--weight",
    "planned_looks": "--planned-look",
    "variant": "--lost-variant",
}
"""Options that are not called like their field."""


def plan(
    experiment: Annotated[
        str | None,
        typer.Option(help="Take what is not given from this experiment's present look."),
    ] = None,
    *,
    metric: Annotated[
        str | None, typer.Option(help="Of that experiment; else the first that decides.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(help="Address of the query API; else that of the stack.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="conversion, count, sum, mean, ratio, quantile; or sample_ratio."),
    ] = None,
    baseline: Annotated[
        float | None, typer.Option(help="The control's rate, mean, ratio or quantile.")
    ] = None,
    sd: Annotated[
        float | None, typer.Option(help="Standard deviation of a unit's total; not for rates.")
    ] = None,
    effect: Annotated[
        float | None, typer.Option(help="Effect to find, in metric units; 0.01 is one point.")
    ] = None,
    relative_effect: Annotated[
        float | None, typer.Option(help="The same as a share of the baseline: 0.05 is 5 %.")
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(help="sample_size, power or minimum_effect; else what is left open."),
    ] = None,
    units: Annotated[
        int | None, typer.Option(help="Units of all variants together that there will be.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="Instead of units: how long it may take.")
    ] = None,
    units_per_day: Annotated[
        float | None, typer.Option(help="New units a day of the whole experiment.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="How long a unit's total takes to mature, as 72h.")
    ] = None,
    variants: Annotated[int | None, typer.Option(help="Variants, the control included.")] = None,
    weight: Annotated[
        list[float] | None, typer.Option(help="Share of a variant, the control's first; repeat.")
    ] = None,
    decision_metrics: Annotated[
        int | None, typer.Option(help="Metrics that decide; alpha is shared by all comparisons.")
    ] = None,
    correction: Annotated[str | None, typer.Option(help="bonferroni (default) or none.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Error probability; 0.05.")] = None,
    power: Annotated[float | None, typer.Option(help="Wanted power; 0.8.")] = None,
    sides: Annotated[int | None, typer.Option(help="2, or 1.")] = None,
    direction: Annotated[str | None, typer.Option(help="increase or decrease.")] = None,
    method: Annotated[
        str | None, typer.Option(help=f"{', '.join(METHODS)}, or all to compare them.")
    ] = None,
    formula: Annotated[
        str | None,
        typer.Option(
            help="Fixed horizon: pooled, unpooled (also of a margin), evan_miller, arcsine;"
            " noncentral_t, normal."
        ),
    ] = None,
    correlation: Annotated[
        float | None, typer.Option(help="Of a unit's total with its value before the entry.")
    ] = None,
    correlation_share: Annotated[
        float | None, typer.Option(help="Share of units that have such a value.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Of a guardrail, in metric units: how much worse.")
    ] = None,
    relative_margin: Annotated[
        float | None, typer.Option(help="The same as a share of the baseline.")
    ] = None,
    n_star: Annotated[
        int | None, typer.Option(help="Always valid: units at which it is tightest.")
    ] = None,
    looks: Annotated[int | None, typer.Option(help="Always valid: looks of a whole run.")] = None,
    planned_look: Annotated[
        list[float] | None, typer.Option(help="Group sequential: share of the units; repeat.")
    ] = None,
    spending: Annotated[
        str | None, typer.Option(help="Group sequential: obrien_fleming, pocock or power.")
    ] = None,
    prior_sd: Annotated[
        float | None, typer.Option(help="Bayesian: of a normal prior of the effect.")
    ] = None,
    prior_mean: Annotated[float | None, typer.Option(help="Bayesian: its mean.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Bayesian: chance to be better at which one decides.")
    ] = None,
    loss: Annotated[
        float | None,
        typer.Option(help="Sample ratio: share of a variant's units that are lost, 0.01 is 1 %."),
    ] = None,
    lost_variant: Annotated[
        int | None, typer.Option(help="Sample ratio: which one loses them; 0 is the control.")
    ] = None,
    curve: Annotated[bool, typer.Option(help="Draw power against units.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Plan an experiment: units, power, smallest effect, days; for every metric and method.

    What is left out is worked out: without an effect the smallest one that is found, with units
    or days the power, else the units. With --kind sample_ratio: which broken split is seen.
    """
    given: dict[str, Any] = {
        "kind": kind, "baseline": baseline, "sd": sd, "goal": goal, "units": units, "days": days,
        "units_per_day": units_per_day, "window": window, "variants": variants, "weights": weight,
        "decision_metrics": decision_metrics, "correction": correction, "alpha": alpha,
        "power": power, "sides": sides, "direction": direction, "method": method,
        "formula": formula, "covariate_correlation": correlation,
        "covariate_share": correlation_share, "n_star": n_star, "looks": looks,
        "planned_looks": planned_look, "spending": spending, "threshold": threshold,
        "effect": _together(absolute=effect, relative=relative_effect),
        "margin": _together(absolute=margin, relative=relative_margin),
        "prior": _together(sd=prior_sd, mean=prior_mean), "loss": loss, "variant": lost_variant,
    }  # fmt: skip
    question = {name: value for name, value in given.items() if value is not None}
    console = Console(highlight=False)
    try:
        if kind == "sample_ratio":
            _tell_split(console, question, as_json=as_json)
        measured = _measured(experiment, metric, query)
        answers = answers_to(question, measured, curve=curve)
    except LitmusError as error:
        if as_json:
            print(json.dumps({"error": str(error)}))
        else:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    if as_json:
        shown = [msgspec.to_builtins(one) for one in answers]
        print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2))
    else:
        show(console, answers, measured)
    sys.exit(0 if any(one.status == "ok" for one in answers) else 2)


def _tell_split(console: Console, question: dict[str, Any], *, as_json: bool) -> NoReturn:
    """Print what the checks of the split see, and end.

    Raises:
        LitmusError: If the question is none; the message names the options.
    """
    found = split_answer_to(question)
    if as_json:
        print(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        show_split(console, found)
    sys.exit(0 if any(one.status == "ok" for one in found.checks) else 2)


def split_answer_to(question: dict[str, Any]) -> SplitAnswer:
    """Return what the checks of the split see.

    Raises:
        LitmusError: If the question is none; the message names the options.
    """
    from query_api.planning import InvalidQuestionError  # noqa: PLC0415  # a second of CPU
    from query_api.planning_split import (  # noqa: PLC0415  # the same
        read_split_question,
        split_answer,
    )

    try:
        return split_answer(read_split_question(question))
    except InvalidQuestionError as error:
        lines = [f"{_option(one.field)}: {one.message}" for one in error.errors]
        raise LitmusError("\n".join(lines)) from error


def answers_to(
    given: dict[str, Any], measured: Measured | None = None, *, curve: bool = False
) -> list[Answer]:
    """Return the answers to a question, one for each method that is asked for.

    Args:
        given: Fields of ``POST /v1/power``; ``method`` may be ``all``.
        measured: What stands for fields that are not given.
        curve: Whether to work out power against units, too.

    Raises:
        LitmusError: If the question is none; the message names the options.
    """
    from query_api.planning import (  # noqa: PLC0415  # a second of CPU, for every command
        InvalidQuestionError,
        answer,
        read_question,
        without_unread,
    )

    question = _merged(given, {} if measured is None else measured.question)
    for name in ("kind", "baseline"):
        if name not in question:
            raise LitmusError(f"--{name}: must be there, or --experiment to take it from.")
    methods = METHODS if question.get("method") == "all" else (question.get("method"),)
    answers = []
    for method in methods:
        asked = question | {"curve": curve} | ({} if method is None else {"method": method})
        kept = without_unread(asked)
        if len(methods) == 1:  # What was measured gives way to a method; what is given is judged.
            kept |= {name: asked[name] for name in given if name in asked}
        asked = kept
        try:
            answers.append(answer(read_question(asked)))
        except InvalidQuestionError as error:
            lines = [f"{_option(one.field)}: {one.message}" for one in error.errors]
            raise LitmusError("\n".join(lines)) from error
    return answers


def _merged(given: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, and else what was measured, where the two do not contradict."""
    taken = dict(measured)
    if given.get("kind", taken.get("kind")) != taken.get("kind"):
        taken.clear()
    if "variants" in given:
        taken.pop("weights", None)
    if given.get("goal") == "minimum_effect" or "margin" in given:
        taken.pop("effect", None)
    if "margin" in given:  # Of a guardrail's pass nothing reads them.
        for name in ("decision_metrics", "covariate_correlation"):
            taken.pop(name, None)
    return taken | given


def _measured(experiment: str | None, metric: str | None, query: str | None) -> Measured | None:
    if experiment is None:
        if metric is not None or query is not None:
            raise LitmusError("--metric and --query need --experiment: whose numbers are meant?")
        return None
    return measure(query or _query_of_stack(), experiment, metric)


def _query_of_stack() -> str:
    home = Settings().home
    description = Home(home).description()
    if description is None:
        raise NotRunningError(
            f"No stack runs from {home}: `litmus up` starts one, or --query names another one."
        )
    return str(description["query"])


def _together(**parts: float | None) -> dict[str, float] | None:
    return {name: value for name, value in parts.items() if value is not None} or None


def _option(field: str) -> str:
    name = field.partition("[")[0]
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")
