"""Alignment of teacher scores to student tokens."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.bucket_world import student_difficulty
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from trims_core.alignment import align_rows
from trims_core.errors import AlignmentError

nats = st.floats(0, 50, allow_nan=False).map(abs)


def slow_difficulty(
    teacher_end: Sequence[int], values: Sequence[float], student_end: Sequence[int]
) -> list[float]:
    """The obvious version: byte by byte, then the tokens without bytes one place at a time."""
    per_byte: list[float] = []
    for (start, end), value in zip(itertools.pairwise([0, *teacher_end]), values, strict=True):
        per_byte += [value / (end - start)] * (end - start) if end > start else []
    out = [
        sum(per_byte[start:end]) if end > start else 0.0
        for start, end in itertools.pairwise([0, *student_end])
    ]
    teacher_empty = [i for i, (a, b) in enumerate(itertools.pairwise([0, *teacher_end])) if a == b]
    for place in {teacher_end[i] for i in teacher_empty}:
        here = [i for i in teacher_empty if teacher_end[i] == place]
        there = [i for i, (a, b) in enumerate(itertools.pairwise([0, *student_end])) if a == b == place]
        for i in reversed(here):
            if there:
                out[there.pop() if len(there) > 1 else there[0]] += values[i]
            else:
                covers = [
                    j for j, (a, b) in enumerate(itertools.pairwise([0, *student_end])) if a <= place < b
                ]
                last = [j for j, (a, b) in enumerate(itertools.pairwise([0, *student_end])) if a < b]
                out[(covers or last[-1:])[0]] += values[i]
    return out


@st.composite
def examples(draw: st.DrawFn) -> tuple[list[int], list[float], list[int]]:
    """Two tokenizations of one text, with tokens without bytes anywhere on both sides."""
    n_bytes = draw(st.integers(0, 30))
    ends = st.lists(st.integers(0, n_bytes), max_size=12).map(sorted)
    teacher = [*draw(ends), n_bytes, *[n_bytes] * draw(st.integers(0, 2))]
    student = [*draw(ends), n_bytes, *[n_bytes] * draw(st.integers(0, 2))]
    values = draw(st.lists(nats, min_size=len(teacher), max_size=len(teacher)))
    return teacher, values, student


@given(examples())
def test_alignment_equals_the_byte_by_byte_version(example: tuple[list[int], list[float], list[int]]) -> None:
    found = student_difficulty(*example)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, slow_difficulty(*example), rtol=1e-12, atol=1e-12)


@given(examples())
def test_the_sum_over_an_example_is_conserved(example: tuple[list[int], list[float], list[int]]) -> None:
    assert abs(student_difficulty(*example).sum() - sum(example[1])) <= 1e-9


@given(examples())
def test_equal_tokenizations_give_the_identity_exactly(
    example: tuple[list[int], list[float], list[int]],
) -> None:
    teacher, values, _ = example
    assert student_difficulty(teacher, values, teacher).tolist() == values


@given(st.lists(examples(), max_size=6))
def test_an_example_does_not_depend_on_its_neighbours(
    rows: list[tuple[list[int], list[float], list[int]]],
) -> None:
    teacher = np.array([end for row in rows for end in row[0]], dtype=np.int32)
    values = np.array([value for row in rows for value in row[1]])
    student = np.array([end for row in rows for end in row[2]], dtype=np.int32)
    teacher_offsets = np.cumsum([0, *(len(row[0]) for row in rows)])
    student_offsets = np.cumsum([0, *(len(row[2]) for row in rows)])
    found = align_rows(
        teacher, values, teacher_offsets, student, student_offsets, [str(i) for i in range(len(rows))]
    )
    alone = [student_difficulty(*row) for row in rows]
    assert found.tolist() == [value for row in alone for value in row.tolist()]


def test_a_token_is_spread_evenly_over_its_bytes() -> None:
    # Teacher "abcd" (8 nats) + "ef" (1 nat) + end of turn; student "abc" + "def" + end of turn.
    assert student_difficulty([4, 6, 6], [8.0, 1.0, 0.25], [3, 6, 6]).tolist() == [6.0, 3.0, 0.25]


def test_end_of_turn_meets_end_of_turn() -> None:
    # The student has one more token without bytes before its end of turn.
    assert student_difficulty([2, 2], [1.0, 7.0], [2, 2, 2]).tolist() == [1.0, 0.0, 7.0]


def test_a_value_without_partner_goes_to_the_token_over_the_next_byte() -> None:
    # A teacher's empty prefix at byte 0, and one inside the student's second token.
    assert student_difficulty([0, 2, 2, 4, 4], [5.0, 1.0, 3.0, 1.0, 2.0], [1, 4, 4]).tolist() == [
        5.5,
        4.5,
        2.0,
    ]


def test_a_value_at_the_end_without_partner_goes_to_the_last_token() -> None:
    assert student_difficulty([2, 2], [1.0, 7.0], [1, 2]).tolist() == [0.5, 7.5]


def test_other_lengths_are_refused_with_the_example_named() -> None:
    with pytest.raises(AlignmentError, match=r"1 of 2 .*example-b \(teacher 5 bytes, student 4\)"):
        align_rows(
            np.array([3, 5]),
            np.ones(2),
            np.array([0, 1, 2]),
            np.array([3, 4]),
            np.array([0, 1, 2]),
            ["a", "example-b"],
        )


def test_falling_offsets_are_refused_with_the_token_named() -> None:
    with pytest.raises(AlignmentError, match=r"example \?: student token 1 ends at byte 2"):
        student_difficulty([3], [1.0], [3, 2, 3])


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(AlignmentError, match="2 teacher offsets but 1 values"):
        student_difficulty([3, 3], [1.0], [3, 3])


def test_a_student_without_tokens_cannot_take_a_score() -> None:
    with pytest.raises(AlignmentError, match="1 of 1"):
        student_difficulty([0], [1.0], [])


# Real tokenizers: the counts of alignment_facts.json were made independently of this code.


def _texts(shared: Path) -> Iterator[tuple[str, list[str]]]:
    def lines(name: str, key: str) -> list[str]:
        with gzip.open(shared / "data" / name, "rt", encoding="utf-8") as file:
            return [json.loads(line)[key] for line in file]

    yield "gsm8k_test_answers", lines("gsm8k/test.jsonl.gz", "answer")
    yield "mbpp_code", lines("mbpp/mbpp.jsonl.gz", "code")
    yield "marco_o1_responses", lines("reasoning_sft/marco_o1_cot_demo.jsonl.gz", "response")


@pytest.fixture(scope="module")
def tokenizers(shared_data: Path) -> dict[str, Tokenizer]:
    folder = shared_data / "data" / "tokenizers"
    loaded = {
        name: Tokenizer.from_str(gzip.decompress((folder / path).read_bytes()).decode())
        for name, path in (
            ("qwen", "qwen3/tokenizer.json.gz"),
            ("gptneox20b", "gptneox20b/tokenizer.json.gz"),
        )
    }
    merges = gzip.decompress((folder / "gpt2/merges.txt.gz").read_bytes()).decode().splitlines()
    gpt2 = Tokenizer(
        models.BPE(
            vocab=json.loads(gzip.decompress((folder / "gpt2/vocab.json.gz").read_bytes())),
            merges=[(a, b) for a, b in (line.split() for line in merges if not line.startswith("#version"))],
        )
    )
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt2.decoder = decoders.ByteLevel()
    return {**loaded, "gpt2": gpt2}


def _byte_ends(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray[Any, Any]]:
    """End of each token in UTF-8 bytes, from the length of the byte-level token itself."""
    added = {i: len(token.content.encode()) for i, token in tokenizer.get_added_tokens_decoder().items()}
    width = [added.get(i, len(tokenizer.id_to_token(i) or "")) for i in range(tokenizer.get_vocab_size())]
    return [
        np.cumsum([width[i] for i in encoding.ids], dtype=np.int64)
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    ]


def test_real_tokenizers_align_with_the_recorded_boundaries(
    shared_data: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    facts = json.loads((shared_data / "data/tokenizers/alignment_facts.json").read_text())
    rng = np.random.default_rng(0)
    for source, texts in _texts(shared_data):
        teacher = _byte_ends(tokenizers["qwen"], texts)
        teacher_offsets = np.cumsum([0, *map(len, teacher)])
        values = rng.gamma(0.3, 2.0, int(teacher_offsets[-1]))
        for name in ("gptneox20b", "gpt2"):
            student = _byte_ends(tokenizers[name], texts)
            offsets = np.cumsum([0, *map(len, student)])
            difficulty = align_rows(
                np.concatenate(teacher), values, teacher_offsets, np.concatenate(student), offsets, texts
            )
            fact = facts[source][name]
            assert (len(values), len(difficulty)) == (fact["qwen_tokens"], fact["other_tokens"])
            np.testing.assert_allclose(
                np.add.reduceat(difficulty, offsets[:-1]),
                np.add.reduceat(values, teacher_offsets[:-1]),
                atol=1e-9,
            )
            assert (difficulty >= 0).all()
            # Tokens equal on both sides keep their value to the last bit.
            n_equal = 0
            for row, (ends_t, ends_s) in enumerate(zip(teacher, student, strict=True)):
                spans = {span: i for i, span in enumerate(itertools.pairwise([0, *ends_t.tolist()]))}
                for i, span in enumerate(itertools.pairwise([0, *ends_s.tolist()])):
                    if span in spans:
                        n_equal += 1
                        assert difficulty[offsets[row] + i] == values[teacher_offsets[row] + spans[span]]
            assert n_equal == fact["exact_1to1_tokens"]
