"""A student's tokens as text: characters in pieces, tokens without text, stop strings, bytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fakes.decoding_checkpoint import FIRST_SPECIAL, SPECIAL, byte_tokenizer

from trims_core.analysis.texts import StudentTexts

START, END, MASK, TURN = FIRST_SPECIAL, FIRST_SPECIAL + 1, FIRST_SPECIAL + 2, FIRST_SPECIAL + 5
FAMILY: Any = SimpleNamespace(end_ids=frozenset({END, TURN}), mask_id=MASK)
UNKNOWN = FIRST_SPECIAL + len(SPECIAL) + 3
"""The embedding has a row for it, the tokenizer no token."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture
def texts(tokenizer: Any) -> StudentTexts:
    return StudentTexts(tokenizer, FAMILY, ())


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", ["The answer is 4.", " é 你好 🥧", "", "a\x00b\x1b[31m", "<b>&amp;\u202e"])
def test_the_text_is_what_the_tokenizer_says(texts: StudentTexts, tokenizer: Any, text: str) -> None:
    ids = ids_of(tokenizer, text)
    assert texts.text(ids) == text == tokenizer.decode(ids)
    shown = texts.shown(ids)
    assert (shown.places, shown.byte_end) == (list(range(len(ids))), list(range(1, len(ids) + 1)))


def test_a_character_is_there_once_all_its_bytes_are(texts: StudentTexts, tokenizer: Any) -> None:
    ids = ids_of(tokenizer, "a€b")
    assert [texts.text(ids[:n]) for n in range(6)] == ["", "a", "a", "a", "a€", "a€b"]
    assert texts.text([ids[0], ids[2], ids[4]]) == "ab"  # its middle alone
    shown = texts.shown([ids[0], ids[1], ids[4]])
    assert (shown.text, shown.places, shown.byte_end) == ("ab", [0, 2], [1, 2])


def test_special_tokens_ends_masks_and_ids_without_a_token_have_no_text(
    texts: StudentTexts, tokenizer: Any
) -> None:
    (a,) = ids_of(tokenizer, "a")
    shown = texts.shown([START, a, MASK, UNKNOWN, a, TURN])
    assert (shown.text, shown.places, shown.byte_end) == ("aa", [1, 4], [1, 2])


def test_text_ends_at_the_first_end_token_if_asked(texts: StudentTexts, tokenizer: Any) -> None:
    ids = [*ids_of(tokenizer, "ab"), END, *ids_of(tokenizer, "cd"), TURN]
    assert (texts.up_to_end(ids), texts.text(ids), texts.up_to_end(ids[:2])) == ("ab", "abcd", "ab")
    assert texts.up_to_end([END]) == ""


def test_text_ends_before_the_first_stop_string(tokenizer: Any) -> None:
    texts = StudentTexts(tokenizer, FAMILY, ("Q:", "\n\n"))
    shown = texts.shown(ids_of(tokenizer, "é4\n\nQ: 5"))
    assert (shown.text, shown.places, shown.byte_end) == ("é4", [0, 1, 2], [1, 2, 3])
