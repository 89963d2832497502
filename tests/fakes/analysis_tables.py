"""Made-up tables of an analysis: a method reads the better under the teacher, the more answers are right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trims_core.keyed import chosen
from trims_core.schema import ANALYSED, ANSWER_DIFFICULTY, TRAJECTORIES, Table

Columns = Mapping[str, Sequence[Any]]
N_TOKENS = 20
N_STEPS = 6
N_SHOWN = 12
CANVAS = 32


def analysed(model: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, Columns]:
    """Facts about answers, of samples with their verdicts."""
    made = []
    for row in rows:
        draw = _draw(model, row["sample_id"])
        step_T = np.sort(draw.integers(0, N_STEPS, N_TOKENS))
        confidence = draw.uniform(0.2, 1.0, N_TOKENS).astype(np.float32)
        agrees = [bool(one) for one in draw.random(N_TOKENS) < confidence]
        departed = next((place for place, same in enumerate(agrees) if not same), None)
        revealed = np.bincount(step_T)
        made.append(
            {
                "sample_id": row["sample_id"],
                "verdict": "right" if row["correct"] else "wrong",
                "n_tokens": N_TOKENS,
                "n_steps": int(step_T[-1]) + 1,
                "order_position": float(draw.uniform(0.2, 0.9)),
                "order_confidence": float(draw.uniform(-0.5, 0.1)),
                "confidence": confidence.tolist(),
                "agrees": [*agrees[:-1], None],
                "revealed": revealed.tolist(),
                "runs": revealed[revealed > 0].tolist(),
                "departure_step": None if departed is None else int(step_T[departed]),
                "departure_place": departed,
                "departure_confidence": None if departed is None else float(confidence[departed]),
            }
        )
    return ANALYSED, _columns(ANALYSED, made)


def trajectories(model: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, Columns]:
    """States whose NLL falls from 4 nats, further where more answers are right; one text was refused."""
    skill = np.mean([row["correct"] for row in rows])
    made = []
    for number, name in enumerate(_shown(rows)):
        luck = _draw(model, name).uniform(0, 0.3)
        for step in range(N_STEPS + 1):
            share = step / N_STEPS
            filled = 4 - (1 + 2 * skill) * share + luck
            refused = (number, step) == (0, 1)
            made.append(
                {
                    "sample_id": name,
                    "step": step,
                    "n_revealed": round(share * N_TOKENS),
                    "revealed_nats": filled + 1.5 * (1 - share) if step and not refused else None,
                    "revealed_tokens": round(share * N_TOKENS) if step and not refused else None,
                    "revealed_reject": "too_long" if refused else None,
                    "filled_nats": filled,
                    "filled_tokens": N_TOKENS,
                    "filled_reject": None,
                }
            )
    return TRAJECTORIES, _columns(TRAJECTORIES, made)


def difficulty(model: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, Columns]:
    """Log-uniform difficulties of the answers' tokens."""
    made = []
    for name in _shown(rows):
        draw = _draw(model, name, "difficulty")
        nats = (10 ** draw.uniform(-6, 1, N_TOKENS)).astype(np.float32).tolist()
        made.append(
            {
                "sample_id": name,
                "difficulty_nats": [*nats, *[None] * (CANVAS - N_TOKENS)],
                "order_difficulty": float(draw.uniform(-0.8, 0.2)),
                "reject": None,
            }
        )
    return ANSWER_DIFFICULTY, _columns(ANSWER_DIFFICULTY, made)


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return chosen([row["sample_id"] for row in rows], N_SHOWN)


def _draw(*names: str) -> np.random.Generator:
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _columns(table: Table, rows: Sequence[Mapping[str, Any]]) -> Columns:
    return {name: [row[name] for row in rows] for name in table.schema.names}
