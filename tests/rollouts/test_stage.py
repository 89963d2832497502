"""The rollouts stage: every answer with its order and its prompt's digest, whatever it is decoded beside."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes.decoding_world import Decoded
from fakes.rollout_world import CHUNK, N_PROMPTS, ROLLOUTS, RolloutWorld, columns

from trims_core import schema
from trims_core.benchmarks import GRADERS
from trims_core.benchmarks.graders.numbers import Gsm8kNumber
from trims_core.decoding import runner
from trims_core.errors import ConfigError, EqualRolloutsError
from trims_core.rollouts import stage
from trims_core.token_digests import ids_digest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose rollouts are there, in chunks of three prompts."""
    root = tmp_path_factory.mktemp("rollouts")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(stage, "CHUNK", CHUNK)
        RolloutWorld(root).run(ROLLOUTS)
    return root


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RolloutWorld:
    """A copy of its store, to be changed."""
    monkeypatch.setattr(stage, "CHUNK", CHUNK)
    copy = RolloutWorld(tmp_path)
    shutil.copytree(made / "store", tmp_path / "store")
    return copy


def rows(world: RolloutWorld, **settings: Any) -> dict[str, list[Any]]:
    done = world.run(ROLLOUTS, **settings)
    return columns(done[ROLLOUTS].artifact, schema.ROLLOUTS, "/rollouts.parquet")


def by_answer(found: dict[str, list[Any]]) -> dict[tuple[str, int], Any]:
    """(prompt, number) → tokens and order."""
    keys = zip(found["id"], found["rollout"], strict=True)
    return dict(zip(keys, zip(found["token_ids"], found["reveal_step"], strict=True), strict=True))


def test_every_answer_names_the_prompt_it_was_given_and_how_it_came_about(world: RolloutWorld) -> None:
    found = rows(world)
    tokens = columns(world.run("tokens")["tokens"].artifact, schema.TOKENS, "/tokens.parquet")
    prompts = {
        name: ids[:length]
        for name, ids, length in zip(tokens["id"], tokens["input_ids"], tokens["prompt_length"], strict=True)
    }
    assert sorted(found["id"]) == sorted([*prompts, *prompts])
    for row in range(2 * N_PROMPTS):
        assert found["prompt_digest"][row] == ids_digest(prompts[found["id"][row]])
        assert found["temperature"][row] == 1.0
        order, logprobs = found["reveal_step"][row], found["logprob"][row]
        assert len(order) == len(logprobs) == len(found["token_ids"][row]) == 12
        assert [step >= 0 for step in order] == [value is not None for value in logprobs]
        assert all(value <= 0 for value in logprobs if value is not None)
        assert max(order) + 1 == found["n_forwards"][row]
        assert sorted(step for step in order if step >= 0) == list(range(max(order) + 1))
    assert len(set(found["draw_seed"])) == 2 * N_PROMPTS


def test_an_answer_is_the_same_in_every_chunk_and_batch(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = by_answer(rows(world))
    monkeypatch.setattr(stage, "CHUNK", 2)
    monkeypatch.setattr(runner, "default_workers", lambda _student: 1)
    apart = by_answer(rows(world, store="apart", batch_size=1))
    assert apart == together
    assert any(together[f"r{i}", 0] != together[f"r{i}", 1] for i in range(N_PROMPTS))


def test_a_second_run_decodes_nothing_and_more_samples_only_these(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, decoded = by_answer(rows(world)), Decoded(monkeypatch)
    assert by_answer(rows(world)) == before
    assert decoded.taken() == []
    more = by_answer(rows(world, samples=3))
    assert sum(decoded.taken()) == N_PROMPTS
    assert {key: more[key] for key in before} == before
    rows(world, samples=3, grader="gsm8k", right_from=0.5, batch_size=3)
    assert decoded.taken() == []


def test_a_limit_takes_the_first_prompts_and_grows_by_new_ones(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, decoded = rows(world, store="few", limit=4), Decoded(monkeypatch)
    assert len(set(few["id"])) == 4
    rows(world, store="few")
    assert 2 * (N_PROMPTS - 4) <= sum(decoded.taken()) < 2 * N_PROMPTS + 1


def test_retries_are_further_answers_at_their_temperatures(world: RolloutWorld) -> None:
    found = rows(world, samples=1, sampling={"temperature": 0.0}, retry_temperatures=[0.1, 0.4])
    pairs = set(zip(found["rollout"], found["temperature"], strict=True))
    assert pairs == {(0, 0.0), (1, 0.1), (2, 0.4)}
    drawn = [seed is None for seed in found["draw_seed"]]
    assert drawn == [number == 0 for number in found["rollout"]]


def test_equal_answers_of_a_sure_student_are_counted(world: RolloutWorld) -> None:
    done = world.run(ROLLOUTS, store="sure", sampling={"temperature": 1e-6})
    counts = done[ROLLOUTS].artifact.manifest.counts
    assert (counts["n_groups"], counts["n_equal_groups"]) == (N_PROMPTS, N_PROMPTS)
    card = (done[ROLLOUTS].artifact.path / "card.md").read_text()
    assert f"All samples are equal for {N_PROMPTS} of {N_PROMPTS} prompts" in card


def test_copies_drawn_with_the_same_noise_are_an_error_by_name(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = world.run(ROLLOUTS)[ROLLOUTS].artifact.manifest.counts
    assert counts["n_equal_groups"] == 0
    monkeypatch.setattr(stage, "draw_name", lambda prompt_id, _rollout: prompt_id)
    with pytest.raises(
        EqualRolloutsError, match=r"answers to 7 of 7 prompts are copies.*r0, r1.*--refresh rollouts"
    ):
        world.run(ROLLOUTS, store="shared", retry_temperatures=[0.5])


def test_log_probabilities_are_those_of_the_reveal(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    answer = runner.Runner.answer

    def noted(self: Any, *arguments: Any) -> Any:
        kept.append(answer(self, *arguments))
        return kept[-1]

    monkeypatch.setattr(runner.Runner, "answer", noted)
    found = rows(world, store="noted", limit=1, samples=1)
    (decoded,) = kept[0].decoded
    assert found["token_ids"] == [decoded.token_ids]
    expected = [None if value is None else math.log(value) for value in decoded.confidence]
    assert found["logprob"][0] == [None if v is None else pytest.approx(v, abs=1e-6) for v in expected]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sampling": {"temperature": 0.0}}, "samples 2 with sampling.temperature 0"),
        ({"sampling": {"begin_suppress": ["eos"]}}, "rollouts keep log-probabilities"),
        ({"threshold": 1.5}, r"threshold 1\.5 with rule threshold: expected a probability"),
        ({"block_length": 5}, "gen_length 12 is not a multiple of block_length 5"),
        ({"grader": "a:b:c"}, "expected package.module:Name"),
        ({"cache": "dual", "rule": "multi_block", "threshold": 0.1}, "several blocks are open"),
        (
            {"rule": "steps", "threshold": 2.5},
            "threshold 2.5 with rule steps: expected a whole number",
        ),
        (
            {"rule": "eoser", "threshold": 3, "block_length": 6},
            "3 forwards with rule eoser on 12 positions",
        ),
        ({"rule": "eoser_ass", "threshold": 4}, "4 forwards with rule eoser_ass on 12 positions: expected 3"),
        ({"gen_length": 40000, "block_length": 40000}, "rollouts.gen_length"),
    ],
)
def test_what_is_not_defined_is_refused_before_anything_starts(
    tmp_path: Path, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        RolloutWorld(tmp_path).config(**settings)


def test_ascending_steps_take_their_forwards_and_read_no_block_length(world: RolloutWorld) -> None:
    chosen = {"rule": "eoser_ass", "threshold": 3, "stop_at_end": False, "samples": 1}
    done = world.run(ROLLOUTS, store="ass", block_length=5, **chosen)[ROLLOUTS]
    found = columns(done.artifact, schema.ROLLOUTS, "/rollouts.parquet")
    assert set(found["n_forwards"]) == {3}
    counts = {tuple(row.count(step) for step in range(3)) for row in found["reveal_step"]}
    assert counts == {(1, 2, 9)}
    assert "3 forwards" in (done.artifact.path / "card.md").read_text()
    assert world.run(ROLLOUTS, store="ass", block_length=12, **chosen)[ROLLOUTS].how == "cached"
    assert world.run(ROLLOUTS, store="ass", gamma_min=0.5, **chosen)[ROLLOUTS].how == "made"


def test_a_grader_that_is_not_there_costs_no_decoding(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_runner", lambda *_: pytest.fail("the student was loaded"))
    for grader, expected in (
        ("dema", r"rollouts\.grader: grader 'dema' is not known; did you mean 'demo'"),
        ("fakes.rollout_world:nobody", "cannot be loaded"),
        ("fakes.rollout_world:N_PROMPTS", "is no function"),
    ):
        with pytest.raises(ConfigError, match=expected):
            world.run(ROLLOUTS, store="none", grader=grader)

    class Program(Gsm8kNumber):
        finds_gold = False

    monkeypatch.setitem(GRADERS, "program", Program())
    with pytest.raises(ConfigError, match=r"program cannot take a right answer.*Expected one of demo, gsm8k"):
        world.run(ROLLOUTS, store="none", grader="program")


def test_a_prompt_that_does_not_fit_is_named(world: RolloutWorld) -> None:
    with pytest.raises(
        ConfigError, match=r"rollouts: the prompt of example 'r\d' has \d+ tokens.*Lower gen_length"
    ):
        world.run(ROLLOUTS, store="long", gen_length=240, block_length=240)
