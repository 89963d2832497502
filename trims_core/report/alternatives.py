"""Figures in words, for those who cannot see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def curve_alt(task: str, found: Mapping[str, Any]) -> str:
    """What the curve shows, in words: every method's points."""
    lines = []
    for name, points in found["curves"].items():
        by_tpf = sorted(points, key=lambda point: point["tpf"])
        shown = ", ".join(f"{100 * point['accuracy']:.0f} % at {point['tpf']:.1f}" for point in by_tpf)
        lines.append(f"{name}: {shown}")
    return f"Accuracy against tokens per forward on {task}, {found['n']} problems. " + "; ".join(lines) + "."


def caches_alt(task: str, found: Mapping[str, Any]) -> str:
    """The figure of the caches in words."""
    lines = []
    for name, points in found["caches"].items():
        shown = (f"{100 * point['accuracy']:.0f} % at {point['tokens_per_second']:.0f}" for point in points)
        lines.append(f"{name}: {', '.join(shown)}")
    return (
        f"Accuracy against tokens per second of the untuned student with each cache on {task}. "
        + "; ".join(lines)
        + "."
    )


def difficulty_alt(found: Mapping[str, Any]) -> str:
    """The histogram in words."""
    edges = ", ".join(f"{edge:.2g}" for edge in found["edges_nats"])
    return (
        f"Histogram of the difficulty of {found['n_tokens']:,} answer tokens on a logarithmic axis, coloured"
        f" by {found['k']} buckets; bucket edges in nats: {edges or 'none'}."
    )


def losses_alt(losses: Mapping[str, Mapping[str, Any]]) -> str:
    """The loss curves in words: first and last value of each."""
    lines = []
    for model, entry in losses.items():
        for kind, word in (("train", "training"), ("eval", "validation")):
            if entry[kind]:
                lines.append(f"{model} {word} {entry[kind][0][1]:.3g} to {entry[kind][-1][1]:.3g}")
    return "Loss curves: " + "; ".join(lines) + "."
