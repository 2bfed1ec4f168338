"""An import fills days that nothing else fills, batch by batch, each number for one content."""

from typing import Any

import pytest

from schemas.control import RECENT_BATCHES, Import, ImportBatch, Outcome
from schemas.imports import DAY_MS, IMPORT_ROWS_MAX
from stream_processors.control import imports
from tests.stream_processors.control.operating import NOW_MS, Operator

TODAY = NOW_MS // DAY_MS
DAYS = {"from_day": TODAY - 20, "to_day": TODAY}


@pytest.fixture
def operator() -> Operator:
    """An operator with two metrics whose days are kept, one without, and import ``h`` of one."""
    operator = Operator()
    for name, keep_days in (("buy", 14), ("view", 14), ("click", 0)):
        operator.send("catalogue", name, keep_days=keep_days)
    assert operator.send("import", "h", metrics=["buy"], **DAYS).status == 201
    return operator


def reserve(operator: Operator, number: int, content: str = "a", import_id: str = "h") -> Outcome:
    return operator.send(
        "import_batch", import_id, number=number, sha256=content * 64, row_count=10
    )


def finish(operator: Operator, number: int) -> Outcome:
    return operator.send("import_done", "h", number=number)


def test_an_import_is_declared_once_and_never_changes(operator: Operator) -> None:
    again = operator.send("import", "h", metrics=["buy"], **DAYS)
    other = operator.send("import", "h", metrics=["buy"], **(DAYS | {"to_day": TODAY - 1}))

    declared = Import("h", 0, ["buy"], TODAY - 20, TODAY)
    assert (again.status, again.declared) == (200, declared)
    assert (other.status, other.code, other.declared) == (409, "import_differs", declared)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"metrics": []}, "invalid", "metrics"),
        ({"metrics": ["view", "view"]}, "invalid", "metrics"),
        ({"metrics": ["nothing"]}, "unknown_metric", "metrics[0]"),
        ({"metrics": ["view", "click"]}, "keep_days_exceeded", "metrics[1]"),
        ({"metrics": ["view"], "to_day": TODAY + 1}, "import_overlaps_live", "to"),
        ({"metrics": ["view"], "to_day": 10**9}, "import_overlaps_live", "to"),
        ({"metrics": ["view"], "from_day": TODAY, "to_day": TODAY - 1}, "invalid", "from"),
        ({"metrics": ["view"], "from_day": -1}, "invalid", "from"),
        ({"metrics": ["view", "buy"], "to_day": TODAY - 20}, "import_overlaps", "metrics[1]"),
        ({"metrics": ["buy"], "from_day": TODAY}, "import_overlaps", "metrics[0]"),
        ({"metrics": ["view"], "from_day": "2026-10-01"}, "invalid", "from_day"),
    ],
)
def test_days_that_it_may_not_fill_are_refused(
    operator: Operator, body: dict[str, Any], code: str, field: str
) -> None:
    outcome = operator.send("import", "i", **(DAYS | body))

    assert (outcome.status, outcome.code) == (422, code)
    assert field in [error.field for error in outcome.errors]
    assert "i" not in operator.state.imports


def test_days_beside_those_of_another_import_are_free(operator: Operator) -> None:
    before = {"metrics": ["buy"], "from_day": TODAY - 30, "to_day": TODAY - 21}
    assert operator.send("import", "i", **before).status == 201
    assert operator.send("import", "j", metrics=["view"], **DAYS).status == 201
    assert [one.ordinal for one in operator.state.imports.values()] == [0, 1, 2]


def test_a_batch_is_reserved_written_and_done(operator: Operator) -> None:
    reserved = reserve(operator, 1)
    done = finish(operator, 1)

    assert reserved.declared is not None
    assert reserved.declared.reserved == ImportBatch(1, "a" * 64, 10)
    assert (reserved.declared.done, reserved.status) == (0, 200)
    assert done.declared is not None
    assert (done.declared.done, done.declared.reserved, done.declared.row_count) == (1, None, 10)


def test_a_number_belongs_to_one_content_before_and_after_it_is_done(operator: Operator) -> None:
    reserve(operator, 1)
    before = (reserve(operator, 1), reserve(operator, 1, "b"))
    finish(operator, 1)
    after = (reserve(operator, 1), reserve(operator, 1, "b"))

    for same, other in (before, after):
        assert same.status == 200
        assert (other.status, other.code) == (409, "import_batch_differs")
    assert after[0].declared == operator.state.imports["h"]
    assert after[0].declared.done == 1


@pytest.mark.parametrize("number", [2, 3, 10**6])
def test_what_is_not_next_is_told_what_is(operator: Operator, number: int) -> None:
    outcome = reserve(operator, number)

    assert (outcome.status, outcome.code) == (409, "import_out_of_order")
    assert "1 is next" in outcome.detail
    assert outcome.declared == operator.state.imports["h"]


def test_only_what_is_reserved_can_be_done(operator: Operator) -> None:
    assert finish(operator, 1).code == "import_out_of_order"
    reserve(operator, 1)
    assert finish(operator, 2).code == "import_out_of_order"
    assert finish(operator, 0).code == "import_out_of_order"
    assert finish(operator, 1).status == finish(operator, 1).status == 200
    assert operator.state.imports["h"].row_count == 10


def test_contents_are_compared_as_far_back_as_they_are_remembered(operator: Operator) -> None:
    count = RECENT_BATCHES + 3
    for number in range(1, count + 1):
        reserve(operator, number, "ab"[number % 2])
        finish(operator, number)

    assert len(operator.state.imports["h"].recent) == RECENT_BATCHES
    for number in range(1, count + 1):
        again = reserve(operator, number, "ab"[number % 2])
        other = reserve(operator, number, "ba"[number % 2])
        if number <= 3:
            assert (again.code, other.code) == ("import_batch_done", "import_batch_done")
        else:
            assert (again.status, other.code) == (200, "import_batch_differs")


@pytest.mark.parametrize(
    "body",
    [
        {"number": 0},
        {"sha256": "a" * 63},
        {"sha256": "A" * 64},
        {"row_count": 0},
        {"row_count": IMPORT_ROWS_MAX + 1},
        {"number": "1"},
    ],
)
def test_what_is_no_batch_is_refused(operator: Operator, body: dict[str, Any]) -> None:
    batch: dict[str, Any] = {"number": 1, "sha256": "a" * 64, "row_count": 1}
    assert operator.send("import_batch", "h", **(batch | body)).status == 422
    assert operator.state.imports["h"].reserved is None


def test_an_import_must_be_declared(operator: Operator) -> None:
    assert reserve(operator, 1, import_id="i").code == "unknown_import"
    assert operator.send("import_done", "i", number=1).status == 404


def test_there_is_an_end_to_imports(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "IMPORTS_MAX", 1)
    outcome = operator.send("import", "i", metrics=["view"], **DAYS)
    assert (outcome.status, outcome.code) == (409, "too_many_imports")
    assert operator.send("import", "h", metrics=["buy"], **DAYS).status == 200
