"""A made-up run whose answers can be played: real tokens, revealed in an order, each with a confidence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fakes.report_world import ANSWERS, ReportWorld, Row, write_student

from trims_core.rendering import load_tokenizer

CANVAS: Final = 96
END: Final = 2
PAD: Final = 0


def played_world(root: Path, texts: Mapping[int, str] | None = None, **story: Any) -> ReportWorld:
    """Two seeds, 40 problems, canvases of 96 positions in blocks of 32.

    Args:
        texts: number of a problem → its prompt and its answer, where they are not the story's; answers end
            with the canvas.
    """
    tokenizer = load_tokenizer(str(write_student(root / "student")))

    def edit(model: str, threshold: float | None, rows: list[Row]) -> list[Row]:
        return [_played(row, tokenizer, model, (texts or {}).get(i)) for i, row in enumerate(rows)]

    canvas = {"gen_length": CANVAS, "block_length": 32, "tasks": {"demo": {"benchmark": "demo"}}}
    sweep = {**canvas, "cache": "dual", "compare_caches": ["none"], **story.pop("sweep", {})}
    return ReportWorld(root, edit=edit, sweep=sweep, **{"seeds": (0, 1), **story})


def _played(row: Row, tokenizer: Any, model: str, own: str | None) -> Row:
    """The row with its text's tokens on the canvas; as many forwards as its tokens per forward ask for."""
    text = row["text"] if own is None else own[:CANVAS]
    ids = [*tokenizer.encode(text, add_special_tokens=False), END][:CANVAS]
    finished = row["finished"] and ids[-1] == END
    n_tokens = len(ids) if finished else CANVAS
    ids += [PAD] * (CANVAS - len(ids))
    n_forwards = max(1, round(n_tokens * row["n_forwards"] / row["n_tokens"]))
    order = sorted(range(n_tokens), key=lambda place: (place // 32, place + 9 * _luck(model, row, place)))
    rank = {place: number for number, place in enumerate(order)}
    steps = [rank[place] * n_forwards // n_tokens if place in rank else -1 for place in range(CANVAS)]
    return {
        **row,
        "prompt": row["prompt"] if own is None else own,
        "text": tokenizer.decode(ids[:n_tokens], skip_special_tokens=True),
        "finished": finished,
        "n_tokens": n_tokens,
        "n_forwards": n_forwards,
        "token_ids": [token if step >= 0 else 1 for token, step in zip(ids, steps, strict=True)],
        "reveal_step": steps,
        "confidence": [None if s < 0 else 0.4 + 0.6 * _luck(model, row, p) for p, s in enumerate(steps)],
        "entropy": [None if s < 0 else 2 * _luck("entropy", row, p) for p, s in enumerate(steps)],
    }


def _luck(what: str, row: Row, place: int) -> float:
    text = f"{what} {row['sample_id']} {place}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


__all__ = ["ANSWERS", "CANVAS", "played_world"]
