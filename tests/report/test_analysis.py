"""What the report makes of the analysis: means, intervals, curves, order, calibration, changed problems."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.analysis_tables import N_SHOWN
from fakes.report_cells import cell
from fakes.report_world import ReportWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.rendering import load_tokenizer
from trims_core.report.analysis_tables import analysis_tables, changed_problems
from trims_core.report.answer_means import mean_of, means_of, numbers
from trims_core.report.calibration import bins, calibration_of, ece
from trims_core.report.changed import changed_of
from trims_core.report.intervals import NO_BOUNDS, UNSEEDED, estimate, rounded
from trims_core.report.resampling import resample_counts
from trims_core.report.results import collect
from trims_core.report.reveal_order import order_of
from trims_core.report.tables import table_markdown
from trims_core.report.trajectories import SHARES, trajectories_of
from trims_core.schema import ANALYSED, ANSWER_DIFFICULTY, TRAJECTORIES, read_table
from trims_core.store import Artifact

COUNTS = resample_counts(6, 200, "demo")


def test_a_mean_over_all_answers_is_the_estimate_of_the_other_tables() -> None:
    draw = np.random.default_rng(0)
    one, two = draw.random(6), draw.random(6)
    found = mean_of({0: one, 1: two}, COUNTS, NO_BOUNDS)
    expected = estimate(COUNTS @ np.stack([one, two], axis=1) / 6, (0, 1))
    low, high = expected.over_seeds_and_problems
    assert found == {
        "mean": rounded(np.mean([one, two])),
        "low": rounded(low),
        "high": rounded(high),
        "n": 12,
    }
    single = mean_of({0: one}, COUNTS, NO_BOUNDS)
    assert (single["low"], single["high"]) == tuple(
        rounded(end) for end in estimate(COUNTS @ one[:, None] / 6, (0,)).over_problems
    )
    untrained = mean_of({None: one}, COUNTS, NO_BOUNDS)
    assert (untrained["low"], untrained["high"]) == tuple(
        rounded(end) for end in estimate(COUNTS @ one[:, None] / 6, UNSEEDED).over_seeds_and_problems
    )


def test_answers_without_a_number_are_left_out_of_mean_and_resamples() -> None:
    gaps = numbers([1.0, None, 3.0, None, 5.0, 7.0])
    found = mean_of({0: gaps}, COUNTS, NO_BOUNDS)
    assert (found["mean"], found["n"]) == (4.0, 4)
    kept = [0, 2, 4, 5]
    slow = [float(np.average(gaps[kept], weights=row[kept])) for row in COUNTS if row[kept].sum() > 0]
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(slow[1:], (2.5, 97.5)), abs=1e-6)


def test_fewer_than_two_answers_have_no_mean_and_no_interval_leaves_what_is_possible() -> None:
    assert mean_of({0: numbers([None] * 5 + [2.0])}, COUNTS, NO_BOUNDS) is None
    assert mean_of({0: numbers([None] * 6)}, COUNTS, NO_BOUNDS) is None
    # the second seed has no number: it is left out
    assert mean_of({0: numbers([1.0, 2.0] * 3), 1: numbers([None] * 6)}, COUNTS, NO_BOUNDS)["mean"] == 1.5
    # twenty seeds with an answer each: nearly every resample lacks that of some seed
    rare = {seed: numbers([1.0 if n == seed % 6 else None for n in range(6)]) for seed in range(20)}
    assert mean_of(rare, COUNTS, NO_BOUNDS) is None
    apart = {0: np.full(6, -0.9), 1: np.full(6, 0.9)}
    cut = mean_of(apart, COUNTS, (-1.0, 1.0))
    assert (cut["low"], cut["high"]) == (-1.0, 1.0)
    columns = means_of({0: np.array([[1.0, np.nan]] * 6)}, COUNTS, NO_BOUNDS)
    assert columns[0]["mean"] == 1.0 and columns[1] is None


def state(step: int, n_revealed: int, revealed: float | None, filled: float) -> dict[str, Any]:
    return {"step": step, "n_revealed": n_revealed, "revealed_nats": revealed, "filled_nats": filled}


SLOW_STATES = {
    "a": [state(0, 0, None, 5.0), state(1, 1, 4.0, 4.5), state(2, 4, 3.0, 2.5)],
    "b": [state(0, 0, None, 3.0), state(2, 5, 2.0, 2.0), state(5, 10, 1.0, 1.0)],
}


def trajectory(states: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return trajectories_of({None: SimpleNamespace(states=states)}, resample_counts(len(states), 100, "x"))


def test_curves_take_the_first_state_that_is_far_enough_and_finished_answers_keep_their_last_value() -> None:
    found = trajectory(SLOW_STATES)
    by_step = {row["x"]: row for row in found["by_step"]}
    assert list(by_step) == [0, 1, 2, 3, 4, 5]
    assert [by_step[x]["filled_nats"] for x in range(6)] == [4.0, 3.25, 2.25, 1.75, 1.75, 1.75]
    assert [by_step[x]["revealed_nats"] for x in range(6)] == [None, 3.0, 2.5, 2.0, 2.0, 2.0]
    by_share = {row["x"]: row for row in found["by_share"]}
    assert tuple(by_share) == SHARES == tuple(round(i / 20, 2) for i in range(21))
    assert [by_share[x]["filled_nats"] for x in (0, 0.05, 0.25, 0.3, 0.5, 0.55, 1)] == [
        4.0,
        3.25,
        3.25,
        2.25,
        2.25,
        1.75,
        1.75,
    ]
    assert by_share[1]["revealed_nats"] == 2.0
    for row in (*found["by_share"], *found["by_step"]):
        assert row["filled_low"] <= row["filled_nats"] <= row["filled_high"]


def test_states_that_were_not_scored_are_left_out_of_their_point_alone() -> None:
    spoilt = {**SLOW_STATES, "c": [state(0, 0, None, 1.0), {**state(1, 3, None, 1.0), "filled_nats": None}]}
    found = {row["x"]: row for row in trajectory(spoilt)["by_step"]}
    assert found[0]["filled_nats"] == 3.0
    assert found[1]["filled_nats"] == 3.25  # of a and b


def test_long_trajectories_are_shown_at_64_places() -> None:
    long = [state(k, k, 1.0, 1.0) for k in range(301)]
    found = trajectory({"a": long, "b": long})["by_step"]
    assert (len(found), found[0]["x"], found[-1]["x"]) == (64, 0, 300)


def answer(verdict: str, **facts: Any) -> dict[str, Any]:
    made = {"verdict": verdict, "order_position": 0.5, "order_confidence": None, "n_tokens": 4, "n_steps": 2}
    made |= {"revealed": [3, 1], "runs": [2, 1, 1], "departure_step": None, "departure_confidence": None}
    return {**made, "confidence": [0.5] * 4, "agrees": [True] * 4, **facts}


def model(answers: list[dict[str, Any]], difficulties: dict[str, Any] | None = None) -> Any:
    for number, row in enumerate(answers):
        row["sample_id"] = f"p{number}"
    return SimpleNamespace(answers=answers, difficulties=difficulties or {}, states={})


def test_order_pools_shares_and_runs_and_looks_for_departures_in_answers_that_are_not_right() -> None:
    answers = [
        answer("right", departure_step=0, departure_confidence=0.1),
        answer("wrong", departure_step=1, departure_confidence=0.9, order_position=0.1),
        answer("error", departure_step=0, departure_confidence=0.5),
        answer("wrong", n_tokens=2, n_steps=3, revealed=[1, 0, 1], runs=[1, 1]),
    ]
    found = order_of({None: model(answers)}, resample_counts(4, 100, "x"), np.ones((101, 1)))
    assert found["position"]["mean"] == pytest.approx(0.4) and found["position"]["n"] == 4
    assert found["confidence"] is found["difficulty"] is None
    assert found["revealed_per_step"] == [rounded((3 * 0.75 + 0.5) / 4), rounded(0.75 / 4), 0.125]
    assert sum(found["revealed_per_step"]) == pytest.approx(1, abs=1e-5)
    assert found["run_lengths"] == [[1, 8], [2, 3]]
    departure = found["departure"]
    assert (departure["n_wrong"], departure["n_departed"]) == (3, 2)
    assert departure["step_share"]["mean"] == 0.25 and departure["step_share"]["n"] == 2
    assert departure["confidence"]["mean"] == 0.7


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_ece_is_that_of_a_slow_version(pairs: list[tuple[float, bool]]) -> None:
    held: dict[int, list[tuple[float, bool]]] = {}
    for sure, true in pairs:
        number = max(i for i in range(10) if sure >= float(np.linspace(0, 1, 11)[i]))
        held.setdefault(number, []).append((sure, true))
    apart = [abs(sum(s for s, _ in one) - sum(t for _, t in one)) for one in held.values()]
    sure_N, true_N = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs], np.float64)
    assert ece(sure_N, true_N) == pytest.approx(sum(apart) / len(pairs), abs=1e-6)
    shown = bins(sure_N, true_N)
    assert [one["n"] for one in shown] == [len(held[number]) for number in sorted(held)]
    assert [round(10 * one["low"]) for one in shown] == sorted(held)


def test_calibration_is_of_tokens_that_can_be_compared_and_of_answers() -> None:
    answers = [
        answer("right", confidence=[0.95, 0.95, 0.55, 0.55], agrees=[True, True, False, None]),
        answer("wrong", confidence=[0.15] * 4, agrees=[False] * 4),
    ]
    difficulties = {"p0": {"difficulty_nats": [0.1, 3.0, 1.0, 9.0, None]}}
    buckets = {"metric": "nll", "k": 3, "edges_nats": [1.0, 2.0]}
    found = calibration_of([model(answers, difficulties)], buckets)
    assert found["n_tokens"] == 7
    assert found["ece"] == pytest.approx((2 * 0.05 + 0.55 + 4 * 0.15) / 7, abs=1e-6)
    # 3 nats are above both edges: the hardest bucket; 1.0 lies at an edge: the easiest
    assert found["by_bucket"] == [
        {"bucket": 1, "n": 1, "confidence": 0.95, "agreement": 1.0, "ece": 0.05},
        {"bucket": 3, "n": 2, "confidence": 0.75, "agreement": 0.5, "ece": 0.3},
    ]
    assert found["answers"]["n"] == 2
    assert found["answers"]["ece"] == pytest.approx((0.25 + 0.15) / 2)
    assert calibration_of([model(answers, difficulties)], None)["by_bucket"] is None
    entropy = {**buckets, "metric": "entropy"}
    assert calibration_of([model(answers, difficulties)], entropy)["by_bucket"] is None
    assert calibration_of([model(answers)], buckets)["by_bucket"] is None


def test_nothing_that_can_be_compared_has_no_error() -> None:
    found = calibration_of([model([answer("right", agrees=[None] * 4)])], None)
    assert (found["ece"], found["n_tokens"], found["bins"]) == (None, 0, [])


def seeds(method: str, right: dict[int | None, list[int]]) -> dict[int | None, Any]:
    return {seed: SimpleNamespace(cell=cell(method, 0.5, row, seed=seed)) for seed, row in right.items()}


def test_changed_problems_are_named_seed_by_seed() -> None:
    methods = {
        "untuned": seeds("untuned", {None: [1, 0, 0]}),
        "trims": seeds("trims", {0: [1, 1, 0], 1: [0, 0, 1]}),
        "plain": seeds("plain", {1: [1, 1, 1], 2: [0, 0, 0]}),
    }
    found = changed_of([("trims", "untuned"), ("trims", "plain"), ("trims", "gone")], methods)
    assert found == [
        {"a": "trims", "b": "untuned", "seed": 0, "became_right": ["p001"], "became_wrong": [], "n": 3},
        {"a": "trims", "b": "untuned", "seed": 1, "became_right": ["p002"], "became_wrong": ["p000"], "n": 3},
        {"a": "trims", "b": "plain", "seed": 1, "became_right": [], "became_wrong": ["p000", "p001"], "n": 3},
    ]
    (against,) = changed_of([("untuned", "plain")], {**methods, "plain": seeds("plain", {2: [0, 0, 0]})})
    assert (against["seed"], against["became_right"]) == (2, ["p000"])


def test_results_say_it_of_every_task_and_method_with_the_units_own_numbers(
    results: dict[str, Any], parents: dict[str, Artifact]
) -> None:
    task = results["tasks"]["demo"]
    found = task["analysis"]
    assert (found["threshold"], found["rule"], found["n"]) == (0.6, "threshold", N_SHOWN)
    assert (found["teacher"], found["without_teacher"]) == ("teacher", None)
    for part in ("trajectories", "order", "calibration"):
        assert list(found[part]) == list(task["curves"]) == ["untuned", "standard", "trims"]
    artifact, models = parents["analysis"], ("trims-s0", "trims-s1")
    rows = [
        row
        for name in models
        for row in read_table(artifact.file(f"answers/demo/{name}/analysed.parquet"), ANALYSED).to_pylist()
    ]
    order = found["order"]["trims"]
    assert order["position"]["mean"] == rounded(np.mean([row["order_position"] for row in rows]))
    assert order["position"]["n"] == len(rows) == 80
    assert order["departure"]["n_wrong"] == sum(row["verdict"] != "right" for row in rows)
    difficulty = [
        row["order_difficulty"]
        for name in models
        for row in read_table(
            artifact.file(f"teacher/demo/{name}/difficulty.parquet"), ANSWER_DIFFICULTY
        ).to_pylist()
    ]
    assert order["difficulty"]["mean"] == rounded(np.mean(difficulty))
    last = [
        row["filled_nats"]
        for name in models
        for row in read_table(
            artifact.file(f"teacher/demo/{name}/trajectories.parquet"), TRAJECTORIES
        ).to_pylist()
        if row["n_revealed"] == 20
    ]
    assert found["trajectories"]["trims"]["by_share"][-1]["filled_nats"] == rounded(np.mean(last))
    assert found["n_not_scored"] == 5  # one text of each model
    assert {row["bucket"] for row in found["calibration"]["trims"]["by_bucket"]} == {1, 2, 3, 4}
    pairs = {(row["a"], row["b"], row["seed"]) for row in found["changed"]}
    assert {("trims", "standard", 0), ("trims", "standard", 1), ("trims", "untuned", 0)} <= pairs


def test_changed_problems_are_those_of_the_verdicts(results: dict[str, Any]) -> None:
    task = results["tasks"]["demo"]
    right = {cell["model"]: cell["n_correct"] for cell in task["cells"] if cell["threshold"] == 0.6}
    for row in task["analysis"]["changed"]:
        models = [f"{name}-s{row['seed']}" if name != "untuned" else name for name in (row["a"], row["b"])]
        gain = len(row["became_right"]) - len(row["became_wrong"])
        assert gain == right[models[0]] - right[models[1]]


def test_table_md_has_a_row_per_method(report: Path, results: dict[str, Any]) -> None:
    text = (report / "table.md").read_text(encoding="utf-8")
    found = results["tasks"]["demo"]["analysis"]
    half = next(row for row in found["trajectories"]["trims"]["by_share"] if row["x"] == 0.5)
    cell = f"{half['filled_nats']:.2f} [{half['filled_low']:.2f}, {half['filled_high']:.2f}] |"
    order, calibration = found["order"]["trims"], found["calibration"]["trims"]
    position = order["position"]
    row = next(
        line
        for line in text.splitlines()
        if line.startswith(f"| trims | {position['mean']:.2f} [{position['low']:.2f}, ")
    )
    assert row.endswith(cell)
    assert f"| {calibration['ece']:.3f} | {calibration['answers']['ece']:.3f} |" in row
    assert f"{order['departure']['n_departed']} of {order['departure']['n_wrong']}" in row


def test_the_tables_tell_departures_calibration_and_what_changed(results: dict[str, Any]) -> None:
    task = results["tasks"]["demo"]
    found, tables = task["analysis"], analysis_tables("demo", task)
    names = ["analysis", "departures", "calibration", "calibration-by-bucket", "changed"]
    assert list(tables) == names
    rows = {name: {row[0]: row for row in tables[name].rows} for name in names}
    departure, calibration = found["order"]["trims"]["departure"], found["calibration"]["trims"]
    stat = departure["step_share"]
    assert rows["departures"]["trims"][1:5] == (
        str(calibration["answers"]["n"]),
        str(departure["n_wrong"]),
        str(departure["n_departed"]),
        f"{stat['mean']:.2f} [{stat['low']:.2f}, {stat['high']:.2f}]",
    )
    assert rows["calibration"]["trims"][1:3] == (f"{calibration['ece']:.3f}", str(calibration["n_tokens"]))
    hardest = calibration["by_bucket"][0]
    assert rows["calibration-by-bucket"]["trims, bucket 1"][-1] == f"{hardest['ece']:.3f}"
    counts = [(row[0], row[1], row[2], row[3]) for row in tables["changed"].rows]
    problems = changed_problems(task)
    assert problems is not None
    for pair, row in zip(found["changed"], counts, strict=True):
        seed = "–" if pair["seed"] is None else str(pair["seed"])
        gained, lost = len(pair["became_right"]), len(pair["became_wrong"])
        assert row == (f"{pair['a']} against {pair['b']}", seed, str(gained), str(lost))
        listed = [one for one in problems.rows if one[:3] == (pair["a"], pair["b"], seed)]
        assert [one[4] for one in listed if one[3] == "right"] == pair["became_right"]
        assert [one[4] for one in listed if one[3] == "wrong"] == pair["became_wrong"]
    assert analysis_tables("demo", {**task, "analysis": None}) == {}


def test_without_a_teacher_the_rest_stands_and_the_reason_is_told(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path, teacher=False, variants={"plain": {"method": "standard"}})
    world.skill, world.stamina = {"untuned": 0.7, "plain": 0.8}, {"untuned": 2.0, "plain": 3.0}
    results = collect(world.config(), world.parents(), load_tokenizer(world.config().student.model))
    found = results["tasks"]["demo"]["analysis"]
    assert (found["n"], found["teacher"], found["trajectories"]) == (0, None, {})
    assert found["without_teacher"] == "this run has no teacher (no section scores)"
    assert found["order"]["plain"]["difficulty"] is None
    assert found["order"]["plain"]["position"]["n"] == 40
    assert found["calibration"]["plain"]["by_bucket"] is None
    assert "No difficulty and no NLL: this run has no teacher" in table_markdown(results)


def test_a_run_without_an_analysis_has_none(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path, variants={"trims": {}})
    config = world.config()
    parents = {role: one for role, one in world.parents().items() if role != "analysis"}
    results = collect(config, parents, load_tokenizer(config.student.model))
    assert results["tasks"]["demo"]["analysis"] is None
    assert "rank correlation of a token" not in table_markdown(results)
