"""Canvases on a terminal: what each frame shows, and that nothing of it stays behind."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from flows.canvas_view import MASKED, CanvasView, Window, canvas_text
from flows.cli_generate import view
from trims_core.generation import Assistant, GenerateOptions

MASK, END = 99, 98
QUESTION = "Tom has 5 apples. He buys 3 more. How many apples does Tom have now?"


def letters(ids: list[int]) -> str:
    return "".join(chr(97 + token) for token in ids)


def shown(ids: list[int], before: list[int] | None = None) -> Text:
    return canvas_text(ids, before, MASK, {END}, letters)


def terminal(height: int = 24, width: int = 60) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=height,
        color_system="standard",
        _environ={},
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_masked_positions_are_shaded_and_new_ones_stand_out() -> None:
    text = shown([0, 1, MASK, 2, MASK, MASK], before=[0, MASK, MASK, 2, MASK, MASK])
    assert text.plain == f"ab{MASKED}c{MASKED}{MASKED}"
    assert {(text.plain[span.start : span.end], str(span.style)) for span in text.spans} >= {
        ("b", "bold green"),
        (MASKED, "dim"),
        (MASKED * 2, "dim"),
    }
    assert not [
        span for span in text.spans if "a" in text.plain[span.start : span.end] and "bold" in str(span)
    ]


def test_a_canvas_is_shown_up_to_its_first_end_token() -> None:
    assert shown([0, MASK, END, 1, MASK]).plain == f"a{MASKED}"


def test_a_text_longer_than_the_terminal_shows_the_rows_being_worked_on() -> None:
    text = shown([0] * 600 + [MASK] * 60)
    console = terminal()
    rows = console.render_lines(Window(text, 5), pad=False)
    plain = ["".join(segment.text for segment in row) for row in rows]
    assert len(plain) == 5
    assert any(MASKED in row for row in plain)
    assert any("a" in row for row in plain)


def test_frames_are_drawn_in_place_and_removed_at_the_end() -> None:
    console = terminal()
    with CanvasView(console, MASK, {END}, letters, pace_s=0.001) as drawn:
        drawn({0: [MASK, MASK]})
        drawn({0: [0, MASK]})
    assert "\x1b[1;32ma\x1b[0m\x1b[2m░\x1b[0m" in written(console)
    assert written(console).rstrip().endswith(("\x1b[2K", "\x1b[?25h", "\r"))


def test_frames_that_come_too_fast_are_left_out() -> None:
    console = terminal()
    with CanvasView(console, MASK, {END}, letters) as drawn:
        for n_revealed in range(50):
            drawn({0: [0] * n_revealed + [MASK] * (50 - n_revealed)})
    assert len(re.findall(rf"a*{MASKED}+", written(console).replace("\x1b[2m", ""))) < 50


def test_canvases_of_a_batch_stand_below_their_prompts() -> None:
    console = terminal()
    drawn = CanvasView(console, MASK, {END}, letters, ["first?", "second\n?"])
    rows = console.render_lines(drawn.frame({1: [1, MASK], 0: [0, MASK]}), pad=False)
    plain = ["".join(segment.text for segment in row) for row in rows]
    assert plain == ["first?", f"a{MASKED}", "second ?", f"b{MASKED}"]


@pytest.fixture(scope="module")
def assistant(project_root: Path) -> Assistant:
    return Assistant.load(str(project_root / "data" / "demo" / "student"))


def test_a_student_is_watched_from_the_first_forward_to_the_answer(assistant: Assistant) -> None:
    console = terminal(width=200)
    with view(console, assistant, pace_s=0.001) as drawn:  # type: ignore[union-attr]
        (answer,) = assistant.answers([[{"role": "user", "content": QUESTION}]], GenerateOptions(), drawn)
    frames = re.sub(r"\x1b\[[\d;]*m", "", written(console)).split("\x1b[2K")
    assert len(frames) >= answer.n_forwards
    assert frames[0].count(MASKED) > 50
    assert answer.text in frames[-2]
    assert MASKED not in frames[-1]


@pytest.mark.parametrize(
    "settings", [{"force_terminal": False}, {"force_terminal": True, "_environ": {"TERM": "dumb"}}]
)
def test_nothing_moves_where_it_cannot_be_seen(assistant: Assistant, settings: dict[str, object]) -> None:
    assert view(Console(file=io.StringIO(), **settings), assistant) is None  # type: ignore[arg-type]
