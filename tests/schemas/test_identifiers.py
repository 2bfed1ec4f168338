"""Names are plain ASCII; ids of units and events are the client's, within bounds."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import is_external_id, is_name

NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"


@given(st.text(NAME_CHARACTERS, min_size=1, max_size=128))
def test_letters_digits_and_four_signs_make_a_name(text: str) -> None:
    assert is_name(text)


@given(st.text(NAME_CHARACTERS, max_size=5), st.characters(), st.text(NAME_CHARACTERS, max_size=5))
def test_any_other_character_breaks_a_name(before: str, character: str, after: str) -> None:
    assert is_name(before + character + after) == (character in NAME_CHARACTERS)


@pytest.mark.parametrize(("length", "allowed"), [(0, False), (1, True), (128, True), (129, False)])
def test_a_name_has_1_to_128_characters(length: int, *, allowed: bool) -> None:
    assert is_name("a" * length) == allowed


@given(st.text())
def test_an_external_id_is_1_to_256_bytes_without_control_characters(text: str) -> None:
    size = len(text.encode())
    has_control = any(unicodedata.category(character) == "Cc" for character in text)

    assert is_external_id(text) == (1 <= size <= 256 and not has_control)


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
def test_an_external_id_is_measured_in_bytes(character: str) -> None:
    fitting = 256 // len(character.encode())

    assert is_external_id(character * fitting)
    assert not is_external_id(character * (fitting + 1))


@pytest.mark.parametrize("character", ["\x00", "\x1f", "\n", "\x7f", "\x80", "\x9f"])
def test_every_control_character_breaks_an_external_id(character: str) -> None:
    assert not is_external_id(f"a{character}b")
