"""Decoding and grading one cell with a student whose answers are known."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from fakes.decoding_checkpoint import FIRST_SPECIAL, VOCABULARY, byte_tokenizer

from trims_core.benchmarks import Problem, get_benchmark
from trims_core.config import SweepConfig
from trims_core.errors import ConfigError, SweepError
from trims_core.students.llada import CHAT_TEMPLATE
from trims_core.sweep.cells import Cell
from trims_core.sweep.runner import Runner, TaskProblems

EOS, MASK, EOT = FIRST_SPECIAL + 1, FIRST_SPECIAL + 2, FIRST_SPECIAL + 5
GEN = 32
ONE, POINT = (Cell("demo", "none", "threshold", value) for value in (None, 0.9))


class _Family:
    mask_id, eos_id, eot_id, end_ids, context_length = MASK, EOS, EOT, frozenset({EOS, EOT}), 256
    lookback, vocab_size = 0, VOCABULARY


class _Parrot:
    """Always answers the same text; remembers the prompts it was given."""

    def __init__(self, text: str, height: float = 30.0) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.family = _Family()
        self.tokenizer = byte_tokenizer()
        self.tokenizer.chat_template = CHAT_TEMPLATE
        self.prompts: set[str] = set()
        answer = self.tokenizer(text, add_special_tokens=False)["input_ids"] + [EOT]
        self._tokens = answer + [EOS] * (GEN - len(answer))
        self._height = height

    def head(self, hidden_XD):
        return hidden_XD

    def hidden(self, ids_BL, position_ids_BL=None, attention_mask_BL=None, cache=None):
        for row, ids in enumerate(ids_BL.tolist()):
            n_pad = 0 if attention_mask_BL is None else int((~attention_mask_BL[row]).sum())
            self.prompts.add(self.tokenizer.decode(ids[n_pad:-GEN]))
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        for place, token in enumerate(self._tokens):
            logits_BLV[:, place - GEN, token] = self._height
        return logits_BLV


def _task(*golds: str, question: str = "How many?") -> TaskProblems:
    problems = [
        Problem(f"p{i}", ({"role": "user", "content": question + "!" * i},), gold)
        for i, gold in enumerate(golds)
    ]
    return TaskProblems("demo", get_benchmark("demo"), problems)


def _runner(student: _Parrot, system_prompt: str | None = None, **sweep: Any) -> Runner:
    raw = {"tasks": {"demo": {"benchmark": "demo"}}, "gen_length": GEN, "block_length": GEN, "batch_size": 2}
    config = SweepConfig.model_validate({**raw, **sweep})
    return Runner(student, config, system_prompt)


def test_each_sample_is_graded_against_its_own_gold_and_stored_with_its_trajectory() -> None:
    text = "Ä 4. The answer is 5."
    found = _runner(_Parrot(text)).run(ONE, _task("5", "6", "5"), lambda *_: None)
    columns = found.columns
    assert columns["text"] == [text] * 3
    assert columns["answer"] == ["5"] * 3
    assert columns["correct"] == [True, False, True]
    assert columns["sample_id"] == ["p0", "p1", "p2"]
    n_bytes = len(text.encode())
    assert columns["n_tokens"] == [n_bytes + 1] * 3
    assert columns["n_tokens_text"] == [n_bytes] * 3
    assert columns["n_tokens_canvas"] == [GEN] * 3
    assert columns["n_forwards"] == [n_bytes + 1] * 3
    assert columns["finished"] == [True] * 3
    assert columns["reveal_step"][0][: n_bytes + 1] == list(range(n_bytes + 1))
    assert columns["cache"] == ["none"] * 3
    assert found.seconds >= 0.9 * sum(columns["seconds"]) / 2


def test_the_entropy_of_each_reveal_is_stored_in_nats() -> None:
    found = _runner(_Parrot("The answer is 5.", height=6.0)).run(ONE, _task("5"), lambda *_: None)
    n_revealed = len("The answer is 5.") + 1
    expected = _entropy_of_one_high_logit(6.0)
    assert found.columns["entropy"][0][:n_revealed] == pytest.approx([expected] * n_revealed, rel=1e-4)
    assert found.columns["entropy"][0][n_revealed:] == [None] * (GEN - n_revealed)


def _entropy_of_one_high_logit(height: float) -> float:
    """Nats of a softmax whose logits are 0 but for one."""
    p = 1 / (1 + (VOCABULARY - 1) * math.exp(-height))
    rest = (1 - p) / (VOCABULARY - 1)
    return -p * math.log(p) - (VOCABULARY - 1) * rest * math.log(rest)


def test_an_answer_ends_before_a_stop_string_and_keeps_its_last_token_without_one() -> None:
    text = "4. The answer is 5.\nQ: more"
    runner = _runner(_Parrot(text), stop_strings=["\nQ:"])
    found = runner.run(ONE, _task("5"), lambda *_: None).columns
    assert (found["text"], found["finished"]) == (["4. The answer is 5."], [True])
    assert found["n_tokens"] == [len("4. The answer is 5.\nQ:")]
    assert found["n_tokens_text"] == [len("4. The answer is 5.")]
    for nested in (["Q:", "\nQ:"], ["\nQ:", "Q:"]):
        found = _runner(_Parrot(text), stop_strings=nested).run(ONE, _task("5"), lambda *_: None).columns
        assert found["text"] == ["4. The answer is 5."]
    runner = _runner(_Parrot(text), stop_strings=["nowhere"])
    found = runner.run(ONE, _task("5"), lambda *_: None).columns
    assert (found["text"], found["n_tokens"]) == ([text], [len(text) + 1])


@pytest.mark.parametrize("tokens", [["<|eot_id|>", EOS], ["eot", "eos"]])
def test_suppressed_tokens_are_found_by_name_text_and_id_and_never_appear(tokens: list[str | int]) -> None:
    sampling = {"suppress": tokens}
    runner = _runner(_Parrot("The answer is 5."), sampling=sampling)
    found = runner.run(POINT, _task("5"), lambda *_: None).columns
    assert found["finished"] == [False]
    assert not {EOT, EOS} & set(found["token_ids"][0])


@pytest.mark.parametrize("field", ["suppress", "begin_suppress"])
@pytest.mark.parametrize("token", ["<|nowhere|>", VOCABULARY])
def test_a_token_the_student_does_not_have_is_named(field: str, token: str | int) -> None:
    message = rf"sweep\.sampling\.{field}: the student has no token {re.escape(repr(token))};"
    with pytest.raises(ConfigError, match=message):
        _runner(_Parrot("x"), sampling={field: ["<|eot_id|>", token]})


def test_noise_belongs_to_the_problem_and_not_to_the_threads() -> None:
    task = _task("5", "5", "5", "5")
    found = []
    for workers in (1, 2):
        runner = _runner(_Parrot("The answer is 5.", height=2.0), sampling={"temperature": 1.0})
        runner.workers = workers
        found.append(runner.run(POINT, task, lambda *_: None).columns)
    assert found[0]["token_ids"] == found[1]["token_ids"]
    assert len({tuple(ids) for ids in found[0]["token_ids"]}) == 4


def test_the_threshold_point_takes_fewer_forwards_for_the_same_text() -> None:
    found = _runner(_Parrot("The answer is 5.")).run(POINT, _task("5"), lambda *_: None)
    assert (found.columns["n_forwards"], found.columns["correct"]) == ([1], [True])


def test_prompts_are_rendered_with_the_students_template_and_the_corpus_system_prompt() -> None:
    student = _Parrot("The answer is 5.")
    _runner(student, system_prompt="Be brief.").run(POINT, _task("5", "5"), lambda *_: None)
    head = "<|startoftext|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    user = "<|start_header_id|>user<|end_header_id|>\n\nHow many?{}<|eot_id|>"
    tail = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert student.prompts == {head + user.format("!" * i) + tail for i in range(2)}


def test_a_prompt_too_long_for_the_context_names_its_problem() -> None:
    runner = _runner(_Parrot("The answer is 5."))
    with pytest.raises(
        ConfigError, match=r"task demo: the prompt of problem 'p1' has \d+ tokens; at most 224"
    ):
        runner.run(POINT, _task("5", "5", question="x" * 201), lambda *_: None)


def test_a_cell_that_fails_is_named() -> None:
    runner = _runner(_Parrot("The answer is 5.", height=float("nan")))
    with pytest.raises(SweepError, match=r"cell demo at threshold 0\.9: the student gave non-finite logits"):
        runner.run(POINT, _task("5"), lambda *_: None)
