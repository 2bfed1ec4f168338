"""Segments of results, an example each; ``test_rules_of_counting`` has the random ones."""

from typing import Any

import pytest

from schemas.control import DefinitionChange
from schemas.definitions import Interval
from stream_processors.accumulate.partition import Partition
from tests.stream_processors.accumulate.builders import (
    T0,
    Event,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.accumulate.holding import Integers, equals_its_fold, integers_of

COUNTRIES = {"country": ["CA", "US"]}


def counted(*messages: Message) -> dict[str, Integers]:
    """Return what is counted by country, once the partition has read these."""
    partition = Partition(0, writer="w")
    for message in messages:
        partition.apply(partition.cursor, *message)
    one = partition.control.definitions["x"]
    integers = integers_of(partition.experiment_sums(one, final=False), one)
    assert equals_its_fold(partition)
    by_value: dict[str, Integers] = integers["segments"]["country"]
    return by_value


def started(**fields: Any) -> Message:
    return tick(1, T0, DefinitionChange(definition(segments=COUNTRIES, **fields)))


def of(country: str, event: Event) -> Event:
    return event._replace(attributes=f'{{"country":"{country}"}}')


def units(by_value: dict[str, Integers]) -> dict[str, list[int]]:
    return {value: integers["units"] for value, integers in by_value.items()}


def test_a_unit_moves_with_its_totals_to_the_segment_of_an_earlier_assignment() -> None:
    late, early = of("US", assignment("u", "b", T0 + 9)), of("CA", assignment("u", "a", T0 + 5))
    bought = measured("u", "m", T0 + 10)

    before = counted(started(), batch([late, bought]), tick(2, T0 + 20))
    after = counted(started(), batch([late, bought]), batch([early]), tick(2, T0 + 20))

    assert units(before) == {"CA": [0, 0], "US": [1, 0], "other": [0, 0]}
    assert units(after) == {"CA": [1, 0], "US": [0, 0], "other": [0, 0]}
    assert after["CA"]["open"][0][0].total.sums == (1,)
    assert after["US"]["open"][0][0].total.unit_count == 0


def test_a_crossover_counts_in_the_segment_of_the_first_assignment() -> None:
    first, second = of("CA", assignment("u", "a", T0)), of("US", assignment("u", "b", T0 + 1))

    by_value = counted(started(), batch([first, second._replace(variant="t")]), tick(2, T0 + 2))

    assert {value: one["crossovers"] for value, one in by_value.items()} == {
        "CA": 1,
        "US": 0,
        "other": 0,
    }
    assert units(by_value) == {"CA": [0, 0], "US": [0, 0], "other": [0, 0]}


@pytest.mark.parametrize(
    ("attributes", "segment"),
    [
        ('{"level":3}', "3"),
        ('{"level":"3"}', "3"),
        ('{"level":true}', "true"),
        ('{"level":3.0}', "other"),
        ('{"level":null}', "other"),
        ('{"level":["3"]}', "other"),
        ('{"level":"other"}', "other"),
        ('{"country":"3"}', "other"),
        (None, "other"),
    ],
)
def test_a_value_is_compared_as_text_and_as_its_json_if_it_is_none(
    attributes: str | None, segment: str
) -> None:
    one = definition(segments={"level": ["3", "true"]})
    partition = Partition(0, writer="w")
    exposed = assignment("u", "a", T0)._replace(attributes=attributes)
    for message in (tick(1, T0, DefinitionChange(one)), batch([exposed])):
        partition.apply(partition.cursor, *message)

    by_value = integers_of(partition.experiment_sums(one, final=False), one)["segments"]["level"]

    assert [value for value, its in by_value.items() if its["units"] == [1, 0]] == [segment]


def test_what_was_assigned_under_other_segments_of_the_draft_is_in_none_of_the_new_ones() -> None:
    """Its values were coded by a list that is gone: the first of it is not the first of the new."""
    draft = {"status": "draft", "started_at_ms": None, "intervals": []}
    before = definition(**draft, segments={"country": ["DE", "CA"]})
    exposed = [of("DE", assignment("u", "a", T0 + 1)), of("CA", assignment("v", "b", T0 + 1))]

    by_value = counted(
        tick(1, T0, DefinitionChange(before)),
        batch(exposed),
        tick(2, T0 + 2, DefinitionChange(definition(**draft, segments=COUNTRIES))),
        batch([of("CA", assignment("w", "c", T0 + 1))]),
        tick(3, T0 + 3, DefinitionChange(definition(segments=COUNTRIES))),
    )

    assert units(by_value) == {"CA": [1, 0], "US": [0, 0], "other": [2, 0]}


def test_units_that_a_shortened_interval_takes_back_leave_their_segment() -> None:
    exposed = batch(
        [of("CA", assignment("u", "a", T0 + 5)), of("CA", assignment("v", "b", T0 + 1))]
    )
    paused = definition(segments=COUNTRIES, status="paused", intervals=[Interval(T0, T0 + 3)])

    by_value = counted(started(), exposed, tick(2, T0 + 9, DefinitionChange(paused)))

    assert units(by_value) == {"CA": [1, 0], "US": [0, 0], "other": [0, 0]}
