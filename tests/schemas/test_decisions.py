"""A unit gets the variant that GrowthBook's SDK would give it, under any weights and coverage."""

import growthbook.core
from hypothesis import given
from hypothesis import strategies as st

from schemas.decisions import BUCKETS, bucket_of, decide_variant
from schemas.definitions import Definition, DefinitionBody, MetricBody, VariantBody, define

weights = st.lists(st.integers(0, 10), min_size=2, max_size=5).filter(
    lambda shares: sum(share > 0 for share in shares) > 1
)
coverages = st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.99, 1.0])


def experiment(weights: list[int], coverage: float) -> Definition:
    body = DefinitionBody(
        id="x",
        variants=[VariantBody(f"v{at}", float(weight)) for at, weight in enumerate(weights)],
        metrics=[MetricBody("bought", "conversion")],
        coverage=coverage,
    )
    return define(body, ordinal=0, version=0, created_at_ms=0)


@given(weights, coverages, st.text(min_size=1, max_size=12))
def test_the_variant_is_the_one_that_growthbooks_sdk_chooses(
    weights: list[int], coverage: float, unit_id: str
) -> None:
    definition = experiment(weights, coverage)
    shares = [variant.weight for variant in definition.variants]
    ranges = growthbook.core.getBucketRanges(len(shares), coverage, shares)
    chosen = growthbook.core.chooseVariation(bucket_of("x", unit_id), ranges)

    expected = None if chosen == -1 else f"v{chosen}"
    assert decide_variant(definition, unit_id) == expected


@given(weights, st.text(min_size=1, max_size=12))
def test_full_coverage_leaves_nobody_out(weights: list[int], unit_id: str) -> None:
    assert decide_variant(experiment(weights, 1.0), unit_id) is not None


@given(weights, st.text(min_size=1, max_size=12))
def test_growing_coverage_moves_nobody_from_one_variant_to_another(
    weights: list[int], unit_id: str
) -> None:
    seen = [decide_variant(experiment(weights, share), unit_id) for share in (0.1, 0.4, 0.7, 1.0)]
    given_one = [variant for variant in seen if variant is not None]

    assert len(set(given_one)) == 1
    assert seen == [None] * (len(seen) - len(given_one)) + given_one


@given(st.text(max_size=8), st.text(max_size=8))
def test_a_bucket_is_one_of_ten_thousand(seed: str, unit_id: str) -> None:
    bucket = bucket_of(seed, unit_id)

    assert 0 <= bucket < 1
    assert bucket == round(bucket * BUCKETS) / BUCKETS
