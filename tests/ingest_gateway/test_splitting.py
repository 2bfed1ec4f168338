"""Splitting finds events without parsing them, and overlooks no object that repeats a key."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_gateway.errors import MalformedBodyError
from ingest_gateway.splitting import BodyForm, split

BLANKS = st.sampled_from(["", " ", "\n", "\t", "\r", "  "])
KEYS = st.sampled_from(["a", "b", "ab", "é", "", '"', "\\", "a\\", "]", "{", ",", "long" * 20])


class Pairs(list[Any]):
    """An object as its pairs, so that it may repeat a key."""


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), KEYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(st.tuples(KEYS, inner), max_size=4).map(Pairs),
    ),
    max_leaves=12,
)


def written(value: object, draw: Any) -> str:
    """Return ``value`` as JSON with blanks and escapes wherever JSON allows them."""
    blank = draw(BLANKS)
    if isinstance(value, Pairs):
        inner = [f"{written(key, draw)}{draw(BLANKS)}:{written(item, draw)}" for key, item in value]
        return f"{blank}{{{','.join(inner) or draw(BLANKS)}}}{blank}"
    if isinstance(value, list):
        return f"{blank}[{','.join(written(item, draw) for item in value) or blank}]{blank}"
    return f"{blank}{json.dumps(value, ensure_ascii=draw(st.booleans()))}{blank}"


def repeats_a_key(raw: bytes) -> bool:
    repeated = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        repeated.append(len({key for key, _ in pairs}) < len(pairs))

    json.loads(raw, object_pairs_hook=note)
    return any(repeated)


@settings(max_examples=400)
@given(st.lists(documents, max_size=4), st.data())
def test_an_array_is_split_into_what_json_says_are_its_items(
    items: list[Any], data: st.DataObject
) -> None:
    texts = [written(item, data.draw).strip() for item in items]
    padded = [f"{data.draw(BLANKS)}{text}{data.draw(BLANKS)}" for text in texts]
    body = f"{data.draw(BLANKS)}[{','.join(padded)}]{data.draw(BLANKS)}".encode()

    found = split(body, BodyForm.JSON)

    raws = [body[start:end] for start, end in found.spans.tolist()]
    assert raws == [text.encode() for text in texts]
    for raw, is_suspect in zip(raws, found.suspects.tolist(), strict=True):
        assert is_suspect or not repeats_a_key(raw)


@settings(max_examples=400)
@given(documents.filter(lambda value: isinstance(value, Pairs)), st.data())
def test_an_object_that_repeats_a_key_at_any_depth_is_suspected(
    value: Any, data: st.DataObject
) -> None:
    body = written(value, data.draw).encode()
    line = body.replace(b"\n", b" ").replace(b"\r", b" ")

    assert split(body, BodyForm.JSON).suspects.all() or not repeats_a_key(body)
    assert split(line, BodyForm.NDJSON).suspects.all() or not repeats_a_key(line)


def test_an_object_whose_keys_differ_is_not_suspected() -> None:
    """Or the quick way through would never be taken."""
    body = b'[{"a": {"a": 1, "b": 2}, "b": [{"a": 1}, {"a": 2}]}, {"a": "a", "b": "b"}]'

    assert split(body, BodyForm.JSON).suspects.tolist() == [False, False]


def test_the_suspicion_falls_on_the_item_that_earned_it() -> None:
    body = b'[{"a": 1}, {"a": 1, "a": 2}, {"a": 1}]'

    assert split(body, BodyForm.JSON).suspects.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "\\u0061": 2}',
        "{" + ", ".join(f'"k{number}": 0' for number in range(33)) + "}",
        '{"a": ' * 16 + "1" + "}" * 16,
    ],
)
def test_what_it_cannot_compare_it_suspects(text: str) -> None:
    assert split(text.encode(), BodyForm.JSON).suspects.all()


@pytest.mark.parametrize(
    ("text", "is_plain", "longest"),
    [
        ('["abc", "de"]', True, 3),
        ('["\u00e9"]', True, 2),
        ('["a\\n"]', False, 3),
        ('["a\x7f"]', False, 2),
        ('["a\u0080"]', False, 3),
        ('["a\u009f"]', False, 3),
    ],
)
def test_control_characters_cannot_hide(text: str, is_plain: bool, longest: int) -> None:
    found = split(text.encode(), BodyForm.JSON)

    assert (found.is_plain, found.longest_string) == (is_plain, longest)


@settings(max_examples=400)
@given(st.binary(max_size=40) | st.text('[]{}",:\\ \na1', max_size=40).map(str.encode))
def test_any_bytes_are_split_or_refused(body: bytes) -> None:
    lines = split(body, BodyForm.NDJSON)
    expected = [line.strip(b" \t\r\n") for line in body.split(b"\n")]
    assert [body[start:end] for start, end in lines.spans.tolist()] == [e for e in expected if e]

    try:
        found = split(body, BodyForm.JSON)
    except MalformedBodyError:
        return
    assert all(start < end for start, end in found.spans.tolist())
