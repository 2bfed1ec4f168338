"""What each command does, what is refused and why, and that nothing crashes the fold."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import Change, Command, ControlState, Settings
from schemas.definitions import Interval
from stream_processors.control import commands
from stream_processors.control.commands import (
    BYTES_PER_RECORD_MAX,
    COMMANDS_PER_RECORD_MAX,
    Received,
    fold,
)
from tests.stream_processors.control.operating import BODY, HOUR_MS, NOW_MS, Operator


@pytest.fixture
def operator() -> Operator:
    """An operator who has created experiment x: command 0."""
    operator = Operator()
    assert operator.send("create", **BODY).status == 201
    return operator


def test_an_experiment_lives_from_draft_to_archive_with_its_intervals(operator: Operator) -> None:
    assert operator.x.status == "draft"
    assert operator.x.created_at_ms == NOW_MS
    statuses = []
    for action in ("start", "pause", "resume", "stop", "archive"):
        outcome = operator.send(action)
        assert outcome.status == 200
        assert outcome.definition == operator.x
        statuses.append((operator.x.status, operator.x.version))
    assert statuses == [
        ("running", 1),
        ("paused", 2),
        ("running", 3),
        ("stopped", 4),
        ("archived", 5),
    ]
    assert operator.x.intervals == [
        Interval(NOW_MS + 1_000, NOW_MS + 2_000),
        Interval(NOW_MS + 3_000, NOW_MS + 4_000),
    ]
    assert operator.x.started_at_ms == NOW_MS + 1_000
    assert operator.x.stopped_at_ms == NOW_MS + 4_000


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        ([], ["pause", "resume", "stop", "archive"]),
        (["start"], ["start", "resume", "archive"]),
        (["start", "pause"], ["start", "pause", "archive"]),
        (["start", "stop"], ["start", "pause", "resume", "stop"]),
        (["start", "stop", "archive"], ["start", "pause", "resume", "stop", "archive", "patch"]),
    ],
)
def test_what_the_lifecycle_does_not_allow_is_refused(
    operator: Operator, before: list[str], refused: list[str]
) -> None:
    for action in before:
        assert operator.send(action).status == 200
    definition = operator.x
    for action in refused:
        outcome = operator.send(action)
        assert (outcome.status, outcome.code) == (409, "lifecycle")
    assert operator.x == definition


def test_intervals_never_run_backwards_though_the_brokers_clock_may(operator: Operator) -> None:
    operator.send("start")
    start_ms = operator.x.intervals[0].start_ms
    command = msgspec.json.encode(Command("p", "pause", "x"))
    early = Received(operator.offset, start_ms - 5_000, command)
    folded = fold(operator.state, [early], tick=9, from_offset=operator.offset, answered={})
    (outcome,) = folded.outcomes
    assert outcome.definition is not None
    assert outcome.definition.intervals == [Interval(start_ms, start_ms)]


@pytest.mark.parametrize(
    ("back_ms", "status"), [(0, 200), (1, 200), (HOUR_MS, 200), (HOUR_MS + 1, 422), (-1, 422)]
)
def test_a_start_may_name_an_earlier_time_within_the_lateness(
    operator: Operator, back_ms: int, status: int
) -> None:
    at_ms = operator.now_ms - back_ms
    assert operator.send("start", at_ms=at_ms).status == status
    if status == 200:
        assert operator.x.intervals == [Interval(at_ms)]
        assert operator.x.started_at_ms == at_ms


@pytest.mark.parametrize("body", [{"at_ms": "now"}, {"at_ms": 10**30}, {"at_ms": True}, {"at": 1}])
def test_a_start_at_what_is_no_time_is_refused(operator: Operator, body: dict[str, Any]) -> None:
    outcome = operator.send("start", **body)
    assert (outcome.status, outcome.code) == (422, "invalid")
    assert outcome.errors


def test_ordinals_count_experiments_in_the_order_of_creation(operator: Operator) -> None:
    assert operator.send("create", **BODY, name="again").status == 409
    operator.send("create", "y", **(BODY | {"id": "y"}))
    assert [one.ordinal for one in operator.state.definitions.values()] == [0, 1]


def test_a_bad_definition_is_refused_with_every_field_named(operator: Operator) -> None:
    body = BODY | {"id": "a b", "metrics": [], "coverage": 2}
    outcome = operator.send("create", "", **body)
    assert outcome.status == 422
    assert {error.field for error in outcome.errors} == {"id", "metrics", "coverage"}
    wrong = {"id": "y", "metrics": [{"id": 1, "window": 2}, {}], "seed": 1, "colour": "red"}
    wrong_types = operator.send("create", "", **(BODY | wrong))
    assert {error.field for error in wrong_types.errors} == {
        "metrics[0].id",
        "metrics[0].kind",
        "metrics[0].window",
        "metrics[1].id",
        "metrics[1].kind",
        "seed",
        "colour",
    }


def test_a_stale_version_is_refused_before_anything_else(operator: Operator) -> None:
    assert operator.send("patch", expected_version=7, name="n").status == 412
    assert operator.send("start", expected_version=0).status == 200
    assert operator.send("start", expected_version=0).status == 412
    assert operator.send("start", expected_version=operator.x.version).status == 409
    assert operator.send("start", "y", expected_version=0).status == 404


def test_a_draft_may_change_in_every_field(operator: Operator) -> None:
    outcome = operator.send(
        "patch",
        variants=[{"id": "p"}, {"id": "q"}],
        metrics=[{"id": "n", "kind": "sum", "precision": 2}],
        seed="other",
        coverage=0.1,
        analysis={"alpha": 0.01},
    )
    assert outcome.status == 200
    assert operator.x.variant_ids == ["p", "q"]
    assert operator.x.metrics[0].added_at_ms == 0
    assert (operator.x.ordinal, operator.x.version, operator.x.status) == (0, 1, "draft")
    assert operator.send("patch", id="y").status == 422
    assert operator.send("patch", nonsense=1).status == 422


@pytest.mark.parametrize(
    "body",
    [
        {"seed": "other"},
        {"unit_type": "account"},
        {"crossover": "first"},
        {"coverage": 0.4},
        {"analysis": {"alpha": 0.01}},
        {"analysis": {"method": "fixed_horizon"}},
        {"analysis": {"n_star": 77}},
        {"variants": [{"id": "a"}, {"id": "b"}]},
        {"variants": [{"id": "a", "weight": 2}, {"id": "b"}, {"id": "c"}]},
        {"variants": [{"id": "a"}, {"id": "b", "is_control": True}, {"id": "c"}]},
        {"metrics": [{"id": "m", "kind": "sum"}]},
        {"metrics": [{"id": "m", "kind": "count", "window": "25h"}]},
        {"metrics": [{"id": "m", "kind": "count", "precision": 2}]},
        {"metrics": [{"id": "m", "kind": "count", "event": "other"}]},
        {"metrics": [{"id": "m", "kind": "count", "role": "secondary"}]},
        {"metrics": [{"id": "n", "kind": "count"}]},
    ],
)
def test_what_changes_the_meaning_of_data_is_refused_once_started(
    operator: Operator, body: dict[str, Any]
) -> None:
    for action in ("start", "pause", "stop"):
        operator.send(action)
        definition = operator.x
        outcome = operator.send("patch", **body)
        assert (outcome.status, outcome.code) == (409, "not_while_running")
        assert outcome.errors
        assert operator.x == definition


def test_a_running_experiment_may_grow(operator: Operator) -> None:
    operator.send("start")
    before = operator.x
    added_ms = operator.now_ms
    outcome = operator.send(
        "patch",
        name="new name",
        hypothesis={"null": "nothing"},
        coverage=0.75,
        variants=[{"id": "a"}, {"id": "b"}, {"id": "c"}],
        metrics=[
            {"id": "n", "kind": "sum", "role": "secondary"},
            {"id": "m", "kind": "count", "window": "24h"},
        ],
    )
    assert outcome.status == 200, outcome.detail
    after = operator.x
    assert (after.name, after.coverage, after.intervals) == ("new name", 0.75, before.intervals)
    assert after.variants == before.variants
    assert [(one.id, one.added_at_ms) for one in after.metrics] == [("m", 0), ("n", added_ms)]

    assert operator.send("patch", name="newer").status == 200
    assert operator.x.metrics == after.metrics
    operator.send("stop")
    more = [{"id": "m", "kind": "count"}, {"id": "n", "kind": "sum"}, {"id": "o", "kind": "sum"}]
    assert operator.send("patch", metrics=more).status == 409


@pytest.mark.parametrize("role", ["decision", "guardrail", None])
def test_once_started_no_metric_joins_those_whose_error_is_guaranteed(
    operator: Operator, role: str | None
) -> None:
    """The role of a metric that names none is decision."""
    more = [{"id": "m", "kind": "count", "window": "24h"}, {"id": "n", "kind": "sum"}]
    more[1] |= {} if role is None else {"role": role}
    operator.send("start")
    before = operator.x
    outcome = operator.send("patch", metrics=more)

    assert (outcome.status, operator.x) == (409, before)
    (error,) = outcome.errors
    assert (error.field, error.code) == ("metrics.n.role", "not_while_running")
    assert f'"{role or "decision"}", must be "secondary"' in error.message
    more[1]["role"] = "secondary"
    assert operator.send("patch", metrics=more).status == 200


def test_a_resend_is_answered_and_not_done_again(operator: Operator) -> None:
    first = operator.send("start", command_id="s")
    operator.send("pause")
    again = operator.send("start", command_id="s")
    assert again == msgspec.structs.replace(first, tick=3 + 1)
    assert operator.x.status == "paused"

    once = [msgspec.json.encode(Command("e", "create", "z", body=BODY | {"id": "z"}))] * 2
    received = [Received(operator.offset + n, NOW_MS, value) for n, value in enumerate(once)]
    folded = fold(operator.state, received, tick=9, from_offset=operator.offset, answered={})
    assert [outcome.status for outcome in folded.outcomes] == [201, 201]
    assert len(folded.changes) == 1


def test_settings_of_the_log_change_by_command(operator: Operator) -> None:
    assert operator.send("settings", "", stride=3, sources=["litmus.metrics/0"]).status == 200
    assert operator.state.settings == Settings(HOUR_MS, 3, ["litmus.metrics/0"])
    for body in (
        {"lateness_ms": 5},
        {"lateness_ms": "1h"},
        {"stride": 0},
        {"sources": ["x"]},
        {"sources": ["x/1", "x/1"]},
        {"other": 1},
        {"retire_sources": ["litmus.metrics/7"]},
        {"add_sources": ["litmus.metrics/0"]},
        {"add_sources": ["litmus.metrics/1", "litmus.metrics/1"]},
    ):
        assert operator.send("settings", "", **body).status == 422
    assert operator.state.settings == Settings(HOUR_MS, 3, ["litmus.metrics/0"])


def test_sources_are_retired_and_added_one_by_one(operator: Operator) -> None:
    operator.send("settings", "", sources=["a/0", "a/1"])
    changed = operator.send("settings", "", retire_sources=["a/0"], add_sources=["a/2"])
    same = operator.send("settings", "", stride=None)

    assert changed.settings == Settings(HOUR_MS, None, ["a/1", "a/2"])
    assert (same.status, same.settings) == (200, changed.settings)
    assert operator.changes == []


@pytest.mark.parametrize(
    ("value", "statuses"),
    [
        (b"", []),
        (b"\xff", []),
        (b"[" * 100_000, []),
        (b'{"id": ""}', []),
        (b'{"id": "a\\u0000"}', []),
        (b'{"id": "c", "action": 1}', [422]),
        (b'{"id": "c", "action": "fly"}', [422]),
        (b'{"id": "c", "action": "create", "body": {"x": ' + b"[" * 90_000, []),
        (b'{"id": "c", "action": "patch", "pad": "' + b"x" * 200_000 + b'"}', [422]),
    ],
)
def test_what_is_no_command_is_passed_over(
    operator: Operator, value: bytes, statuses: list[int]
) -> None:
    assert [outcome.status for outcome in operator.fold(value).outcomes] == statuses


def test_a_hypothesis_has_no_other_fields_than_its_own(operator: Operator) -> None:
    for number, (hypothesis, status) in enumerate(
        [
            ({"null": "nothing", "alternative": "more", "minimum_effect": 0.02}, 201),
            ({"minimum_effct": 0.02}, 422),
            ({"minimum_effect": -0.02}, 422),
            ({"null": {"a": {}}}, 422),
        ]
    ):
        body = BODY | {"id": f"h{number}", "hypothesis": hypothesis}
        assert operator.send("create", "", **body).status == status


def test_the_minimum_effect_is_fixed_once_started_and_the_words_are_not(
    operator: Operator,
) -> None:
    operator.send("patch", hypothesis={"null": "nothing", "minimum_effect": 0.02})
    operator.send("start")

    refused = operator.send("patch", hypothesis={"null": "nothing", "minimum_effect": 0.01})
    taken = operator.send("patch", hypothesis={"null": "nothing at all", "minimum_effect": 0.02})

    assert (refused.status, refused.code) == (409, "not_while_running")
    assert [error.field for error in refused.errors] == ["hypothesis.minimum_effect"]
    assert taken.status == 200
    assert operator.x.hypothesis == {
        "null": "nothing at all",
        "alternative": "",
        "minimum_effect": 0.02,
    }


def test_a_record_takes_no_more_commands_than_its_message_holds() -> None:
    state = ControlState()
    large = {"hypothesis": {"null": "x" * 80_000}}
    for extra, expected_count in (({}, COMMANDS_PER_RECORD_MAX), (large, 3)):
        received = [
            Received(
                offset,
                NOW_MS,
                msgspec.json.encode(
                    Command(f"c{offset}", "create", body=BODY | {"id": f"x{offset}"} | extra)
                ),
            )
            for offset in range(150)
        ]
        folded = fold(state, received, tick=2, from_offset=0, answered={})
        assert folded.next_offset == len(folded.outcomes) == expected_count
        size = len(msgspec.json.encode(folded))
        assert size <= BYTES_PER_RECORD_MAX + 1_000


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_body = st.dictionaries(
    st.sampled_from(["id", "variants", "metrics", "weight", "coverage", "analysis", "hypothesis",
                     "segments", "seed", "name", "at_ms", "lateness_ms", "stride", "sources",
                     "retire_sources", "add_sources", "precision", "keep_days", "from_day",
                     "to_day", "number", "sha256", "row_count"]),
    _json
    | st.integers(0, 9)
    | st.just(BODY["variants"])
    | st.just(BODY["metrics"])
    | st.just(["m"])
    | st.just("ab" * 32)
    | st.lists(st.fixed_dictionaries({"id": st.text(max_size=3), "weight": st.floats()}))
    | st.just("z"),
    max_size=6,
)  # fmt: skip
_ACTIONS = ["create", "patch", "start", "pause", "resume", "stop", "archive", "settings",
            "catalogue", "import", "import_batch", "import_done"]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.sampled_from(_ACTIONS), st.sampled_from(["x", "y", "m", ""]), _body),
        max_size=12,
    )
)
def test_no_command_crashes_the_fold_or_makes_a_record_that_cannot_be_read(
    commands: list[tuple[str, str, dict[str, Any]]],
) -> None:
    operator = Operator()
    operator.send("create", **BODY)
    for action, experiment_id, body in commands:
        value = msgspec.json.encode(
            Command(f"c{operator.offset}", action, experiment_id, body=body)
        )
        before = operator.state
        folded = operator.fold(value)
        for change in folded.changes:
            assert msgspec.json.decode(msgspec.json.encode(change), type=Change) == change
        (outcome,) = folded.outcomes
        assert not folded.changes or outcome.status < 400
        assert (operator.state == before) == (not folded.changes)
    assert msgspec.json.decode(msgspec.json.encode(operator.state), type=ControlState)


def test_weights_too_large_to_add_are_refused(operator: Operator) -> None:
    variants = [{"id": "a", "weight": 1e308}, {"id": "b", "weight": 1e308}]
    assert operator.send("create", "", **(BODY | {"id": "y", "variants": variants})).status == 422


def test_there_is_an_end_to_experiments_and_archived_ones_make_room(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "EXPERIMENTS_MAX", 2)
    assert operator.send("create", "y", **(BODY | {"id": "y"})).status == 201

    known = operator.send("create", **BODY)
    refused = operator.send("create", "z", **(BODY | {"id": "z"}))

    assert known.code == "exists"
    assert (refused.status, refused.code) == (409, "too_many_experiments")
    assert "archive" in str(refused.detail)
    assert "z" not in operator.state.definitions
    for action in ("start", "stop"):
        operator.send(action)
        assert operator.send("create", "z", **(BODY | {"id": "z"})).status == 409
    operator.send("archive")
    assert operator.send("create", "z", **(BODY | {"id": "z"})).status == 201
