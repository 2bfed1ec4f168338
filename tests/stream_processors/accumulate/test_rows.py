"""Names become numbers by the last tick's definitions; a resend must repeat what was sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import unpack
from schemas.control import DefinitionChange
from schemas.partials import Ledger
from stream_processors.accumulate.kernels.placing import EVERY, UNKNOWN
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.plan import Names
from stream_processors.accumulate.rows import Rows, make_rows
from tests.stream_processors.accumulate.builders import (
    T0,
    Event,
    assignment,
    batch,
    definition,
    measured,
    tick,
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


assignments = st.builds(
    assignment,
    unit=st.just("u"),
    event_id=st.just("e"),
    timestamp=st.sampled_from([T0, T0 + 1]),
    experiment=st.sampled_from(["x", "z"]),
    variant=st.sampled_from(["c", "t"]),
)
metrics = st.builds(
    measured,
    unit=st.just("u"),
    event_id=st.just("e"),
    timestamp=st.sampled_from([T0, T0 + 1]),
    metric=st.sampled_from(["x", "z"]),
    experiment=st.sampled_from([None, "x", "z"]),
    value=st.sampled_from([0.0, -0.0, 1.0, -1.0]),
)
events = st.builds(
    lambda event, given: event._replace(timestamp_given=given),
    assignments | metrics,
    st.booleans(),
)


def repeated(event: Event) -> tuple[object, ...]:
    """Return what a resend must repeat, in plain Python."""
    time = event.timestamp if event.timestamp_given else None
    kind = "metric" if event.metric else "assignment"
    return kind, event.experiment, event.variant, event.metric, event.value, time


@given(events, events, st.booleans())
def test_the_second_of_an_id_is_a_duplicate_if_it_repeats_the_first_and_else_a_conflict(
    one: Event, other: Event, in_one_batch: bool
) -> None:
    changes = [DefinitionChange(definition("x", 0)), DefinitionChange(definition("z", 1))]
    partition = Partition(0, writer="w")
    batches = [batch([one, other])] if in_one_batch else [batch([one]), batch([other])]

    for message in [tick(1, T0, *changes), *batches]:
        partition.apply(partition.cursor, *message)

    repeats = repeated(one) == repeated(other)
    ledger = Ledger(*partition.state.ledger.sum(axis=0).tolist())
    assert ledger == Ledger(received=2, fresh=1, duplicate=int(repeats), conflict=int(not repeats))
