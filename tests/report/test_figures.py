"""Figures exist in every form, repeat byte for byte, and can be told apart by eye."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pytest
from fakes.analysed_results import analysed
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trims_core.points import CacheName
from trims_core.report.analysis_figures import analysis_jobs
from trims_core.report.appearance import (
    DARK,
    LIGHT,
    Theme,
    bucket_colours,
    cache_looks,
    looks,
    style_variables,
    token_colours,
)
from trims_core.report.curve_figures import curve_jobs
from trims_core.report.figure_style import empty_figure
from trims_core.report.figures import draw_all
from trims_core.report.training_figures import training_jobs

CURVES = ("curve", "forwards", "speed")
ANALYSIS = ("trajectories", "trajectories-by-step", "order", "reveals", "calibration")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.1)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.1)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_figure_is_there_as_png_and_svg(report: Path) -> None:
    wanted = {f"{name}-demo" for name in (*CURVES, "caches", *ANALYSIS)}
    wanted |= {"difficulty", "losses"}
    for name in wanted:
        header = (report / "figures" / f"{name}.png").read_bytes()[:24]
        assert struct.unpack(">II", header[16:24]) == (1152, 784)
        assert b"</svg>" in (report / "figures" / f"{name}.svg").read_bytes()[-20:]
    found = {path.name for path in (report / "figures").iterdir()}
    assert found == {f"{name}.{kind}" for name in wanted for kind in ("png", "svg")}


def test_drawing_again_gives_the_same_bytes(report: Path, results: dict[str, Any], tmp_path: Path) -> None:
    for name in draw_all(results, tmp_path):
        assert (tmp_path / name).read_bytes() == (report / "figures" / name).read_bytes(), name


def test_an_analysis_has_figures_of_its_own(results: dict[str, Any], tmp_path: Path) -> None:
    found = analysed(results)
    names = analysis_jobs(found)
    assert list(names) == [f"{name}-demo" for name in ANALYSIS]
    for name, job in names.items():
        with empty_figure() as figure:
            job(figure)
            figure.savefig(tmp_path / f"{name}.svg")
    assert all((tmp_path / f"{name}.svg").stat().st_size > 10_000 for name in names)
    found["tasks"]["demo"]["analysis"]["trajectories"] = {}
    assert list(analysis_jobs(found)) == ["order-demo", "reveals-demo", "calibration-demo"]
    found["tasks"]["demo"]["analysis"] = None
    assert analysis_jobs(found) == {}


def drawn(job: Callable[[Figure], None]) -> list[Axes]:
    """The panels of a figure."""
    with empty_figure() as figure:
        job(figure)
        return list(figure.axes)


def line(axes: Axes, name: str) -> tuple[list[float], list[float]]:
    """x and y of the line that the legend calls so."""
    (found,) = (one for one in axes.lines if str(one.get_label()).split("  ")[0] == name)
    return list(found.get_xdata()), list(found.get_ydata())


def test_a_curve_runs_along_forwards_and_speed_as_well(results: dict[str, Any]) -> None:
    task, jobs = results["tasks"]["demo"], curve_jobs(results)
    points = sorted(task["curves"]["trims"], key=lambda point: point["tpf"])
    accuracy = [100 * point["accuracy"] for point in points]
    for name, field in zip(CURVES, ("tpf", "forwards_per_answer", "tokens_per_second"), strict=True):
        (axes,) = drawn(jobs[f"{name}-demo"])
        assert line(axes, "trims") == ([point[field] for point in points], accuracy)
    published = {"tokens_per_forward": 2.5, "tokens_per_second": None, "accuracy": 71.0, "method": "other"}
    task = {**task, "protocol": {**task["protocol"], "published": [published]}}
    jobs = curve_jobs({**results, "tasks": {"demo": task}})
    assert line(drawn(jobs["curve-demo"])[0], "published, same profile") == ([2.5], [71.0])
    for name in ("forwards", "speed"):
        labels = [str(one.get_label()) for one in drawn(jobs[f"{name}-demo"])[0].lines]
        assert "published, same profile" not in labels


def test_training_has_figures_of_parts_masks_and_rewards(results: dict[str, Any]) -> None:
    found = analysed(results)
    jobs = training_jobs(found)
    assert list(jobs) == ["losses", "loss-parts", "masked-share", "rewards"]
    entry = found["losses"]["trims-s0"]
    _, ends = drawn(jobs["loss-parts"])
    assert line(ends, "trims") == tuple(map(list, zip(*entry["parts"]["ends"], strict=True)))
    (masked,) = drawn(jobs["masked-share"])
    assert line(masked, "trims")[1] == [0.5] * len(entry["masked_share"])
    (rewards,) = drawn(jobs["rewards"])
    assert line(rewards, "trims") == ([0, 1, 2, 3], [0.4 + number / 10 for number in range(4)])
    assert list(training_jobs({**found, "losses": {}, "rounds": []})) == []


def test_calibration_has_a_panel_of_tokens_and_one_of_answers(results: dict[str, Any]) -> None:
    found = analysed(results)
    of = found["tasks"]["demo"]["analysis"]["calibration"]["trims"]
    of["answers"]["bins"] = [{**one, "agreement": 0.25} for one in of["bins"]]
    tokens, answers = drawn(analysis_jobs(found)["calibration-demo"])
    assert line(tokens, "trims")[1] == [one["agreement"] for one in of["bins"]]
    assert line(answers, "trims")[1] == [0.25] * len(of["bins"])


def test_svgs_carry_no_date_and_need_no_font(report: Path) -> None:
    text = (report / "figures" / "curve-demo.svg").read_text(encoding="utf-8")
    assert "dc:date" not in text
    assert "<text" not in text


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_methods_differ_in_colour_and_marker_and_stand_out(theme: Theme) -> None:
    kinds = ["untuned", "baseline", *["trained"] * 7]
    found = looks([{"name": str(i), "kind": kind} for i, kind in enumerate(kinds)], theme)
    assert len({look.colour for look in found.values()}) == len(kinds)
    assert len({look.marker for look in found.values()}) == len(kinds)
    assert len({look.symbol for look in found.values()}) == len(kinds)
    assert all(contrast(look.colour, theme.ground) >= 3 for look in found.values())


def test_methods_of_many_runs_differ_in_colour_or_marker() -> None:
    kinds = [*["untuned"] * 3, *["baseline"] * 4, *["trained"] * 20]
    found = looks([{"name": str(i), "kind": kind} for i, kind in enumerate(kinds)], LIGHT)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(kinds)
    assert len({(look.colour, look.symbol) for look in found.values()}) == len(kinds)
    charts = resources.files("trims_core.report").joinpath("web/charts.js").read_text(encoding="utf-8")
    assert all(f"{look.symbol}: " in charts for look in found.values())
    assert not any(
        look.marker in "x+|_1234" for look in found.values()
    )  # drawn by their edges, which are white


SEEN_BY: Final = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
"""Linear sRGB as these eyes see it (Machado, Oliveira and Fernandes, 2009, severity 1)."""
TO_XYZ: Final = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE: Final = (0.9505, 1.0, 1.089)
TOLD_APART: Final = 20.0


def lab(colour: str, eyes: str) -> Any:
    """CIELAB of #rrggbb as these eyes see it."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(np.array(TO_XYZ) @ np.clip(np.array(SEEN_BY[eyes]) @ linear, 0.01, 1) / np.array(WHITE))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN_BY)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_colour_blind_tell_methods_apart(theme: Theme, eyes: str) -> None:
    """Untuned, baseline and the first trained one by colour, others at least where markers are the same."""
    kinds = ["untuned", "baseline", *["trained"] * 12]
    found = list(looks([{"name": str(i), "kind": kind} for i, kind in enumerate(kinds)], theme).values())
    for (i, one), (j, other) in itertools.combinations(enumerate(found), 2):
        apart = float(np.linalg.norm(lab(one.colour, eyes) - lab(other.colour, eyes)))
        assert apart >= (TOLD_APART if j < 3 else 10 if one.marker == other.marker else 0), (i, j, apart)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_caches_differ_in_colour_and_marker_and_stand_out(theme: Theme) -> None:
    found = cache_looks(list(get_args(CacheName)), theme)
    assert len({look.colour for look in found.values()}) == len({look.marker for look in found.values()}) == 4
    assert all(contrast(look.colour, theme.ground) >= 3 for look in found.values())


@pytest.mark.parametrize("k", [1, 2, 8, 16])
def test_bucket_colours_darken_with_difficulty_and_keep_text_readable(k: int) -> None:
    colours = bucket_colours(k)
    assert len(colours) == k
    brightness = [luminance(background) for background, _ in colours]
    assert brightness == sorted(brightness)
    assert all(contrast(background, ink) >= 4.5 for background, ink in colours)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_page_has_the_colours_of_the_figures(theme: Theme) -> None:
    methods = [{"name": "untuned", "kind": "untuned"}, {"name": "a", "kind": "trained"}]
    style = style_variables(methods, ["dual"], theme)
    declared = dict(one.strip().split(": ") for one in style.split(";")[:-1])
    assert declared["--method-1"] == looks(methods, theme)["a"].colour
    assert declared["--cache-dual"] == cache_looks(["dual"], theme)["dual"].colour
    assert contrast(declared["--ink"], declared["--ground"]) >= 7
    assert contrast(declared["--faint"], declared["--ground"]) >= 4.5


def test_tokens_are_readable_and_told_apart_by_lightness_alone() -> None:
    for name, colours in token_colours(7).items():
        assert all(contrast(background, ink) >= 4.5 for background, ink in colours)
        brightness = [luminance(background) for background, _ in colours]
        assert brightness == sorted(brightness, reverse=name != "confidence"), name
        assert min(abs(a - b) for a, b in itertools.pairwise(brightness)) > 0.01
