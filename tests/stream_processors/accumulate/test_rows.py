"""Names become numbers by the last tick's definitions; what a resend must repeat has a hash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import unpack
from stream_processors.accumulate.kernels.placing import EVERY, UNKNOWN
from stream_processors.accumulate.plan import Names
from stream_processors.accumulate.rows import Rows, make_rows
from tests.stream_processors.accumulate.builders import (
    T0,
    Event,
    assignment,
    batch,
    definition,
    measured,
)

DEFINITIONS = {
    "x": definition("x", 0),
    "y": definition("y", 1, unit_type="session"),
}


def rows_of(*events: Event) -> Rows:
    return make_rows(
        unpack(batch(list(events)).value), DEFINITIONS, metrics=Names(), unit_types=Names()
    )


def experiment_of(event: Event) -> int:
    return int(rows_of(event).experiment[0])


def code_of(event: Event) -> int:
    return int(rows_of(event).code[0])


def contents(*events: Event) -> list[int]:
    return rows_of(*events).content.tolist()


@pytest.mark.parametrize(
    ("event", "experiment"),
    [
        (assignment("u", "e", T0, experiment="x"), 0),
        (assignment("u", "e", T0, experiment="y")._replace(unit_type="session"), 1),
        (assignment("u", "e", T0, experiment="unknown"), UNKNOWN),
        (assignment("u", "e", T0)._replace(experiment=None), UNKNOWN),
        (measured("u", "e", T0), EVERY),
        (measured("u", "e", T0, experiment="x"), 0),
        (measured("u", "e", T0, experiment="unknown"), UNKNOWN),
    ],
)
def test_an_experiment_is_its_ordinal(event: Event, experiment: int) -> None:
    assert experiment_of(event) == experiment


@pytest.mark.parametrize("make", [assignment, measured])
def test_an_experiment_of_another_unit_type_is_unknown(make) -> None:  # noqa: ANN001
    assert experiment_of(make("u", "e", T0, experiment="y")) == UNKNOWN


@pytest.mark.parametrize(
    ("variant", "code"), [("c", 0), ("t", 1), ("of another experiment", -1), (None, -1)]
)
def test_a_variant_is_its_place_in_the_definition(variant: str | None, code: int) -> None:
    assert code_of(assignment("u", "e", T0)._replace(variant=variant)) == code


def test_a_variant_of_an_unknown_experiment_has_no_place() -> None:
    assert code_of(assignment("u", "e", T0, experiment="unknown", variant="t")) == -1


def test_rows_of_one_batch_do_not_lend_each_other_names() -> None:
    rows = rows_of(
        assignment("u", "1", T0, variant="t"),
        measured("u", "2", T0, metric="view"),
        assignment("u", "3", T0, experiment="unknown", variant="t"),
        measured("u", "4", T0, metric="buy", experiment="x"),
        assignment("u", "5", T0, variant="c"),
    )

    assert rows.experiment.tolist() == [0, EVERY, UNKNOWN, 0, 0]
    assert rows.code.tolist() == [1, 0, -1, 1, 0]


events = st.builds(
    Event,
    unit=st.just("u"),
    event_id=st.just("e"),
    timestamp=st.sampled_from([T0, T0 + 1]),
    experiment=st.sampled_from([None, "x", "y"]),
    variant=st.sampled_from([None, "c", "t"]),
    metric=st.sampled_from([None, "buy", "view"]),
    value=st.sampled_from([0.0, -0.0, 1.0, -1.0]),
    timestamp_given=st.booleans(),
)


def repeated(event: Event) -> tuple[object, ...]:
    """Return what a resend must repeat, in plain Python."""
    time = event.timestamp if event.timestamp_given else None
    kind = "metric" if event.metric else "assignment"
    return kind, event.experiment, event.variant, event.metric, event.value, time


@given(events, events)
def test_two_events_have_one_content_exactly_when_they_repeat_each_other(
    one: Event, other: Event
) -> None:
    first, second = contents(one, other)

    assert (first == second) == (repeated(one) == repeated(other))


@given(events, events)
def test_a_content_does_not_hang_on_the_rows_beside_it(one: Event, other: Event) -> None:
    assert contents(other, one)[1] == contents(one)[0]


def test_a_name_that_moves_to_another_column_is_another_content() -> None:
    assert len(set(contents(
        measured("u", "e", T0, metric="x", experiment="y"),
        measured("u", "e", T0, metric="y", experiment="x"),
    ))) == 2  # fmt: skip
