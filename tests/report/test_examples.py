"""Pieces cover an answer's tokens once and its text exactly; examples are chosen by id alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.report_world import ANSWERS, ReportWorld, write_student
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from trims_core.keyed import chosen
from trims_core.rendering import load_tokenizer
from trims_core.report.cells import load_cells
from trims_core.report.examples import answers_side_by_side, corpus_examples, pieces
from trims_core.report.runs import Run
from trims_core.store import Artifact


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Byte-level, almost no merges: every character outside ASCII is split."""
    return load_tokenizer(str(write_student(tmp_path_factory.mktemp("student"))))


@given(text=st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_pieces_partition_the_tokens_and_join_to_the_text(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    found = pieces(ids, tokenizer)
    assert "".join(piece for _, _, piece in found) == text
    assert [start for start, _, _ in found] == [0, *(end for _, end, _ in found)][: len(found)]
    assert (found[-1][1] if found else 0) == len(ids)


def test_a_character_split_over_tokens_is_one_piece(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.encode("é🥧", add_special_tokens=False)
    assert len(ids) == 6
    assert pieces(ids, tokenizer) == [(0, 2, "é"), (2, 6, "🥧")]


def test_special_tokens_are_shown(tokenizer: PreTrainedTokenizerFast) -> None:
    assert [text for _, _, text in pieces([*tokenizer.encode("a"), 2], tokenizer)] == ["a", "<|eot_id|>"]


def test_bytes_that_never_make_a_character_end_in_one_piece(tokenizer: PreTrainedTokenizerFast) -> None:
    half = tokenizer.encode("é", add_special_tokens=False)[:1]
    assert pieces(half, tokenizer) == [(0, 1, "�")]


def test_the_choice_of_examples_depends_on_ids_alone() -> None:
    ids = [f"p{i}" for i in range(50)]
    assert chosen(ids, 4) == chosen(reversed(ids), 4)
    assert len(set(chosen(ids, 4))) == 4
    assert chosen(["a"], 4) == ["a"]


def test_corpus_examples_carry_the_bucket_and_difficulty_of_their_tokens(
    parents: dict[str, Artifact], tokenizer: PreTrainedTokenizerFast
) -> None:
    buckets = parents["buckets"].files("buckets-")
    examples = corpus_examples(buckets, parents["corpus"].files("corpus-"), tokenizer, 9)
    assert len(examples) == 9
    for example in examples:
        text = "".join(piece["text"] for piece in example["pieces"])
        assert text == ANSWERS[int(example["id"][2:]) % 3] + "<|eot_id|>"
        assert sum(piece["n_tokens"] for piece in example["pieces"]) == example["n_tokens"]
        assert {piece["bucket"] for piece in example["pieces"]} <= {1, 2, 3, 4}
        assert example["prompt"] == f"Question {example['id'][2:]}?"


def test_every_method_answers_the_same_problems_at_a_middle_threshold(
    world: ReportWorld, parents: dict[str, Artifact]
) -> None:
    cells, _ = load_cells([Run(world.config(), parents)])
    shown = answers_side_by_side(cells, 3)
    assert shown["threshold"] == 0.6
    assert len(shown["problems"]) == 3
    for problem in shown["problems"]:
        assert [answer["model"] for answer in problem["answers"]] == ["untuned", "standard-s0", "trims-s0"]
        for answer in problem["answers"]:
            assert ("not" in answer["text"]) != answer["correct"]
            assert answer["verdict"] == ("right" if answer["correct"] else "wrong")
            assert answer["answer"] == (problem["gold"] if answer["correct"] else "35")


def test_no_examples_are_shown_where_none_are_wanted(
    parents: dict[str, Artifact], tokenizer: PreTrainedTokenizerFast
) -> None:
    buckets, corpus = parents["buckets"].files("buckets-"), parents["corpus"].files("corpus-")
    assert corpus_examples(buckets, corpus, tokenizer, 0) == []


def test_answers_need_a_threshold_that_all_methods_have(tmp_path: Path) -> None:
    world = ReportWorld(
        tmp_path, edit=lambda model, t, rows: rows if (model == "untuned") == (t is None) else None
    )
    cells, _ = load_cells([Run(world.config(), world.parents())], partial=True)
    assert answers_side_by_side(cells, 3) == {"threshold": None, "problems": []}
