"""`trims chat` line by line: history, commands, mistakes."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from flows.cli import app
from trims_core.generation import Assistant, Conversation, GenerateOptions

QUESTION = "Tom has 5 apples. He buys 3 more. How many apples does Tom have now?"
OTHER = "Leo has 15 coins. He sells 3. How many coins does Leo have now?"


@pytest.fixture(scope="module")
def student(project_root: Path) -> str:
    return str(project_root / "data" / "demo" / "student")


def chat(student: str, *lines: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a conversation from a pipe."""
    said = "".join(f"{line}\n" for line in lines)
    found = CliRunner().invoke(app, ["chat", student, *options], input=said, env={"COLUMNS": "300"})
    return found.exit_code, found.stdout, found.stderr


def test_every_turn_sees_the_ones_before_it(student: str) -> None:
    talk = Conversation(Assistant.load(student), GenerateOptions(threshold=0.6), "Count.")
    expected = [talk.ask(line).text for line in (QUESTION, OTHER)]
    code, text, _ = chat(student, QUESTION, "", OTHER, options=("--threshold", "0.6", "--system", "Count."))
    assert (code, text) == (0, "".join(f"{answer}\n" for answer in expected))


def test_reset_forgets_and_exit_ends(student: str) -> None:
    code, text, _ = chat(student, QUESTION, "/reset", QUESTION, "/exit", QUESTION)
    first, second = text.splitlines()
    assert (code, first) == (0, second)


def test_set_changes_how_the_next_turns_are_decoded_and_stats_sums_up(student: str) -> None:
    code, _, notes = chat(
        student,
        "/stats",
        "/set rule topk",
        "/set steps 2",
        QUESTION,
        "/stats",
        "/set steps",
        "/set rule",
        "/set",
    )
    assert code == 0
    said = notes.splitlines()
    assert said[:3] == ["no turns yet", "rule topk", "rule topk, steps 2"]
    assert said[3].startswith("1 turns: ")
    assert " in 2 forwards · " in said[3] or " in 1 forwards · " in said[3]
    assert said[4:] == ["rule topk", "all options at their defaults", "all options at their defaults"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/rest", "/rest: no such command"),
        ("/set treshold 0.7", "did you mean 'threshold'?"),
        ("/set threshold high", "expected a number"),
        ("/set steps 3", "steps with rule threshold: not read by it"),
        ("x" * 40_000, "Shorten the prompt or the conversation"),
    ],
)
def test_a_mistake_in_a_pipe_ends_the_command(student: str, line: str, message: str) -> None:
    code, text, notes = chat(student, line, QUESTION)
    assert (code, text) == (2, "")
    assert message in notes


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> list[str | type[BaseException]]:
    """What is typed at a terminal, line by line; an exception is a key that raises it. Ends with Ctrl-D."""
    typed: list[str | type[BaseException]] = []

    def read(_prompt: str) -> str:
        line = typed.pop(0) if typed else EOFError
        if isinstance(line, str):
            return line
        raise line

    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True), stdout=io.StringIO())
    monkeypatch.setattr("flows.cli_chat.sys", terminal)
    monkeypatch.setattr("builtins.input", read)
    return typed


def test_a_mistake_at_a_terminal_is_told_and_forgiven(
    student: str, keyboard: list[str | type[BaseException]]
) -> None:
    keyboard += ["/rest", "/set threshold 2", QUESTION, "/set threshold", "", QUESTION]
    code, text, notes = chat(student)
    assert (code, text.count("The answer is 8.")) == (0, 1)
    assert "error: /rest: no such command" in notes
    assert "error: threshold 2.0: expected a probability" in notes
    assert " tokens in " in notes.splitlines()[-1]


def test_ctrl_c_stops_an_answer_and_at_the_prompt_ends(
    student: str, keyboard: list[str | type[BaseException]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, asked = Assistant.answers, []

    def answers(self: Assistant, *given: object) -> object:
        asked.append(given)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return decoding(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Assistant, "answers", answers)
    keyboard += [QUESTION, "/stats", QUESTION, "/stats", KeyboardInterrupt, QUESTION]
    code, text, notes = chat(student)
    assert (code, text.count("The answer is 8."), len(asked)) == (0, 1, 2)
    assert "stopped; this turn is forgotten\nno turns yet\n" in notes
    assert "1 turns: " in notes


def test_help_names_every_command(student: str) -> None:
    _, _, notes = chat(student, "/help")
    assert all(command in notes for command in ("/set", "/stats", "/reset", "/exit"))
