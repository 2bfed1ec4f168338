"""Where the events of a body begin and end, and which of them might repeat a key.

One compiled pass over the bytes that knows strings, brackets and commas and nothing else of JSON:
whatever an event holds (bad UTF-8, NaN, twenty thousand brackets), its neighbours are found.
Keys are compared by hash, because decoders take the last of two equal keys without a word; an
event that may hold such a pair is only suspected here, and judged by whoever parses it.
"""

from enum import StrEnum
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from ingest_gateway.errors import MalformedBodyError, TooManyEventsError

EVENTS_MAX = 10_000
"""Events of one request."""

_DEPTH_MAX = 16
_KEYS_MAX = 32
"""Deeper objects, and objects with more keys, are suspected unseen."""

_QUOTE, _BACKSLASH, _COMMA = 0x22, 0x5C, 0x2C
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = 0x7B, 0x7D, 0x5B, 0x5D
_DELETE = 0x7F
_C1_LEAD = 0xC2
"""First byte of the control characters U+0080 to U+009F; of others too, so only a suspicion."""

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)

_NOT_CLOSED = -1
_NOT_AN_ARRAY_END = -2
_AFTER_THE_END = -3
_EMPTY_ITEM = -4
_TOO_MANY = -5

_REASONS = {
    _NOT_CLOSED: "it ends within a string, an array or an object",
    _NOT_AN_ARRAY_END: "its array is closed by another bracket",
    _AFTER_THE_END: "more follows after its end",
    _EMPTY_ITEM: "an item between two commas, or before a bracket, is empty",
}

_BLANKS = b" \t\r\n"


class BodyForm(StrEnum):
    """How a body holds its events."""

    JSON = "json"
    """One object, or an array of them."""

    NDJSON = "ndjson"
    """One object a line."""


class Split(NamedTuple):
    """The events of a body, not yet parsed.

    Attributes:
        spans: Shape (events, 2): first byte of each, and the one after its last.
        suspects: Shape (events,): whether it may hold an object with two equal keys.
        is_plain: Whether no string can hold a control character or an escape.
        longest_string: Bytes of the longest string, escapes not undone.
        is_array: Whether the body is an array; otherwise it is one object, or lines.
    """

    spans: NDArray[np.int64]
    suspects: NDArray[np.bool_]
    is_plain: bool
    longest_string: int
    is_array: bool


def split(body: bytes, form: BodyForm) -> Split:
    """Return where the events of a body are.

    Raises:
        MalformedBodyError: If they cannot be told apart. Lines always can.
        TooManyEventsError: If there are more than ``EVENTS_MAX``.
    """
    octets = np.frombuffer(body, np.uint8)
    spans = np.empty((EVENTS_MAX, 2), np.int64)
    suspects = np.zeros(EVENTS_MAX, np.bool_)
    is_array = False
    if form is BodyForm.NDJSON:
        count, is_plain, longest = _split_lines(octets, spans, suspects)
    else:
        start, end = len(body) - len(body.lstrip(_BLANKS)), len(body.rstrip(_BLANKS))
        opening = body[start : start + 1]
        if opening not in (b"{", b"["):
            raise MalformedBodyError("the body must start with { or [: one event, or an array")
        is_array = opening == b"["
        count, is_plain, longest = _split_json(octets, start, end, is_array, spans, suspects)
    if count == _TOO_MANY:
        raise TooManyEventsError(f"more than {EVENTS_MAX} events, must be {EVENTS_MAX} at most")
    if count < 0:
        raise MalformedBodyError(f"the body cannot be split into events: {_REASONS[count]}")
    return Split(spans[:count], suspects[:count], bool(is_plain), int(longest), is_array)


@numba.njit(cache=True, nogil=True)
def _string_end(octets, start, end, is_key):  # type: ignore[no-untyped-def]
    """Return where the string that opens at ``start`` closes, and what is in it.

    Returns:
        Position of the closing quote (``end`` if there is none), for a key a hash of its bytes,
        whether there is an escape, whether a character may be a control character.
    """
    value = _FNV_OFFSET
    has_escape, has_control = False, False
    position = start + 1
    while position < end:
        octet = octets[position]
        if octet == _QUOTE:
            break
        if octet == _BACKSLASH:
            has_escape = True
            position += 1
        elif octet in (_DELETE, _C1_LEAD):
            has_control = True
        if is_key:
            value = (value ^ np.uint64(octet)) * _FNV_PRIME
        position += 1
    return min(position, end), value, has_escape, has_control


@numba.njit(cache=True, nogil=True)
def _is_blank(octet):  # type: ignore[no-untyped-def]
    return octet in (32, 10, 13, 9)


@numba.njit(cache=True, nogil=True)
def _walk(octets, start, end, splits, spans, suspects, keys):  # type: ignore[no-untyped-def]
    """Read one event (``splits`` False), or an array and note where its items are.

    Args:
        octets: The body.
        start: First byte, not blank.
        end: One after the last, which is not blank.
        splits: Whether it is an array whose items are wanted.
        spans: Takes the items.
        suspects: Takes whether an item may repeat a key.
        keys: Shape (depths, keys), scratch: hashes of the keys of each open object.

    Returns:
        Number of items or a negative reason; whether a key may repeat outside of items (always,
        if there is a reason); whether no string holds escapes or control characters; length of
        the longest string.
    """
    depth, count, item_start = 0, 0, start + 1
    is_suspect, is_plain, longest = False, True, 0
    is_object = np.zeros(_DEPTH_MAX, np.bool_)
    expects_key = np.zeros(_DEPTH_MAX, np.bool_)
    key_counts = np.zeros(_DEPTH_MAX, np.int64)
    position = start
    while position < end:
        octet = octets[position]
        if octet == _QUOTE:
            is_key = depth < _DEPTH_MAX and expects_key[depth]
            close, value, has_escape, has_control = _string_end(octets, position, end, is_key)
            if close == end:
                return _NOT_CLOSED, True, False, longest
            is_plain = is_plain and not has_escape and not has_control
            longest = max(longest, close - position - 1)
            if is_key:
                expects_key[depth] = False
                key_count = key_counts[depth]
                if has_escape or key_count == _KEYS_MAX:
                    is_suspect = True
                else:
                    for earlier in range(key_count):
                        if keys[depth, earlier] == value:
                            is_suspect = True
                    keys[depth, key_count] = value
                    key_counts[depth] = key_count + 1
            position = close
        elif octet in (_OPEN_OBJECT, _OPEN_ARRAY):
            depth += 1
            if depth < _DEPTH_MAX:
                is_object[depth] = octet == _OPEN_OBJECT
                expects_key[depth] = is_object[depth]
                key_counts[depth] = 0
            else:
                is_suspect = True
        elif octet in (_COMMA, _CLOSE_OBJECT, _CLOSE_ARRAY):
            if splits and depth == 1:
                is_last = octet != _COMMA
                if is_last and octet != _CLOSE_ARRAY:
                    return _NOT_AN_ARRAY_END, True, False, longest
                first, last = item_start, position
                while first < last and _is_blank(octets[first]):
                    first += 1
                while last > first and _is_blank(octets[last - 1]):
                    last -= 1
                if first < last:
                    if count == len(spans):
                        return _TOO_MANY, True, False, longest
                    spans[count, 0], spans[count, 1] = first, last
                    suspects[count] = is_suspect
                    count += 1
                    is_suspect = False
                elif not (is_last and count == 0):
                    return _EMPTY_ITEM, True, False, longest
                item_start = position + 1
            if octet != _COMMA:
                depth -= 1
                if depth < 0:
                    return _NOT_CLOSED, True, False, longest
                if depth == 0 and position + 1 < end:
                    return _AFTER_THE_END, True, False, longest
            elif depth < _DEPTH_MAX:
                expects_key[depth] = is_object[depth]
        position += 1
    if depth != 0:
        return _NOT_CLOSED, True, False, longest
    return count, is_suspect, is_plain, longest


@numba.njit(cache=True, nogil=True)
def _split_json(octets, start, end, is_array, spans, suspects):  # type: ignore[no-untyped-def]
    keys = np.empty((_DEPTH_MAX, _KEYS_MAX), np.uint64)
    count, is_suspect, is_plain, longest = _walk(
        octets, start, end, is_array, spans, suspects, keys
    )
    if count >= 0 and not is_array:
        spans[0, 0], spans[0, 1] = start, end
        suspects[0] = is_suspect
        count = 1
    return count, is_plain, longest


@numba.njit(cache=True, nogil=True)
def _split_lines(octets, spans, suspects):  # type: ignore[no-untyped-def]
    keys = np.empty((_DEPTH_MAX, _KEYS_MAX), np.uint64)
    is_plain, longest, count = True, 0, 0
    start = 0
    while start < len(octets):
        newline = start
        while newline < len(octets) and octets[newline] != 10:
            newline += 1
        first, last = start, newline
        while first < last and _is_blank(octets[first]):
            first += 1
        while last > first and _is_blank(octets[last - 1]):
            last -= 1
        start = newline + 1
        if first == last:
            continue
        if count == len(spans):
            return _TOO_MANY, False, longest
        _, is_suspect, line_is_plain, line_longest = _walk(
            octets, first, last, False, spans, suspects, keys
        )
        spans[count, 0], spans[count, 1] = first, last
        suspects[count] = is_suspect
        count += 1
        is_plain = is_plain and line_is_plain
        longest = max(longest, line_longest)
    return count, is_plain, longest
