"""The demo's tokenizers: complete, deterministic, and different from each other."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trims_core.demo.problems import draw_problem
from trims_core.demo.tokenizers import student_tokenizer, teacher_tokenizer
from trims_core.demo.wordings import worked_answer
from trims_core.students.tokenizer import save_tokenizer

CONVERSATION = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "3 + 4 = 7."}]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return reloaded(teacher_tokenizer(7), tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return reloaded(student_tokenizer(7), tmp_path_factory.mktemp("student"))


def reloaded(tokenizer: PreTrainedTokenizerFast, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer as a user gets it: saved, and loaded from its folder."""
    save_tokenizer(tokenizer, folder)
    return AutoTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_any_bytes_survive_a_round_trip(which: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(which)
    text = "".join(chr(i) for i in range(1, 0x250)) + " 3 × 4 = 12 € \U0001f600 日本\n\t  end"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_digits_are_tokens_of_their_own(which: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(which)
    pieces = [
        tokenizer.decode([i]) for i in tokenizer("x 12345 and 67", add_special_tokens=False)["input_ids"]
    ]
    assert all(len(piece.strip()) == 1 for piece in pieces if any(c.isdigit() for c in piece))


def test_training_again_gives_the_same_tokenizer(student: PreTrainedTokenizerFast) -> None:
    again = student_tokenizer.__wrapped__(7)
    assert again.backend_tokenizer.to_str() == student.backend_tokenizer.to_str()


def spans(tokenizer: PreTrainedTokenizerFast, text: str) -> list[tuple[int, int]]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets


def test_each_tokenizer_splits_what_the_other_keeps_whole(
    teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast
) -> None:
    rng = random.Random("boundaries")
    finer_teacher = finer_student = 0
    for _ in range(300):
        text = worked_answer(rng, draw_problem(rng), "tuned")
        ends = [{end for _, end in spans(tokenizer, text)} for tokenizer in (teacher, student)]
        finer_teacher += bool(ends[0] - ends[1])
        finer_student += bool(ends[1] - ends[0])
    assert finer_teacher == 300
    assert finer_student > 30


def test_boundaries_cross_on_other_english(
    teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast
) -> None:
    text = "The company combined its service and completed a serving."
    pairs = [(x, y) for x in spans(teacher, text) for y in spans(student, text)]
    assert sum(a < c < b < d or c < a < d < b for (a, b), (c, d) in pairs) >= 3


def test_the_teachers_template_is_chatml(teacher: PreTrainedTokenizerFast) -> None:
    text = teacher.apply_chat_template(CONVERSATION[:1], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    assert teacher.eos_token == "<|im_end|>"


def test_the_students_template_honours_add_generation_prompt(student: PreTrainedTokenizerFast) -> None:
    finished = student.apply_chat_template(CONVERSATION, tokenize=False)
    assert finished == (
        "<|startoftext|><|start_header_id|>user<|end_header_id|>\n\nHow many?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n3 + 4 = 7.<|eot_id|>"
    )
    asked = student.apply_chat_template(CONVERSATION[:1], tokenize=False, add_generation_prompt=True)
    assert asked.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_special_tokens_are_one_id_each(
    teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast
) -> None:
    for tokenizer, tokens in (
        (teacher, ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
        (student, ("<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>", "<|eot_id|>", "<|start_header_id|>")),
    ):
        for token in tokens:
            assert tokenizer(token, add_special_tokens=False)["input_ids"] == [
                tokenizer.convert_tokens_to_ids(token)
            ]
    assert student.mask_token == "<|mdm_mask|>"
