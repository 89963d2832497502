"""Rewards of rollouts: a weighted sum whose parts are kept; one that fails stops and names the rollout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes.decoding_world import Decoded
from fakes.rollout_world import GRADES, N_PROMPTS, OWN, ROLLOUTS, RolloutWorld, columns, parity

from trims_core import schema
from trims_core.benchmarks.rewards import REWARDS, Reward, right_by
from trims_core.benchmarks.sudoku_grids import floors_text
from trims_core.errors import ConfigError, InterruptedRunError, RewardError
from trims_core.fingerprint import Digests
from trims_core.grades import of_rollouts
from trims_core.grades.rewarding import RewardGradesSettings, Rewarding, reward_settings
from trims_core.store import Artifact

EVEN, SIZE, SHOUT = f"{OWN}:even", f"{OWN}:size", f"{OWN}:shout"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with rollouts."""
    root = tmp_path_factory.mktemp("rewarded")
    RolloutWorld(root).run(ROLLOUTS)
    return root


@pytest.fixture
def world(made: Path, tmp_path: Path) -> RolloutWorld:
    copy = RolloutWorld(tmp_path)
    shutil.copytree(made / "store", tmp_path / "store")
    return copy


def rewarded(world: RolloutWorld, rewards: dict[str, float]) -> Artifact:
    return world.run(grader=None, rewards=rewards)[GRADES].artifact


def grades_of(artifact: Artifact) -> dict[str, list[Any]]:
    return columns(artifact, schema.ROLLOUT_GRADES, "/grades.parquet")


def parts_of(artifact: Artifact) -> dict[str, list[Any]]:
    return columns(artifact, schema.ROLLOUT_REWARDS, "/rewards.parquet")


def paying(*rewards: Reward, right_by: str = "a", weights: tuple[float, ...] = (1.0,)) -> Rewarding:
    return Rewarding(rewards, weights, right_by)


def test_a_rollout_earns_the_weighted_sum_and_keeps_its_parts(world: RolloutWorld) -> None:
    found = rewarded(world, {SIZE: 0.5, EVEN: 2.0})
    grades, parts = grades_of(found), parts_of(found)
    done = world.run(ROLLOUTS)[ROLLOUTS].artifact
    texts = columns(done, schema.ROLLOUTS, "/rollouts.parquet")["text"]
    golds = [parity(f"The answer is {name[1:]}.") for name in grades["id"]]
    even = [float(parity(text) == gold) for text, gold in zip(texts, golds, strict=True)]
    size = [len(text) / 4 for text in texts]
    both = list(zip(even, size, strict=True))
    assert grades["reward"] == [pytest.approx(2 * e + 0.5 * s) for e, s in both]
    assert {0.0, 1.0} == set(even)
    assert parts["id"] == [name for name in grades["id"] for _ in range(2)]
    assert parts["rollout"] == [number for number in grades["rollout"] for _ in range(2)]
    named = list(zip(parts["name"], parts["weight"], strict=True))
    assert named == [(EVEN, 2.0), (SIZE, 0.5)] * len(texts)
    assert parts["value"] == [value for pair in both for value in pair]
    assert grades["grader"] == [f"2·{EVEN} + 0.5·{SIZE}"] * len(texts)
    assert found.info["mean_rewards"] == pytest.approx({EVEN: sum(even) / 14, SIZE: sum(size) / 14})
    assert found.info["mean_reward"] == pytest.approx(sum(grades["reward"]) / 14)
    assert f"| {SIZE} | 0.5 | {sum(size) / 14:.4g} |" in (found.path / "card.md").read_text()


def test_the_first_of_ones_own_rewards_says_what_is_right_and_no_order_is_lost(world: RolloutWorld) -> None:
    by_size = grades_of(rewarded(world, {SIZE: 1.0, EVEN: 1.0}))
    by_parity = grades_of(rewarded(world, {EVEN: 1.0, SIZE: 1.0}))
    assert by_size["reward"] == by_parity["reward"]
    assert by_size["verdict"] != by_parity["verdict"]
    assert set(by_size["verdict"]) == {"right"}


def test_rewards_need_no_decoding_and_a_grader_has_no_parts(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = Decoded(monkeypatch)
    plain = world.run()[GRADES].artifact
    assert not list(plain.path.rglob("rewards.parquet"))
    found = rewarded(world, {"demo": 1.0})
    assert grades_of(found)["verdict"] == grades_of(plain)["verdict"]
    assert found.fingerprint != plain.fingerprint
    assert decoded.taken() == []
    assert world.run(grader=None, rewards={"demo": 1.0})[GRADES].how == "cached"
    assert world.run(grader=None, rewards={"demo": 2.0})[GRADES].how == "made"


def test_a_reward_that_says_nothing_adds_nothing(world: RolloutWorld) -> None:
    found = rewarded(world, {"demo": 1.0, SHOUT: 1.0})
    parts = parts_of(found)
    said = [value for name, value in zip(parts["name"], parts["value"], strict=True) if name == SHOUT]
    silent = [value is None for value in said]
    assert silent == [parity(f"The answer is {name[1:]}.") == 1 for name in grades_of(found)["id"]]
    assert any(silent) and not all(silent)
    spoken = [value for value in said if value is not None]
    assert found.info["mean_rewards"][SHOUT] == pytest.approx(sum(spoken) / len(spoken))
    with pytest.raises(RewardError, match=r"of rollout r\d#0 is missing: every reward gave None"):
        rewarded(world, {SHOUT: 1.0})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "always_raises",
            r"rollout-0/tokens-00000-0000: the reward .*:always_raises failed on rollout r0#0 \(Zero",
        ),
        (
            "brittle",
            r"failed on rollout r1#0 \(TimeoutError: too long\); its text begins '.*the example 'r1'",
        ),
    ],
)
def test_a_reward_that_raises_is_an_error_that_names_the_rollout(
    world: RolloutWorld, name: str, expected: str
) -> None:
    with pytest.raises(RewardError, match=expected):
        rewarded(world, {"demo": 1.0, f"{OWN}:{name}": 1.0})
    assert world.run(ROLLOUTS)[ROLLOUTS].how == "cached"


def test_a_published_reward_that_raises_stops_too() -> None:
    judge = Rewarding.of(reward_settings({"math_compat": 1.0}))
    with pytest.raises(RewardError, match=r"n, u: the reward math_compat failed on rollout r1#2 \(TypeError"):
        judge.grade("n, u", "r1#2", [], "\\boxed{5}", "\\boxed{5")


@pytest.mark.parametrize("given", ["yes", float("nan"), float("inf"), [1.0], object()])
def test_what_is_no_number_is_no_reward(given: object) -> None:
    judge = paying(Reward("a", lambda *_: given, right_from=1.0))
    with pytest.raises(RewardError, match=r"reward a failed on rollout x#y#0 \(TypeError: .*example 'x#y'"):
        judge.grade("n", "x#y#0", [], "text", "answer")


@pytest.mark.parametrize("weights", [(1e308, 1e308), (1e308, -1e308), (1e39, 0.0)])
def test_a_sum_that_no_column_holds_is_refused(weights: tuple[float, float]) -> None:
    judge = paying(
        Reward("a", lambda *_: 10.0, right_from=1.0), Reward("b", lambda *_: 10.0), weights=weights
    )
    with pytest.raises(RewardError, match="expected a finite number"):
        judge.grade("n", "r#0", [], "text", "answer")


def test_an_interruption_stops_the_grading() -> None:
    def stopped(*_: object) -> float:
        raise InterruptedRunError("stopped")

    with pytest.raises(InterruptedRunError):
        paying(Reward("a", stopped, right_from=1.0)).grade("n", "r#0", [], "text", "answer")


@pytest.mark.parametrize(
    ("given", "verdict", "reward"),
    [
        (True, "right", 3.0),
        (False, "wrong", 0.0),
        (1, "right", 3.0),
        (0.99, "wrong", 2.97),
        (2.0, "right", 6.0),
    ],
)
def test_an_answer_is_right_where_its_reward_reaches_the_most(
    given: Any, verdict: str, reward: float
) -> None:
    grade = paying(Reward("a", lambda *_: given, right_from=1.0), weights=(3.0,)).grade(
        "n", "r#0", [], "", ""
    )
    assert (grade.verdict, grade.reward) == (verdict, pytest.approx(reward))


def test_right_is_said_by_a_known_reward_for_answers_before_ones_own() -> None:
    assert right_by(["a.b:c", "gsm8k_format", "gsm8k", "demo"]) == "gsm8k"
    assert right_by(["gsm8k_format", "a.b:c", "a.b:d"]) == "a.b:c"
    assert right_by(["gsm8k_format", "math_format"]) is None
    assert {name for name, one in REWARDS.items() if one.right_from is None} == {
        *("gsm8k_format", "math_format", "countdown_format", "math_format_compat"),
        *(f"gsm8k_{name}_compat" for name in ("integer", "strict_format", "soft_format", "xml_count")),
    }


def test_published_rewards_are_right_from_their_own_most() -> None:
    judge = Rewarding.of(reward_settings({"gsm8k_compat": 0.5, "gsm8k_integer_compat": 1.0}))
    grade = judge.grade("n", "r#0", [], "<answer>4</answer>", "#### 4")
    assert (grade.verdict, grade.reward, grade.parts) == ("right", 1.5, (2.0, 0.5))
    assert judge.grade("n", "r#0", [], "<answer>5</answer>", "#### 4").verdict == "wrong"


def test_settings_come_from_a_section_or_from_weights_alone(tmp_path: Path) -> None:
    config = RolloutWorld(tmp_path).config(grader=None, rewards={"gsm8k": 2, "gsm8k_format": 1.0})
    expected = RewardGradesSettings(weights={"gsm8k": 2.0, "gsm8k_format": 1.0}, right_by="gsm8k")
    assert of_rollouts.settings(config.given_rollouts) == expected
    assert of_rollouts.settings({"gsm8k_format": 1.0, "gsm8k": 2.0}) == expected
    plain = of_rollouts.settings(RolloutWorld(tmp_path).config().given_rollouts)
    assert plain.result_fields() == {"grader": "demo", "right_from": 1.0}


def test_keys_follow_versions_and_the_users_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_reward.py").write_text("def f(*_):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    chosen = reward_settings({"demo": 1.0, "own_reward:f": 1.0})

    def keys() -> dict[str, str]:
        return of_rollouts.inputs(chosen, Digests(tmp_path / "digests.json"))

    before = keys()
    assert before["reward.demo"] == "demo 1"
    (tmp_path / "own_reward.py").write_text("def f(*_):\n    return 2.0\n")
    assert keys()["reward.own_reward:f"] != before["reward.own_reward:f"]
    monkeypatch.setitem(REWARDS, "demo", Reward("demo", REWARDS["demo"].function, 2, 1.0))
    assert keys()["reward.demo"] == "demo 2"


def test_a_cell_share_stands_beside_its_floors(world: RolloutWorld) -> None:
    rows = [
        {"id": f"r{i}", "messages": [{"role": "user", "content": "Solve 1204430021433412."}, answer]}
        for i, answer in enumerate([{"role": "assistant", "content": "1234432121433412"}] * N_PROMPTS)
    ]
    (world.root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = rewarded(world, {"sudoku": 1.0, "sudoku_cells": 0.0})
    card = (found.path / "card.md").read_text()
    assert f"`sudoku_cells`, {floors_text()}." in card
    assert "`sudoku`, floors" not in card
    assert "one digit everywhere 25.0 %, each row's missing digits in order 48.7 %" in card
    assert found.info["mean_rewards"] == {"sudoku": 0.0, "sudoku_cells": 0.0}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"grader": None}, "grader and rewards: neither is set"),
        ({"rewards": {"demo": 1.0}}, "grader and rewards: both are set"),
        ({"grader": None, "rewards": {}}, "rollouts.rewards"),
        ({"grader": None, "rewards": {"gms8k": 1.0}}, "reward 'gms8k' is not known; did you mean 'gsm8k'"),
        ({"grader": None, "rewards": {"a:b:c": 1.0}}, "expected package.module:Name"),
        ({"grader": None, "rewards": {"demo": 0.0}}, "all weights are 0"),
        ({"grader": None, "rewards": {"demo": float("nan")}}, "rollouts.rewards.demo"),
        ({"grader": None, "rewards": {"demo": True}}, "rollouts.rewards.demo"),
        (
            {"grader": None, "rewards": {"gsm8k_format": 1.0}},
            "nobody says which answers are right",
        ),
    ],
)
def test_rewards_that_are_not_defined_are_refused_before_anything_starts(
    tmp_path: Path, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        RolloutWorld(tmp_path).config(**settings)
    assert expected in str(refusal.value)


def test_a_reward_that_is_not_there_costs_no_decoding(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core.decoding import runner

    monkeypatch.setattr(runner, "load_runner", lambda *_: pytest.fail("the student was loaded"))
    for name, expected in (("nobody", "cannot be loaded"), ("N_PROMPTS", "is no function")):
        with pytest.raises(ConfigError, match=rf"rollouts\.rewards: .*{expected}"):
            world.run(ROLLOUTS, store="none", grader=None, rewards={f"{OWN}:{name}": 1.0})
