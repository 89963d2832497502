"""What the teacher is asked: each text once, behind its prompt as an answer stands; refusals have reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes.teacher import FakeTeacher, fake_nll, write_tokenizer
from fakes.templates import QWEN3

from trims_core.analysis.questions import Asker, Questions, Said, questions_of
from trims_core.benchmarks import Problem
from trims_core.config import ScoresConfig
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.teacher.protocol import Refused, Request

PROBLEMS = {name: Problem.asking(name, f"What is {name}?", "4") for name in ("a", "b")}
TEXTS = [("a", "It is 4."), ("b", "It is 4."), ("a", "It"), ("a", "It is 4."), ("b", "")]
END_TOKENS = 1


def renderer_in(folder: Path, **options: str) -> Renderer:
    """Of the tokenizer of single bytes."""
    return Renderer(load_tokenizer(str(write_tokenizer(folder / "teacher", **options))))


def asked(teacher: FakeTeacher, questions: Questions, **limits: int | None) -> dict[object, Said | Refused]:
    told = {"context": None, "vocab_size": None, "rows_per_call": 100, **limits}
    asker = Asker(teacher, "fake", told["context"], told["vocab_size"], told["rows_per_call"] or 1)
    return dict(questions.said(asker.replies(questions, lambda _note: None)))


@pytest.fixture
def teacher(tmp_path: Path) -> FakeTeacher:
    return FakeTeacher(ScoresConfig(model=str(tmp_path / "teacher"), teacher="fake"))


def test_each_text_is_asked_once_with_the_prompt_and_end_of_the_scores(tmp_path: Path) -> None:
    renderer = renderer_in(tmp_path)
    questions = questions_of(renderer, TEXTS, PROBLEMS, "Be brief.")
    assert sorted(questions.texts) == sorted(set(TEXTS))
    for row, (name, text) in enumerate(questions.texts):
        request = questions.request(row)
        conversation = PROBLEMS[name].conversation("Be brief.")
        assert request.prompt_ids == renderer.prompt_ids(conversation)
        assert request.target_ids == [*renderer.completion(text).ids, *renderer.end_ids]
    longest = max(questions.request(row).n_tokens for row in range(len(questions.texts)))
    assert questions.longest(None) == longest
    assert questions.longest(longest - 1) < longest


def test_the_values_are_those_of_the_text_without_its_end(tmp_path: Path, teacher: FakeTeacher) -> None:
    renderer = renderer_in(tmp_path)
    said = asked(teacher, questions_of(renderer, TEXTS, PROBLEMS, None), rows_per_call=2)
    prompt = renderer.prompt_ids(PROBLEMS["b"].messages)
    target = renderer.completion("It is 4.").ids
    expected = fake_nll(Request("", prompt, target))
    found = said["b", "It is 4."]
    assert isinstance(found, Said)
    assert found.nll_T[: found.n_tokens].tolist() == expected
    assert found.mean_nats() == pytest.approx(np.mean(expected))
    assert found.byte_end_T.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    nothing = said["b", ""]
    assert isinstance(nothing, Said) and (nothing.n_tokens, len(nothing.nll_T)) == (0, END_TOKENS)


def test_what_the_teacher_cannot_read_is_refused_with_its_reason(
    tmp_path: Path, teacher: FakeTeacher
) -> None:
    questions = questions_of(renderer_in(tmp_path), TEXTS, PROBLEMS, None)
    short = questions.request(questions.texts.index(("a", "It"))).n_tokens
    found = asked(teacher, questions, context=short)
    reasons = {text: one.reason for text, one in found.items() if isinstance(one, Refused)}
    assert reasons == {("a", "It is 4."): "too_long", ("b", "It is 4."): "too_long"}
    teacher.values, teacher.silent = {"0": "nan"}, {"1"}
    found = asked(teacher, questions)
    first, second = (found[questions.texts[row]] for row in (0, 1))
    assert isinstance(first, Refused) and first.reason == "non_finite"
    assert isinstance(second, Refused) and second.reason == "no_reply"


def test_a_text_that_the_tokenizer_changes_is_refused_alone(tmp_path: Path, teacher: FakeTeacher) -> None:
    from tokenizers import normalizers

    renderer_in(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path / "teacher"))
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    apart = "e\u0301"
    texts = [("a", apart), ("a", "plain")]
    found = asked(teacher, questions_of(Renderer(tokenizer), texts, PROBLEMS, None))
    assert isinstance(found["a", "plain"], Said)
    refused = found["a", apart]
    assert isinstance(refused, Refused) and refused.reason == "tokenizer_changes_text"


def test_begun_answers_and_plain_prompts_stand_as_in_decoding(tmp_path: Path) -> None:
    renderer = renderer_in(tmp_path)
    begun = Problem("a", PROBLEMS["a"].messages, "4", answer_prefix="The answer is")
    plain = Problem("b", ({"role": "user", "content": "def f():"},), "4", chat=False)
    texts = [("a", " 4"), ("b", "\n  return 4")]
    questions = questions_of(renderer, texts, {"a": begun, "b": plain}, "Be brief.")
    prompts = ["".join(map(chr, questions.prompts_R[row])) for row in (0, 1)]
    (header,) = renderer.prompt_texts([begun.conversation("Be brief.")])
    assert questions.request(0).prompt_ids == renderer.text_ids([f"{header}The answer is"])[0]
    assert questions.request(1).prompt_ids == renderer.text_ids(["def f():"])[0]
    assert len(prompts[1]) == len("def f():")


def test_a_template_that_refuses_costs_its_problem_and_no_other(tmp_path: Path, teacher: FakeTeacher) -> None:
    picky = "{% if messages[0]['content'] == 'What is a?' %}{{ raise_exception('no') }}{% endif %}" + QWEN3
    renderer = renderer_in(tmp_path, template=picky)
    for prefix in ("", "It is"):
        problems = {
            name: Problem(name, one.messages, "4", answer_prefix=prefix) for name, one in PROBLEMS.items()
        }
        found = asked(teacher, questions_of(renderer, [("a", "4"), ("b", "4")], problems, None))
        refused = found["a", "4"]
        assert isinstance(refused, Refused) and refused.reason == "template_refuses"
        assert isinstance(found["b", "4"], Said)


def test_a_prompt_is_held_once_however_many_texts_stand_behind_it(tmp_path: Path) -> None:
    questions = questions_of(renderer_in(tmp_path), [("a", "x" * n) for n in range(50)], PROBLEMS, None)
    assert len({id(prompt) for prompt in questions.prompts_R}) == 1
