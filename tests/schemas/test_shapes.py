"""Every field that has another shape is named at once; keys that stand twice are seen anywhere."""

import msgspec
import pytest

from schemas.definitions import DefinitionBody
from schemas.shapes import RepeatedKeyError, check_keys, shape_errors

GOOD = {"id": "x", "variants": [{"id": "a"}, {"id": "b"}], "metrics": [{"id": "m", "kind": "sum"}]}


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({}, set()),
        ({"id": 1}, {"id"}),
        ({"coverage": "1", "name": None}, {"coverage", "name"}),
        ({"variants": {"id": "a"}}, {"variants"}),
        ({"variants": [{"id": 1}, 2, {}]}, {"variants[0].id", "variants[1]", "variants[2].id"}),
        (
            {"metrics": [{"id": "m", "kind": 1, "margin": {"absolute": "x"}, "widow": "1h"}]},
            {"metrics[0].kind", "metrics[0].margin[...]", "metrics[0].widow"},
        ),
        ({"analysis": {"alpha": "x", "beta": 1}}, {"analysis.alpha", "analysis.beta"}),
        ({"segments": {"country": [1]}}, {"segments[...][0]"}),
    ],
)
def test_every_wrong_field_is_named(changed: dict[str, object], fields: set[str]) -> None:
    body = GOOD | changed

    assert {error.field for error in shape_errors(body, DefinitionBody)} == fields
    if fields:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(body, DefinitionBody)
    else:
        msgspec.convert(body, DefinitionBody)


def test_missing_fields_are_all_named() -> None:
    errors = list(shape_errors({}, DefinitionBody))
    assert [error.field for error in errors] == ["id", "variants", "metrics"]
    assert all("is missing" in error.message for error in errors)


@pytest.mark.parametrize("value", [1, "x", None, [GOOD]])
def test_what_is_no_object_is_one_error(value: object) -> None:
    assert [error.field for error in shape_errors(value, DefinitionBody)] == [""]


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b'{"a": 1, "b": {"a": 2}}', None),
        (b'{"a": 1, "a": 1}', "a"),
        (b'[{"b": [{"c": 1, "d": 2, "c": 3}]}]', "c"),
        (b'{"a": 1, "\\u0061": 2}', "a"),
        (b"9" * 5_000, None),
    ],
)
def test_keys_that_stand_twice_are_seen(raw: bytes, key: str | None) -> None:
    if key is None:
        check_keys(raw)
    else:
        with pytest.raises(RepeatedKeyError) as caught:
            check_keys(raw)
        assert caught.value.key == key
