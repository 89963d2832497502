"""`trims generate`: text on standard output, statistics on standard error, mistakes in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from fakes import forking
from typer.testing import CliRunner

from flows.cli import app, main
from trims_core.generation import Assistant

QUESTION = "Tom has 5 apples. He buys 3 more. How many apples does Tom have now?"


@pytest.fixture(scope="module")
def student(project_root: Path) -> str:
    return str(project_root / "data" / "demo" / "student")


def trims(*words: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, run in this process."""
    found = CliRunner().invoke(app, list(words), input=stdin, env={"COLUMNS": "300"})
    return found.exit_code, found.stdout, found.stderr


def test_the_answer_alone_is_on_standard_output_and_the_statistics_are_beside_it(student: str) -> None:
    code, text, notes = trims("generate", student, "--prompt", QUESTION)
    answer = Assistant.load(student).answer(QUESTION)
    assert (code, text) == (0, answer.text + "\n")
    assert f"{answer.n_tokens} tokens in {answer.n_forwards} forwards" in notes
    assert f"{answer.tokens_per_forward:.2f} tokens per forward" in notes
    assert re.search(
        r"[\d,]+ tokens per second · rule threshold · cache dual · canvas 64 .blocks: 2 of 32", notes
    )


def test_a_prompt_may_come_from_standard_input(student: str) -> None:
    asked = trims("generate", student, "--prompt", QUESTION)
    piped = trims("generate", student, "--prompt", "-", stdin=QUESTION + "\n")
    assert piped[:2] == asked[:2]
    code, _, notes = trims("generate", student, "--prompt", "-", stdin=" \n")
    assert (code, "standard input is empty" in notes) == (2, True)


def test_json_has_one_line_per_prompt_with_every_positions_reveal_step(student: str) -> None:
    other = "Leo has 15 coins. He sells 3. How many coins does Leo have now?"
    code, text, notes = trims(
        "generate",
        student,
        "--prompt",
        QUESTION,
        "--prompt",
        other,
        "--json",
        "--rule",
        "topk",
        "--steps",
        "8",
    )
    assert (code, notes) == (0, "")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["prompt"] for row in rows] == [QUESTION, other]
    for row in rows:
        assert row["tpf"] == row["tokens"] / row["forwards"]
        assert row["tokens_per_second"] > 0
        assert len(row["reveal_step"]) == len(row["token_ids"]) == row["gen_length"] == 64
        assert max(row["reveal_step"]) == row["forwards"] - 1 < 8
        assert (row["rule"], row["cache"]) == ("TopK(steps=8)", "dual")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rule", "treshold"), "did you mean 'threshold'?"),
        (("--steps", "4"), "steps with rule threshold: not read by it"),
        (("--rule", "multi_block", "--cache", "dual"), "not defined, because a cache holds what was true"),
        (("--gen-length", "4096"), "of the student's context of 4096"),
        (("--adapter", "/nowhere"), "adapter_config.json: no such file"),
        (("--dtype", "int8"), "is no floating-point type"),
        (("--prompt", "-", "--prompt", "-"), "standard input can be read once"),
    ],
)
def test_a_mistake_is_one_readable_message(student: str, words: tuple[str, ...], message: str) -> None:
    code, text, notes = trims("generate", student, "--prompt", QUESTION, *words)
    assert (code, text) == (2, "")
    assert notes.startswith("error: ")
    assert message in notes


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, _, notes = trims("generate", str(tmp_path / "nothing"), "--prompt", "x")
    assert (code, "no such folder" in notes) == (2, True)


def test_ctrl_c_ends_with_a_word_and_no_traceback(student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,048 whole forwards take a minute; after half a second they are far from done."""
    slow = ["--rule", "topk", "--gen-length", "2048", "--cache", "none", "--no-stop-at-end"]
    monkeypatch.setattr(sys, "argv", ["trims", "chat", student, *slow])
    running = forking.start(main, told=f"/stats\n{QUESTION}\n")
    running.wait_until(lambda: bool(running.said("err")))  # the student is loaded, the question is next
    time.sleep(0.5)
    for _ in range(20):  # a library that is being imported may swallow one; whoever waits presses again
        os.kill(running.pid, signal.SIGINT)
        running.process.join(6)
        if running.process.exitcode is not None:
            break
    assert running.ended(1) == (130, "", "no turns yet\ninterrupted\n")
