"""Training as figures: losses, what they are made of, the share that was masked, rewards of rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trims_core.report.appearance import LIGHT, Look, looks
from trims_core.report.figure_style import head, legend

Results = Mapping[str, Any]
_STEP: Final = "optimizer step"
_NATS: Final = "nats per supervised token"


def training_jobs(results: Results) -> dict[str, Callable[[Figure], None]]:
    """Name → what draws it. Parts of losses have a figure where a loss has several."""
    losses, styles = list(results["losses"].values()), looks(results["methods"], LIGHT)
    jobs: dict[str, Callable[[Figure], None]] = {}
    if losses:
        jobs["losses"] = partial(_draw_losses, losses=losses, styles=styles)
    parts = list(dict.fromkeys(part for entry in losses for part in entry["parts"]))
    if len(parts) > 1:
        jobs["loss-parts"] = partial(_draw_parts, losses=losses, styles=styles, parts=parts)
    if any(entry["masked_share"] for entry in losses):
        jobs["masked-share"] = partial(_draw_masked, losses=losses, styles=styles)
    rounds = [row for row in results["rounds"] if row["reward"] is not None]
    if rounds:
        jobs["rewards"] = partial(_draw_rewards, rounds=rounds, styles=styles)
    return jobs


Losses = Sequence[Results]
Styles = Mapping[str, Look]


def _draw_losses(figure: Figure, losses: Losses, styles: Styles) -> None:
    """Training loss (smoothed, as logged behind it) and validation loss, one line per model."""
    left, right = figure.subplots(1, 2, sharex=True)
    for entry, look, label in _labelled([one for one in losses if one["train"]], styles):
        left.plot(*_xy(entry["train"]), color=look.colour, linewidth=0.7, alpha=0.2)
        left.plot(*_xy(entry["smoothed"]), label=label, **_line(look))
    for entry, look, _ in _labelled([one for one in losses if one["eval"]], styles):
        right.plot(*_xy(entry["eval"]), marker=look.marker, markersize=4.5, **_line(look))
    head(left, "Losses", "training, weighted as each method does")
    head(right, "", "validation")
    right.set_xlabel(_STEP)
    left.set_xlabel(_STEP)
    left.set_ylabel(_NATS)
    left.legend()


def _draw_parts(figure: Figure, losses: Losses, styles: Styles, parts: Sequence[str]) -> None:
    """A panel per part of the training loss, a line per model that has it."""
    panels = figure.subplots(1, len(parts), sharex=True, squeeze=False)[0]
    for axes, part in zip(panels, parts, strict=True):
        having = [entry for entry in losses if entry["parts"].get(part)]
        for entry, look, label in _labelled(having, styles):
            axes.plot(*_xy(entry["parts"][part]), label=label, **_line(look))
        head(axes, "Parts of the training loss" if axes is panels[0] else "", part)
        axes.set_xlabel(_STEP)
        axes.legend()
    panels[0].set_ylabel(_NATS)


def _draw_masked(figure: Figure, losses: Losses, styles: Styles) -> None:
    """The share of content that training masked, one line per model."""
    axes = figure.subplots()
    for entry, look, label in _labelled([one for one in losses if one["masked_share"]], styles):
        axes.plot(*_xy(entry["masked_share"]), label=label, **_line(look))
    head(axes, "Share masked", "of the content of the sequences that a step trains on, means over steps")
    axes.set_xlabel(_STEP)
    axes.set_ylabel("share masked")
    axes.set_ylim(0, 1)
    legend(axes)


def _draw_rewards(figure: Figure, rounds: Sequence[Results], styles: Styles) -> None:
    """Mean reward of the rollouts of each round, a line per variant."""
    axes = figure.subplots()
    for variant in dict.fromkeys(row["variant"] for row in rounds):
        points = [(row["round"], row["reward"]) for row in rounds if row["variant"] == variant]
        axes.plot(*_xy(points), label=variant, marker=styles[variant].marker, **_line(styles[variant]))
    seeds = max(row["seeds"] for row in rounds)
    averaged = f", mean of {seeds} seeds" if seeds > 1 else ""
    head(axes, "Rewards", f"mean of the rollouts that a round is trained on{averaged}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round")
    axes.set_ylabel("mean reward")
    legend(axes)


def _labelled(losses: Losses, styles: Styles) -> Iterator[tuple[Results, Look, str | None]]:
    """Every model with its method's look; the first of a method bears its name in the legend."""
    seen: set[str] = set()
    for entry in losses:
        method = entry["method"]
        yield entry, styles[method], None if method in seen else method
        seen.add(method)


def _xy(points: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(zip(*points, strict=True))


def _line(look: Look) -> dict[str, Any]:
    return {"color": look.colour, "linewidth": 1.7, "alpha": 0.9}
