"""Decoding prompts with a student whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fakes.decoding_checkpoint import VOCABULARY
from fakes.parrot import EOS, EOT, GEN, Parrot

from trims_core.decoding import DecodeSettings, Sampling, Threshold, one_per_forward
from trims_core.decoding.runner import Answers, Prompt, Runner
from trims_core.errors import ConfigError, SweepError

ONE = DecodeSettings(one_per_forward(GEN), GEN, GEN, batch_size=2)
POINT = replace(ONE, rule=Threshold(0.9))


def prompts(n: int, question: str = "How many?") -> list[Prompt]:
    """So many prompts, each longer than the one before."""
    return [Prompt(f"p{i}", ({"role": "user", "content": question + "!" * i},)) for i in range(n)]


def answer(student: Parrot, settings: DecodeSettings, n: int = 1, system: str | None = None) -> Answers:
    """What it answers to so many prompts."""
    runner = Runner(student, system)
    return runner.answer(runner.render(prompts(n), GEN, "task demo"), settings)


def test_each_answer_is_given_with_its_counts_and_trajectory() -> None:
    text = "Ä 4. The answer is 5."
    found = answer(Parrot(text), ONE, 3)
    columns = found.columns()
    assert columns["text"] == [text] * 3
    n_bytes = len(text.encode())
    assert columns["n_tokens"] == [n_bytes + 1] * 3
    assert columns["n_tokens_text"] == [n_bytes] * 3
    assert columns["n_tokens_canvas"] == [GEN] * 3
    assert columns["n_forwards"] == [n_bytes + 1] * 3
    assert columns["finished"] == [True] * 3
    assert columns["reveal_step"][0][: n_bytes + 1] == list(range(n_bytes + 1))
    assert found.seconds >= 0.9 * sum(columns["seconds"]) / 2


def test_the_entropy_of_each_reveal_is_given_in_nats() -> None:
    columns = answer(Parrot("The answer is 5.", height=6.0), ONE).columns()
    n_revealed = len("The answer is 5.") + 1
    expected = _entropy_of_one_high_logit(6.0)
    assert columns["entropy"][0][:n_revealed] == pytest.approx([expected] * n_revealed, rel=1e-4)
    assert columns["entropy"][0][n_revealed:] == [None] * (GEN - n_revealed)


def _entropy_of_one_high_logit(height: float) -> float:
    """Nats of a softmax whose logits are 0 but for one."""
    p = 1 / (1 + (VOCABULARY - 1) * math.exp(-height))
    rest = (1 - p) / (VOCABULARY - 1)
    return -p * math.log(p) - (VOCABULARY - 1) * rest * math.log(rest)


def test_an_answer_ends_before_a_stop_string_and_keeps_its_last_token_without_one() -> None:
    text = "4. The answer is 5.\nQ: more"
    found = answer(Parrot(text), replace(ONE, stop_strings=("\nQ:",))).columns()
    assert (found["text"], found["finished"]) == (["4. The answer is 5."], [True])
    assert found["n_tokens"] == [len("4. The answer is 5.\nQ:")]
    assert found["n_tokens_text"] == [len("4. The answer is 5.")]
    for nested in (("Q:", "\nQ:"), ("\nQ:", "Q:")):
        found = answer(Parrot(text), replace(ONE, stop_strings=nested)).columns()
        assert found["text"] == ["4. The answer is 5."]
    found = answer(Parrot(text), replace(ONE, stop_strings=("nowhere",))).columns()
    assert (found["text"], found["n_tokens"]) == ([text], [len(text) + 1])


def test_suppressed_tokens_never_appear() -> None:
    suppressed = Sampling(suppress_ids=frozenset({EOT, EOS}))
    found = answer(Parrot("The answer is 5."), replace(POINT, sampling=suppressed)).columns()
    assert found["finished"] == [False]
    assert not {EOT, EOS} & set(found["token_ids"][0])


NOISY = replace(POINT, sampling=Sampling(temperature=1.0))


def noisy(n_workers: int, parts: list[int]) -> list[list[int]]:
    """Token ids of four prompts decoded in parts, above temperature 0."""
    runner = Runner(Parrot("The answer is 5.", height=2.0))
    runner.workers = n_workers
    rendered = runner.render(prompts(4), GEN, "task demo")
    found: list[list[int]] = []
    for size in parts:
        start = len(found)
        part = runner.answer(rendered[start : start + size], NOISY, names=range(start, start + size))
        found += part.columns()["token_ids"]
    return found


def test_noise_belongs_to_the_prompts_number_and_not_to_threads_or_parts() -> None:
    whole = noisy(1, [4])
    assert len({tuple(ids) for ids in whole}) == 4
    assert noisy(2, [4]) == whole
    assert noisy(1, [2, 2]) == whole
    assert noisy(2, [1, 3]) == whole


def test_the_threshold_point_takes_fewer_forwards_for_the_same_text() -> None:
    found = answer(Parrot("The answer is 5."), POINT).columns()
    assert (found["n_forwards"], found["text"]) == ([1], ["The answer is 5."])


def test_prompts_are_rendered_with_the_students_template_and_the_system_prompt() -> None:
    student = Parrot("The answer is 5.")
    answer(student, POINT, 2, system="Be brief.")
    head = "<|startoftext|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    user = "<|start_header_id|>user<|end_header_id|>\n\nHow many?{}<|eot_id|>"
    tail = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert student.prompts == {head + user.format("!" * i) + tail for i in range(2)}


def test_a_begun_answer_stands_behind_the_header_and_plain_text_stands_alone() -> None:
    question = {"role": "user", "content": "How many?"}
    asked = [
        Prompt("plain", [question], chat=False, answer_prefix=" It is"),
        Prompt("asked", [question]),
        Prompt("begun", [question], answer_prefix="The"),
    ]
    runner = Runner(Parrot("The answer is 5."), system_prompt="Be brief.")
    texts = [runner.student.tokenizer.decode(ids) for ids in runner.render(asked, GEN, "task demo")]
    assert texts[0] == "How many? It is"
    assert texts[1].startswith("<|startoftext|>") and "Be brief." in texts[1]
    assert texts[2] == f"{texts[1]}The"


def test_a_prompt_too_long_for_the_context_names_its_problem() -> None:
    runner = Runner(Parrot("The answer is 5."))
    with pytest.raises(
        ConfigError, match=r"task demo: the prompt of problem 'p1' has \d+ tokens; at most 224"
    ):
        runner.render(prompts(2, question="x" * 201), GEN, "task demo")


def test_decoding_that_fails_is_a_sweep_error_whoever_raised_it() -> None:
    with pytest.raises(SweepError, match="the student gave non-finite logits"):
        answer(Parrot("The answer is 5.", height=float("nan")), POINT)

    class Full(Parrot):
        def head(self, hidden_XD):
            raise RuntimeError("out of memory")

    with pytest.raises(SweepError, match="out of memory"):
        answer(Full("The answer is 5."), POINT)
