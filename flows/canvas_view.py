"""Canvases on a terminal: text appears in place where positions are revealed, the rest is shaded.

What can be seen: revealed text, ░ for each masked position, and in bold what the newest frame revealed. A
canvas is shown up to the first revealed end token: whatever stands behind it is no part of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

MASKED: Final = "░"
FRAME_S: Final = 1 / 30
"""A frame is drawn at most so often; a small student makes hundreds of forwards a second."""
_SPARE_ROWS: Final = 2

ToText = Callable[[list[int]], str]


def canvas_text(
    ids: Sequence[int], before: Sequence[int] | None, mask_id: int, end_ids: Collection[int], to_text: ToText
) -> Text:
    """A canvas as styled text.

    Args:
        ids: the canvas now.
        before: the canvas at the frame before; None where it was masked.
        to_text: text of token ids; end tokens are never asked for.
    """
    shown = Text(overflow="fold", no_wrap=False)
    run: list[int] = []
    run_style = ""
    for place, token in enumerate(ids):
        if token in end_ids:
            break
        if token == mask_id:
            style = "masked"
        else:
            style = "none" if before is not None and before[place] != mask_id else "bold green"
        if run and style != run_style:
            _append(shown, run, run_style, to_text)
            run = []
        run.append(token)
        run_style = style
    if run:
        _append(shown, run, run_style, to_text)
    return shown


def _append(shown: Text, run: list[int], style: str, to_text: ToText) -> None:
    if style == "masked":
        shown.append(MASKED * len(run), style="dim")
    else:
        shown.append(to_text(run), style=style)


class Window:
    """The rows of a text that fit, around its first masked position."""

    def __init__(self, text: Text, n_rows: int) -> None:
        self._text = text
        self._n_rows = n_rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self._text.wrap(console, options.max_width)
        working = next((n for n, row in enumerate(rows) if MASKED in row.plain), len(rows) - 1)
        first = max(0, min(working - self._n_rows // 2, len(rows) - self._n_rows))
        yield from rows[first : first + self._n_rows]


class CanvasView:
    """What `decode` may be told to watch with: draws the canvases of the batch while the block lasts.

    Args:
        headings: one per prompt, shown above its canvas; empty for none.
        pace_s: at least so long between two forwards that are drawn, for those who want to see them.
    """

    def __init__(
        self,
        console: Console,
        mask_id: int,
        end_ids: Collection[int],
        to_text: ToText,
        headings: Sequence[str] = (),
        pace_s: float = 0.0,
    ) -> None:
        self._console = console
        self._mask_id = mask_id
        self._end_ids = end_ids
        self._to_text = to_text
        self._headings = headings
        self._pace_s = pace_s
        self._drawn: dict[int, list[int]] = {}
        self._drawn_at = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> CanvasView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, canvases: Mapping[int, Sequence[int]]) -> None:
        """Draw the canvases, unless a frame was drawn just now."""
        wait_s = self._drawn_at + max(FRAME_S, self._pace_s) - time.monotonic()
        if self._pace_s and wait_s > 0:
            time.sleep(wait_s)
        elif wait_s > 0:
            return
        self._live.update(self.frame(canvases), refresh=True)
        self._drawn_at = time.monotonic()

    def frame(self, canvases: Mapping[int, Sequence[int]]) -> Group:
        """The present canvases in the order of their prompts; remembers them for the next frame."""
        n_rows = max(3, (self._console.height - _SPARE_ROWS) // len(canvases) - bool(self._headings))
        parts: list[Text | Window] = []
        for place in sorted(canvases):
            if self._headings:
                heading = " ".join(self._headings[place].split())
                parts.append(Text(heading, style="dim", no_wrap=True, overflow="ellipsis"))
            before = self._drawn.get(place)
            text = canvas_text(canvases[place], before, self._mask_id, self._end_ids, self._to_text)
            parts.append(Window(text, n_rows))
            self._drawn[place] = list(canvases[place])
        return Group(*parts)
