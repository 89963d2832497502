"""Results with an analysis and ablations put into them, of the shapes that results.json has."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def analysed(results: Mapping[str, Any]) -> dict[str, Any]:
    """The same results, every task analysed; an ablation of two factors, rounds, and parts of the losses."""
    out: dict[str, Any] = copy.deepcopy(dict(results))
    for found in out["tasks"].values():
        found["analysis"] = _analysis(found)
    out["rounds"] = [_round(number) for number in range(4)]
    for entry in out["losses"].values():
        entry["parts"] = {"content": entry["smoothed"], "ends": entry["smoothed"][:9]}
        entry["masked_share"] = [[step, 0.5] for step, _ in entry["smoothed"]]
    rows = [_arm(out, factor, value) for factor in ("order", "rho") for value in (0, 1, 2)]
    out["ablations"] = {"base": "base", "method": "trims", "mode": "one_at_a_time", "rows": rows}
    return out


def _round(number: int) -> dict[str, Any]:
    measures = {"kl": 0.01, "clip_share": 0.0, "entropy": 0.7, "flat_share": None}
    means = {"reward": 0.4 + number / 10, "right": 0.4, "tokens": 30.0, "distinct": 5.0, **measures}
    return {"variant": "trims", "round": number, "seeds": 2, **means}


def _analysis(found: Mapping[str, Any]) -> dict[str, Any]:
    methods = list(found["curves"])
    ids = [problem["id"] for problem in found["answers"]["problems"]]
    return {
        "threshold": found["answers"]["threshold"],
        "rule": found["rule"],
        "n": 12,
        "teacher": "a teacher",
        "without_teacher": None,
        "n_not_scored": 0,
        "trajectories": {
            name: {
                "by_share": [_state(x / 20, 4 - 0.1 * x * (1 + i / 4)) for x in range(21)],
                "by_step": [_state(x, 4 - 0.3 * x * (1 + i / 4)) for x in range(9)],
            }
            for i, name in enumerate(methods)
        },
        "order": {name: _order(i) for i, name in enumerate(methods)},
        "calibration": {name: _calibration(i) for i, name in enumerate(methods)},
        "changed": [
            {
                "a": "trims",
                "b": "untuned",
                "seed": 0,
                "became_right": ids,
                "became_wrong": [],
                "n": found["n"],
            }
        ],
    }


def _state(x: float, nats: float) -> dict[str, Any]:
    """Nothing is revealed at 0, so that there is nothing to score."""
    seen = None if x == 0 else nats + 0.5
    return {
        "x": x,
        "revealed_nats": seen,
        "revealed_low": seen and seen - 0.2,
        "revealed_high": seen and seen + 0.2,
        "filled_nats": nats,
        "filled_low": nats - 0.2,
        "filled_high": nats + 0.2,
    }


def _stat(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.06, "high": mean + 0.05, "n": 40}


def _order(i: int) -> dict[str, Any]:
    return {
        "position": _stat(0.8 - 0.1 * i),
        "difficulty": _stat(0.1 - 0.2 * i) if i else None,
        "confidence": _stat(-0.3 + 0.1 * i),
        "revealed_per_step": [0.3, 0.25, 0.2, 0.15, 0.1],
        "run_lengths": [[1, 300 - 50 * i], [2, 120], [3, 40 + 20 * i]],
        "departure": {"n_wrong": 9, "n_departed": 7, "step_share": _stat(0.4), "confidence": None},
    }


def _calibration(i: int) -> dict[str, Any]:
    bins = [
        {
            "low": b / 10,
            "high": (b + 1) / 10,
            "n": 10 * b,
            "confidence": b / 10 + 0.05,
            "agreement": b / 11 + i / 50,
        }
        for b in range(3, 10)
    ]
    by_bucket = [
        {"bucket": b, "n": 50, "confidence": 0.8, "agreement": 0.7 + b / 50, "ece": b / 100}
        for b in (1, 2, 3, 4)
    ]
    return {
        "ece": 0.05 + i / 100 if i else None,
        "n_tokens": 450,
        "bins": bins,
        "answers": {"ece": 0.2, "n": 40, "bins": bins},
        "by_bucket": by_bucket if i else None,
    }


def _arm(results: Mapping[str, Any], factor: str, value: int) -> dict[str, Any]:
    difference = {
        "value": 0.02 * value - 0.03,
        "over_problems": {"low": 0.02 * value - 0.06, "high": 0.02 * value},
        "over_seeds_and_problems": None,
        "by_seed": {"0": 0.01},
    }
    numbers = {
        "accuracy": None,
        "difference": difference,
        "verdict": "behind" if value else "not told apart",
    }
    base = {"accuracy": None, "difference": None, "verdict": None}
    is_base = value == 2
    return {
        "factor": factor,
        "value": value,
        "label": f"{factor}-{value}",
        "method": "trims",
        "is_base": is_base,
        "tasks": dict.fromkeys(results["tasks"], base if is_base else numbers),
    }
