"""A posted definition becomes a draft, or every field that breaks a rule is named at once."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import posted
from schemas.definitions import (
    Analysis,
    CapQuantile,
    Definition,
    DefinitionBody,
    FieldError,
    Interval,
    InvalidDefinitionError,
    MetricBody,
    Prior,
    VariantBody,
    define,
    define_metric,
    public,
)
from schemas.look_size import look_bytes
from schemas.posted import definition_errors
from stream_processors.merge import wording
from stream_processors.stats import edges, quantiles

POSTED: dict[str, Any] = {
    "id": "checkout-color",
    "variants": [{"id": "control"}, {"id": "treatment"}],
    "metrics": [{"id": "conversion", "kind": "conversion", "event": "purchase"}],
}


def post(**fields: Any) -> Definition:
    body = msgspec.convert(POSTED | fields, DefinitionBody)
    return define(body, ordinal=4, version=17, created_at_ms=1_000)


def metric(**fields: Any) -> dict[str, Any]:
    return {"metrics": [POSTED["metrics"][0] | fields]}


def variants(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"variants": [{"id": f"v{at}"} | one for at, one in enumerate(fields)]}


def of_ratio(**fields: Any) -> dict[str, Any]:
    one = {"id": "basket", "kind": "ratio", "numerator": "spent", "denominator": "orders"}
    return {"metrics": [one | fields]}


BELIEVED: dict[str, Any] = {"analysis": {"method": "bayesian", "prior": {"mean": 0, "sd": 0.5}}}


def sequential(**fields: Any) -> dict[str, Any]:
    return {"analysis": {"method": "group_sequential", "units_max": 10_000} | fields}


def errors_of(**fields: Any) -> list[FieldError]:
    return list(definition_errors(msgspec.convert(POSTED | fields, DefinitionBody)))


def assert_shown_can_be_posted(definition: Definition) -> None:
    own = {"status", "version", "created_at", "started_at", "stopped_at"}
    again = {name: value for name, value in public(definition).items() if name not in own}
    assert post(**again) == definition
    stored = msgspec.json.encode(definition)
    assert msgspec.json.decode(stored, type=Definition) == definition


# --- what is refused ---


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"id": ""}, "id", "id_invalid"),
        ({"id": "a b"}, "id", "id_invalid"),
        ({"id": "a" * 129}, "id", "id_invalid"),
        ({"unit_type": "user/x"}, "unit_type", "id_invalid"),
        ({"variants": []}, "variants", "invalid"),
        ({"variants": [{"id": "a"}]}, "variants", "invalid"),
        (variants(*[{}] * 65), "variants", "invalid"),
        (variants({"id": "a"}, {"id": "a"}), "variants", "invalid"),
        (variants({"is_control": True}, {"is_control": True}), "variants", "invalid"),
        (variants({"weight": 0.0}, {"weight": 0.0}), "variants", "invalid"),
        (variants({"weight": 1e308}, {"weight": 1e308}), "variants", "invalid"),
        (variants({}, {"weight": -1.0}), "variants[1].weight", "invalid"),
        (variants({}, {"weight": math.inf}), "variants[1].weight", "invalid"),
        (variants({}, {"weight": math.nan}), "variants[1].weight", "invalid"),
        (variants({}, {"id": "a/b"}), "variants[1].id", "id_invalid"),
        ({"metrics": []}, "metrics", "invalid"),
        ({"metrics": POSTED["metrics"] * 2}, "metrics", "invalid"),
        (metric(id="é"), "metrics[0].id", "id_invalid"),
        (metric(event="a b"), "metrics[0].event", "id_invalid"),
        (metric(kind="nonsense"), "metrics[0].kind", "invalid"),
        (of_ratio(numerator=None), "metrics[0].numerator", "invalid"),
        (of_ratio(denominator=None), "metrics[0].denominator", "invalid"),
        (of_ratio(denominator="spent"), "metrics[0].denominator", "invalid"),
        (of_ratio(numerator="a b"), "metrics[0].numerator", "id_invalid"),
        (of_ratio(event="purchase"), "metrics[0].event", "invalid"),
        (metric(kind="mean", numerator="a"), "metrics[0].numerator", "invalid"),
        (metric(kind="mean", of="events"), "metrics[0].of", "invalid"),
        (metric(kind="quantile"), "metrics[0].quantile", "invalid"),
        (metric(kind="quantile", quantile=0.0), "metrics[0].quantile", "invalid"),
        (metric(kind="quantile", quantile=1.0), "metrics[0].quantile", "invalid"),
        (metric(kind="quantile", quantile=math.nan), "metrics[0].quantile", "invalid"),
        (metric(kind="quantile", quantile=0.5, of="rows"), "metrics[0].of", "invalid"),
        (
            metric(kind="quantile", quantile=0.5, covariate_days=7),
            "metrics[0].covariate_days",
            "invalid",
        ),
        (metric(numerator="a"), "metrics[0].numerator", "invalid"),
        (metric(denominator="a"), "metrics[0].denominator", "invalid"),
        (metric(quantile=0.5), "metrics[0].quantile", "invalid"),
        (metric(of="units"), "metrics[0].of", "invalid"),
        (metric(role="boss"), "metrics[0].role", "invalid"),
        (metric(direction="up"), "metrics[0].direction", "invalid"),
        (metric(precision=-1), "metrics[0].precision", "invalid"),
        (metric(precision=10), "metrics[0].precision", "invalid"),
        (metric(window="3 days"), "metrics[0].window", "invalid"),
        (metric(window="0h"), "metrics[0].window", "invalid"),
        (metric(margin={"absolute": 0.1}), "metrics[0].margin", "invalid"),
        (metric(role="guardrail", margin={}), "metrics[0].margin", "invalid"),
        (metric(role="guardrail", margin={"absolute": -1}), "metrics[0].margin", "invalid"),
        (metric(role="guardrail", margin={"other": 1}), "metrics[0].margin", "invalid"),
        (
            metric(role="guardrail", margin={"absolute": 1, "relative": 2}),
            "metrics[0].margin",
            "invalid",
        ),
        (
            metric(role="guardrail", margin={"relative": 1.0}),
            "metrics[0].margin",
            "invalid",
        ),
        (metric(cap=5.0), "metrics[0].cap", "invalid"),
        (metric(kind="mean", cap=5.0), "metrics[0].cap", "invalid"),
        (metric(kind="sum", cap=0.0), "metrics[0].cap", "invalid"),
        (metric(kind="sum", cap=-1.0), "metrics[0].cap", "invalid"),
        (metric(kind="sum", cap=math.inf), "metrics[0].cap", "invalid"),
        (metric(kind="sum", cap=math.nan), "metrics[0].cap", "invalid"),
        (metric(kind="sum", cap=0.001, precision=2), "metrics[0].cap", "invalid"),
        (metric(kind="count", cap=2.5), "metrics[0].cap", "invalid"),
        (metric(kind="sum", cap={"quantile": 0.4}), "metrics[0].cap", "invalid"),
        (metric(kind="sum", cap={"quantile": 1.0}), "metrics[0].cap", "invalid"),
        (
            metric(kind="sum", cap={"quantile": 0.99}, covariate_days=7),
            "metrics[0].cap",
            "invalid",
        ),
        (metric(covariate_days=-1), "metrics[0].covariate_days", "invalid"),
        (metric(covariate_days=91), "metrics[0].covariate_days", "invalid"),
        ({"coverage": 0.0}, "coverage", "invalid"),
        ({"coverage": 1.01}, "coverage", "invalid"),
        ({"coverage": math.nan}, "coverage", "invalid"),
        ({"crossover": "last"}, "crossover", "invalid"),
        ({"allocation": {"policy": "thompson"}}, "allocation", "not_supported"),
        ({"targeting": {"country": "CA"}}, "targeting", "not_supported"),
        ({"segments": {"a b": ["CA"]}}, "segments.a b", "id_invalid"),
        ({"segments": {"country": []}}, "segments.country", "invalid"),
        ({"segments": {"country": ["CA", "CA"]}}, "segments.country", "invalid"),
        ({"segments": {"country": ["CA", ""]}}, "segments.country", "invalid"),
        ({"segments": {"country": ["CA", "other"]}}, "segments.country", "invalid"),
        ({"segments": {"day": [str(day) for day in range(33)]}}, "segments.day", "invalid"),
        ({"segments": {name: ["x"] for name in "abcde"}}, "segments", "invalid"),
        (
            {"segments": {name: [str(n) for n in range(24)] for name in "abcd"}}
            | variants({}, {}, {}, {}, {}, {}, {}),
            "segments",
            "invalid",
        ),
        ({"hypothesis": {"minimum_effect": -0.1}}, "hypothesis.minimum_effect", "invalid"),
        ({"hypothesis": {"minimum_effect": math.inf}}, "hypothesis.minimum_effect", "invalid"),
        ({"analysis": {"alpha": 0.0}}, "analysis.alpha", "invalid"),
        ({"analysis": {"alpha": 0.5}}, "analysis.alpha", "invalid"),
        ({"analysis": {"alpha": math.nan}}, "analysis.alpha", "invalid"),
        ({"analysis": {"n_star": 1}}, "analysis.n_star", "invalid"),
        ({"analysis": {"spending": "pocock"}}, "analysis.spending", "invalid"),
        (
            {"analysis": {"method": "fixed_horizon", "planned_looks": [0.5, 1]}},
            "analysis.planned_looks",
            "invalid",
        ),
        ({"analysis": {"n_star": 10**12 + 1}}, "analysis.n_star", "invalid"),
        ({"analysis": {"tuning": "mixture"}}, "analysis.tau", "invalid"),
        ({"analysis": {"tuning": "mixture", "tau": 0.0}}, "analysis.tau", "invalid"),
        ({"analysis": {"tau": 0.1}}, "analysis.tau", "invalid"),
        ({"analysis": {"tuning": "mixture", "tau": 1e300}}, "analysis.tau", "invalid"),
        ({"analysis": {"tuning": "mixture", "tau": 1e-160}}, "analysis.tau", "invalid"),
        ({"analysis": {"alpha": 1e-300}}, "analysis.alpha", "invalid"),
        (metric(role="guardrail", margin={"absolute": 5}), "metrics[0].margin", "invalid"),
        (variants({"weight": 0.0}, {"weight": 1.0}), "variants", "invalid"),
        ({"analysis": {"method": "group_sequential"}}, "analysis.units_max", "invalid"),
        (sequential(units_max=199), "analysis.units_max", "invalid"),
        (
            sequential(units_max=999) | variants({"weight": 0.9}, {"weight": 0.1}),
            "analysis.units_max",
            "invalid",
        ),
        ({"analysis": {"units_max": 1_000}}, "analysis.units_max", "invalid"),
        (sequential(planned_looks=[]), "analysis.planned_looks", "invalid"),
        (sequential(planned_looks=[0.5, 0.9]), "analysis.planned_looks", "invalid"),
        (sequential(planned_looks=[0.5, 0.5, 1]), "analysis.planned_looks", "invalid"),
        (sequential(planned_looks=[0, 1]), "analysis.planned_looks", "invalid"),
        (sequential(planned_looks=[0.5, math.nan, 1]), "analysis.planned_looks", "invalid"),
        (sequential(spending="power"), "analysis.spending_power", "invalid"),
        (sequential(spending_power=2.0), "analysis.spending_power", "invalid"),
        ({"analysis": {"prior": {"sd": 1.0}}}, "analysis.prior", "invalid"),
        ({"analysis": {"method": "bayesian", "prior": {"sd": 0.0}}}, "analysis.prior", "invalid"),
        ({"analysis": {"method": "bayesian", "prior": {"sd": 1e-31}}}, "analysis.prior", "invalid"),
        ({"analysis": {"method": "bayesian", "prior": {"sd": 1e31}}}, "analysis.prior", "invalid"),
        (
            {"analysis": {"method": "bayesian", "prior": {"sd": 1.0, "mean": -1e31}}},
            "analysis.prior",
            "invalid",
        ),
        (BELIEVED | metric(kind="conversion"), "analysis.prior", "prior_not_applicable"),
        (BELIEVED | metric(kind="sum", role="guardrail"), "analysis.prior", "prior_not_applicable"),
        (
            BELIEVED | {"metrics": [{"id": one, "kind": "sum"} for one in ("revenue", "delay")]},
            "analysis.prior",
            "prior_not_applicable",
        ),
    ],
    ids=str,
)
def test_a_broken_rule_names_its_field(fields: dict[str, Any], field: str, code: str) -> None:
    broken = errors_of(**fields)

    assert [(error.field, error.code) for error in broken] == [(field, code)]
    with pytest.raises(InvalidDefinitionError) as refused:
        post(**fields)
    assert broken[0].message in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        of_ratio(),
        of_ratio(covariate_days=14, role="guardrail", margin={"relative": 0.02}),
        metric(kind="mean"),
        metric(kind="quantile", quantile=0.9),
        metric(kind="quantile", quantile=0.5, of="events"),
        metric(kind="sum", cap=99.5, covariate_days=14),
        metric(kind="count", cap=20),
        metric(kind="sum", cap={"quantile": 0.999}),
        {"segments": {"country": ["CA", "US"], "app.version": ["1.0", "2.0 beta"]}},
        {"hypothesis": {"null": "no", "alternative": "yes", "minimum_effect": 0.02}},
        {"analysis": {"tuning": "mixture", "tau": 0.1}},
        sequential(),
        sequential(spending="power", spending_power=2.0, planned_looks=[0.3, 1]),
        {"analysis": {"method": "bayesian"}},
        BELIEVED | metric(kind="sum"),
        BELIEVED | metric(kind="conversion", covariate_days=7),
        {"analysis": {"method": "fixed_horizon"}},
    ],
    ids=str,
)
def test_what_keeps_the_rules_is_a_definition(fields: dict[str, Any]) -> None:
    assert errors_of(**fields) == []
    assert_shown_can_be_posted(post(**fields))


@pytest.mark.parametrize(
    ("weights", "needed"), [((1.0, 1.0), 200), ((0.9, 0.1), 1_000), ((0.5, 0.5, 0.0), 200)]
)
def test_planned_looks_need_units_beyond_the_burn_in_in_every_variant(
    weights: tuple[float, ...], needed: int
) -> None:
    split = variants(*({"weight": weight} for weight in weights))

    (error,) = errors_of(**sequential(units_max=needed - 1), **split)
    assert error.field == "analysis.units_max"
    assert error.message.startswith(f"units_max == {needed - 1}, must be {needed} or more")
    assert errors_of(**sequential(units_max=needed), **split) == []


def test_the_burn_in_that_plans_are_held_against_is_that_of_the_statistics() -> None:
    assert edges.BURN_IN_UNITS == posted.BURN_IN_UNITS == wording.BURN_IN_UNITS
    assert quantiles.BURN_IN_RANK == posted.BURN_IN_RANK


def test_planned_looks_at_a_rare_quantile_need_units_beyond_it() -> None:
    rare = {"id": "load", "kind": "quantile", "event": "load", "window": "1h", "quantile": 0.99}
    (error,) = errors_of(**sequential(units_max=5_999), metrics=[rare])
    assert error.field == "analysis.units_max"
    assert "must be 6000 or more" in error.message
    assert "quantile 0.99 of load needs 3000 in each" in error.message
    assert errors_of(**sequential(units_max=6_000), metrics=[rare]) == []
    for unread in ({"role": "secondary"}, {"of": "events"}, {"quantile": 0.5}):
        assert errors_of(**sequential(units_max=5_999), metrics=[rare | unread]) == [], unread


def test_every_broken_rule_is_named_at_once() -> None:
    with pytest.raises(InvalidDefinitionError) as refused:
        post(id="a b", coverage=2.0, crossover="last", **metric(role="boss", precision=-1))

    assert [error.field for error in refused.value.errors] == [
        "id",
        "metrics[0].role",
        "metrics[0].precision",
        "coverage",
        "crossover",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"hypotheses": {}},
        {"status": "running"},
        {"version": 3},
        {"variants": [{"id": "a", "colour": "red"}, {"id": "b"}]},
        metric(windows="72h"),
        {"analysis": {"beta": 0.2}},
        {"analysis": {"method": "bayes"}},
        {"coverage": "all"},
    ],
    ids=str,
)
def test_a_field_that_nobody_knows_or_of_a_wrong_type_is_no_body(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        post(**fields)


numbers = st.one_of(st.floats(), st.integers(-(2**70), 2**70).map(float))
any_text = st.text(max_size=5)
any_body = st.builds(
    DefinitionBody,
    id=any_text,
    variants=st.lists(st.builds(VariantBody, any_text, numbers, st.booleans()), max_size=3),
    metrics=st.lists(
        st.builds(
            MetricBody,
            id=any_text,
            kind=st.sampled_from(["conversion", "count", "sum", "ratio", "mean", "quantile", ""]),
            event=st.none() | any_text,
            numerator=st.none() | any_text,
            quantile=st.none() | numbers,
            window=st.none() | st.sampled_from(["", "1h", "0h", "99999999999999999999h"]),
            precision=st.integers(),
            cap=st.none() | numbers | st.builds(CapQuantile, numbers),
        ),
        max_size=2,
    ),
    coverage=numbers,
    analysis=st.builds(
        Analysis,
        alpha=numbers,
        n_star=st.integers(),
        tau=st.none() | numbers,
        planned_looks=st.lists(numbers, max_size=3).map(tuple),
        prior=st.none() | st.builds(Prior, numbers, numbers),
    ),
    segments=st.dictionaries(any_text, st.lists(any_text, max_size=2), max_size=2),
    unit_type=any_text,
)


def test_a_stored_prior_that_would_be_refused_today_still_loads() -> None:
    definition = post(analysis={"method": "bayesian"})
    analysis = msgspec.structs.replace(definition.analysis, prior=Prior(0.5))
    older = msgspec.structs.replace(definition, analysis=analysis)
    assert msgspec.json.decode(msgspec.json.encode(older), type=Definition) == older


@given(any_body)
def test_any_body_is_a_definition_that_can_be_stored_or_refused(body: DefinitionBody) -> None:
    try:
        definition = define(body, ordinal=0, version=0, created_at_ms=0)
    except InvalidDefinitionError:
        return
    stored = msgspec.json.encode(definition)
    assert msgspec.json.decode(stored, type=Definition) == definition


# --- what it becomes ---


def are_weights(weights: list[float]) -> bool:
    return sum(weights) > 1e-6 and sum(weight > 0 for weight in weights) > 1


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=64).filter(are_weights))
def test_weights_are_shares_of_one(weights: list[float]) -> None:
    shares = [one.weight for one in post(**variants(*({"weight": w} for w in weights))).variants]

    assert math.fsum(shares) == pytest.approx(1, abs=1e-12)
    total = math.fsum(weights)
    assert shares == [weight / total for weight in weights]


def test_without_weights_all_variants_get_the_same_share() -> None:
    assert [one.weight for one in post(**variants({}, {}, {}, {})).variants] == [0.25] * 4


@pytest.mark.parametrize(
    ("chosen", "control"), [((False, False), "v0"), ((True, False), "v0"), ((False, True), "v1")]
)
def test_the_first_variant_is_the_control_unless_one_says_so(
    chosen: tuple[bool, bool], control: str
) -> None:
    definition = post(**variants(*({"is_control": one} for one in chosen)))

    assert definition.control == control
    assert sum(one.is_control for one in definition.variants) == 1


def test_what_is_left_out_has_the_contracts_defaults() -> None:
    definition = post(metrics=[{"id": "purchase", "kind": "count"}])

    assert definition.name == definition.seed == "checkout-color"
    assert (definition.unit_type, definition.coverage) == ("user", 1.0)
    assert (definition.status, definition.crossover) == ("draft", "exclude")
    assert definition.analysis == Analysis("always_valid", 0.05, 5_000)
    (only,) = definition.metrics
    assert (only.event, only.role, only.window_ms) == ("purchase", "decision", 24 * 3_600_000)


@pytest.mark.parametrize(
    ("role", "window", "window_ms"),
    [
        ("decision", None, 86_400_000),
        ("guardrail", None, 86_400_000),
        ("secondary", None, None),
        ("secondary", "30m", 1_800_000),
        ("decision", "72h", 259_200_000),
    ],
)
def test_only_a_secondary_metric_may_stay_open(
    role: str, window: str | None, window_ms: int | None
) -> None:
    assert post(**metric(role=role, window=window)).metrics[0].window_ms == window_ms


def test_what_litmus_sets_itself_is_set() -> None:
    definition = post()

    assert (definition.ordinal, definition.version, definition.created_at_ms) == (4, 17, 1_000)
    assert (definition.intervals, definition.started_at_ms) == ([], None)


# --- how it is shown ---


def test_the_public_form_has_exactly_the_contracts_fields() -> None:
    """The seed is one more, for SDKs that decide on their own."""
    shown = public(post())

    assert set(shown) == {
        "id", "name", "unit_type", "hypothesis", "variants", "coverage", "allocation",
        "targeting", "crossover", "segments", "metrics", "analysis", "seed", "status",
        "version", "created_at", "started_at", "stopped_at",
    }  # fmt: skip
    assert set(shown["variants"][0]) == {"id", "weight", "is_control"}
    assert set(shown["metrics"][0]) == {
        "id", "kind", "event", "role", "direction", "window", "precision", "cap",
        "covariate_days", "margin", "numerator", "denominator", "quantile", "of",
    }  # fmt: skip
    assert set(shown["analysis"]) == {
        "method", "alpha", "n_star", "tuning", "tau", "spending", "spending_power", "units_max",
        "planned_looks", "prior",
    }  # fmt: skip


def test_times_and_windows_are_shown_as_text() -> None:
    definition = msgspec.structs.replace(
        post(**metric(window="72h")), status="stopped", started_at_ms=2_000, stopped_at_ms=3_500
    )

    shown = public(definition)

    assert shown["created_at"] == "1970-01-01T00:00:01.000Z"
    assert shown["started_at"] == "1970-01-01T00:00:02.000Z"
    assert shown["stopped_at"] == "1970-01-01T00:00:03.500Z"
    assert shown["metrics"][0]["window"] == "72h"
    assert public(post())["started_at"] is None


def test_what_is_shown_can_be_posted_again_but_for_what_litmus_sets() -> None:
    definition = post(**variants({"weight": 1.0}, {"weight": 3.0, "is_control": True}))

    assert_shown_can_be_posted(definition)


# --- when assignments count ---


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 12))
def test_an_assignment_counts_within_an_interval_its_start_included(
    start: int, length: int, gap: int, at: int
) -> None:
    end, resumed = start + length, start + length + gap
    intervals = [Interval(start, end), Interval(resumed)]
    definition = msgspec.structs.replace(post(), intervals=intervals)

    assert definition.counts_at(at) == (at in range(start, end) or at >= resumed)


def test_a_ratio_is_made_of_two_metric_events() -> None:
    ratio = define_metric(MetricBody("b", "ratio", numerator="spent", denominator="orders"))

    assert ratio.events == ("spent", "orders")
    assert (ratio.numerator, ratio.denominator) == ("spent", "orders")
    assert post().metrics[0].events == ("purchase",)


def test_a_quantile_is_of_units_unless_it_says_events() -> None:
    assert define_metric(MetricBody("t", "quantile", quantile=0.9)).of == "units"
    assert define_metric(MetricBody("t", "quantile", quantile=0.9, of="events")).of == "events"
    assert define_metric(MetricBody("t", "sum")).of is None


def test_the_minimum_effect_is_the_hypothesis() -> None:
    assert post().minimum_effect is None
    assert post(hypothesis={"null": "nothing"}).minimum_effect is None
    assert post(hypothesis={"minimum_effect": 0.02}).minimum_effect == 0.02


# --- what a look of it would be ---


def quantiles_of_events(count: int, **fields: Any) -> dict[str, Any]:
    quantile = {"kind": "quantile", "event": "load", "quantile": 0.9, "of": "events"}
    return {"metrics": [quantile | {"id": f"q{at}"} for at in range(count)]} | fields


def test_what_a_look_could_not_hold_is_refused_with_what_to_do() -> None:
    assert errors_of(**quantiles_of_events(3)) == []

    [error] = errors_of(**quantiles_of_events(4))

    assert (error.field, error.code) == ("metrics", "look_too_large")
    size = look_bytes([MetricBody("q0", "quantile", of="events")] * 4, ["control", "treatment"], {})
    assert error.message.startswith(
        f"a look may get {size} bytes, must be 3600000 at most: 4 metrics times 2 variants times 1 "
        "groups of units; the largest metric is 'q0' (quantile of events), about 287600 bytes"
    )
    assert error.message.endswith("or make another experiment for some metrics")


def test_segments_and_variants_count_towards_a_look() -> None:
    countries = {"country": [f"c{at}" for at in range(6)]}
    assert [one.code for one in errors_of(**quantiles_of_events(1, segments=countries))] == [
        "look_too_large"
    ]
    assert errors_of(**quantiles_of_events(1, segments={"country": ["CA"]})) == []
    many = [{"id": f"v{at}"} for at in range(7)]
    assert [one.code for one in errors_of(**quantiles_of_events(1, variants=many))] == [
        "look_too_large"
    ]
    assert errors_of(**quantiles_of_events(1, variants=many[:6])) == []


def test_a_hundred_metrics_are_the_most() -> None:
    def counts(number: int) -> dict[str, Any]:
        return {"metrics": [{"id": f"m{at}", "kind": "count"} for at in range(number)]}

    assert errors_of(**counts(100)) == []
    [error] = errors_of(**counts(101))
    assert (error.field, error.code) == ("metrics", "too_many_metrics")
    assert error.message.startswith("101 metrics, must be 100 at most: split them")


def test_a_larger_definition_that_is_in_the_log_is_still_read() -> None:
    with pytest.raises(InvalidDefinitionError, match="a look may get"):
        post(**quantiles_of_events(9))
    one = post(**quantiles_of_events(1))
    large = msgspec.structs.replace(one, metrics=one.metrics * 200)

    assert msgspec.json.decode(msgspec.json.encode(large), type=Definition) == large


@pytest.mark.parametrize("weight", [5e-324, 1e-300, 1e-11])
def test_a_variant_that_gets_next_to_no_units_has_no_planned_looks(weight: float) -> None:
    """A share that leaves the floats is no reason to end in a division by it."""
    split = variants({"weight": 1.0}, {"weight": weight})

    (error,) = errors_of(**sequential(units_max=1_000), **split)
    assert error.field == "analysis.units_max"
    assert "none would do" in error.message
    assert "weights that are nearer to each other" in error.message
