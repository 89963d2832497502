"""Rounds of reinforcement: what each is made from, that they go on from each other, that more go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.rollout_world import OWN, RolloutWorld
from fakes.rounds import round_spec, round_variant, write_round
from fakes.training_runs import deepspeed_run, train_here
from fakes.training_student import same_curves
from safetensors.torch import load_file

from trims_core.config import LoraSettings, TrimsConfig
from trims_core.errors import CheckpointError, ConfigError, InterruptedRunError
from trims_core.graph import build_graph
from trims_core.rollouts.prompts import chosen_rows
from trims_core.rollouts.settings import RolloutsSettings, RoundPrompts
from trims_core.schema import ROLLOUTS, read_table
from trims_core.settings import parse_config
from trims_core.stage import Result, run_node
from trims_core.store import Store
from trims_core.trained import MOMENTS_FILE, trained_model
from trims_core.training import launch
from trims_core.training.engine import Moments
from trims_core.training.saving import read_moments, write_moments

MODEL = "rl-s0"


def raw(world: RolloutWorld, rounds: int, store: str = "store", **variant: Any) -> dict[str, Any]:
    base = world.raw(store)
    del base["rollouts"]
    rollouts = {"samples": 2, "gen_length": 6, "block_length": 6, "grader": f"{OWN}:even"}
    rollouts |= {"sampling": {"temperature": 1.0}, **variant.pop("rollouts", {})}
    settings = {"method": "cj_grpo", "rounds": rounds, "prompts": 3, "inner_steps": 2}
    base["train"] = {
        "variants": {"rl": {**settings, **variant, "rollouts": rollouts}},
        "batch_size": 6,
        "micro_batch_size": 3,
        "lr": 1e-2,
        "lora": {"r": 2, "alpha": 4, "dropout": 0.0},
    }
    return base


def made(config: TrimsConfig, last: str) -> dict[str, Result]:
    """Node → result, up to the last one."""
    store, done = Store(config.store), {}
    for node in build_graph(config):
        if node.stage in ("sweep", "report"):
            continue
        done[node.id] = run_node(store, config, node, {r: done[p].artifact for r, p in node.parents.items()})
        if node.id == last:
            break
    return done


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RolloutWorld:
    def here(spec: Any, *_: Any) -> None:
        train_here(spec.model_copy(update={"engine": "plain"}))

    monkeypatch.setattr(launch, "run_training", here)
    return RolloutWorld(tmp_path)


def test_a_round_is_rollouts_of_the_last_student_their_rewards_and_a_training(world: RolloutWorld) -> None:
    graph = {node.id: dict(node.parents) for node in build_graph(parse_config(raw(world, 3)))}
    assert graph[f"rollouts/{MODEL}-r0"] == {"tokens": "tokens"}
    assert graph[f"rollouts/{MODEL}-r2"] == {"tokens": "tokens", "train": f"train/{MODEL}-r1"}
    assert graph[f"grades/{MODEL}-r1"] == {"corpus": "corpus", "rollouts": f"rollouts/{MODEL}-r1"}
    assert graph[f"train/{MODEL}"] == {
        "tokens": "tokens",
        "rollouts": f"rollouts/{MODEL}-r2",
        "grades": f"grades/{MODEL}-r2",
        "train": f"train/{MODEL}-r1",
    }
    assert f"train/{MODEL}-r2" not in graph and graph[f"sweep/{MODEL}"] == {"train": f"train/{MODEL}"}


def test_more_rounds_continue_and_a_finished_run_is_there(world: RolloutWorld) -> None:
    two = made(parse_config(raw(world, 2)), f"train/{MODEL}")
    assert two[f"train/{MODEL}"].how == "made"
    again = made(parse_config(raw(world, 2)), f"train/{MODEL}")
    assert all(result.how == "cached" for result in again.values())
    three = made(parse_config(raw(world, 3)), f"train/{MODEL}")
    assert [name for name, result in three.items() if result.how == "made"] == [
        f"rollouts/{MODEL}-r2",
        f"grades/{MODEL}-r2",
        f"train/{MODEL}",
    ]
    assert three[f"train/{MODEL}-r1"].artifact.fingerprint == two[f"train/{MODEL}"].artifact.fingerprint
    # a round answers other prompts than the one before, with the student that this one trained
    answered = [
        {
            row["id"]
            for path in three[f"rollouts/{MODEL}-r{n}"].artifact.files("rollout-", ".parquet")
            for row in read_table(path, ROLLOUTS).to_pylist()
        }
        for n in range(2)
    ]
    assert not answered[0] & answered[1] and all(len(ids) == 3 for ids in answered)
    digests = [
        trained_model(three[node].artifact).digest for node in (f"train/{MODEL}-r0", f"train/{MODEL}-r1")
    ]
    assert digests[0] != digests[1]
    # Adam's moments go on
    moments = [
        read_moments(three[node].artifact.file(f"adapter/{MOMENTS_FILE}"))
        for node in (f"train/{MODEL}-r0", f"train/{MODEL}-r1")
    ]
    assert [one.n_updates for one in moments] == [2, 4]
    measures = three[f"train/{MODEL}"].artifact.info["measures"]
    assert set(measures) == {"kl", "entropy", "clip_share", "flat_share"} and measures["kl"] > 0


def test_old_probabilities_are_those_of_the_student_that_answered(world: RolloutWorld) -> None:
    """At a round's first step the student is the one that made the rollouts: all ratios are 1, so nothing is
    clipped however narrow the clip, and without a reference the loss is −mean of the advantages, 0."""
    config = parse_config(raw(world, 2, inner_steps=1, kl=0.0, clip=0.0001))
    done = made(config, f"train/{MODEL}")
    for node in (f"train/{MODEL}-r0", f"train/{MODEL}"):
        info = done[node].artifact.info
        assert info["measures"]["clip_share"] == 0.0
        assert info["final_train_loss"] == pytest.approx(0.0, abs=1e-5)


def test_equal_seeds_give_equal_rounds_and_another_seed_other_ones(world: RolloutWorld) -> None:
    digests = []
    for store, seeds in (("a", [0]), ("b", [0]), ("c", [1])):
        settings = raw(world, 1, store)
        settings["train"]["seeds"] = seeds
        done = made(parse_config(settings), f"train/rl-s{seeds[0]}")
        digests.append([result.artifact.content_digest for result in done.values()][-3:])
    assert digests[0] == digests[1]
    assert all(a != b for a, b in zip(digests[0], digests[2], strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompts": 4}, r"prompts 4 × rollouts.samples 2 is not a multiple"),
        ({"certainty": 1.0}, r"certainty 1 with method cj_grpo"),
        ({"end_weight": 0.5}, r"end_weight with method cj_grpo"),
        ({"rollouts": {"threshold": 0.9}}, r"rollouts.rule threshold: how many forwards .* expected steps, "),
        ({"rollouts": {"samples": 1}}, r"rollouts.samples 1: answers to a prompt are compared"),
        ({"rollouts": {"cache": "dual"}}, r"rollouts.cache dual: .* expected none"),
        ({"rollouts": {"limit": 3}}, r"rollouts.limit: rounds have none"),
        ({"rollouts": {"retry_temperatures": [0.5]}}, r"rollouts.retry_temperatures and"),
        ({"rollouts": {"sampling": {"temperature": 1.0, "top_p": 0.9}}}, r"expected a temperature alone"),
    ],
)
def test_what_has_no_rounds_is_refused(world: RolloutWorld, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(raw(world, 2, **change))


def test_without_an_adapter_there_is_no_reference(world: RolloutWorld) -> None:
    settings = raw(world, 2)
    settings["train"]["lora"] = None
    with pytest.raises(ConfigError, match=r"lora: null with variants.rl \(method cj_grpo\)"):
        parse_config(settings)


def rows_of(number: int, count: int, shards: tuple[int, ...] = (5, 4, 2)) -> list[list[int]]:
    wanted = RoundPrompts(seed=3, round=number, count=count)
    return chosen_rows(shards, RolloutsSettings.model_construct(prompts=wanted, limit=None))


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    for count in (1, 3, 4, 11):
        seen: list[tuple[int, int]] = []
        for number in range(-(-11 // count)):
            found = rows_of(number, count)
            assert sum(map(len, found)) == count and all(rows == sorted(set(rows)) for rows in found)
            seen += [(shard, row) for shard, rows in enumerate(found) for row in rows]
        assert len(set(seen)) == 11
    assert rows_of(0, 99) == [list(range(5)), list(range(4)), list(range(2))]
    assert rows_of(0, 3) != rows_of(11, 3) or rows_of(1, 3) != rows_of(12, 3)


def test_two_rounds_that_carry_the_optimizer_are_one_that_is_as_long(tmp_path: Path) -> None:
    """On the same rollouts: Adam goes on as if nothing had been in between."""
    whole = train_here(round_spec(tmp_path / "whole"))
    halves = {}
    for carried in (True, False):
        folder = tmp_path / f"carried-{carried}"
        variant = round_variant(inner_steps=2)
        first = train_here(round_spec(folder / "first", variant=variant))
        second = round_spec(folder / "second", variant=variant, seed=1)
        given = second.train.model_copy(update={"init_adapter": str(first.adapter)})
        moments = first.adapter / MOMENTS_FILE if carried else None
        halves[carried] = train_here(second.model_copy(update={"train": given, "moments": moments}))
    wanted = load_file(whole.adapter / "adapter_model.safetensors")
    for carried, spec in halves.items():
        found = load_file(spec.adapter / "adapter_model.safetensors")
        assert carried == all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)


def test_moments_of_other_weights_are_refused(tmp_path: Path) -> None:
    first = train_here(round_spec(tmp_path / "first"))
    moments = read_moments(first.adapter / MOMENTS_FILE)
    fewer = {key: dict(list(named.items())[1:]) for key, named in moments.of.items()}
    write_moments(Moments(moments.n_updates, fewer), first.adapter / MOMENTS_FILE)
    second = round_spec(tmp_path / "second").model_copy(update={"moments": first.adapter / MOMENTS_FILE})
    with pytest.raises(
        CheckpointError, match=r"exp_avg are of \d+ weights and \d+ are trained; they differ in 1"
    ):
        train_here(second)


def test_a_round_that_is_stopped_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = train_here(round_spec(tmp_path / "whole"))
    spec = round_spec(tmp_path / "stopped")
    spec.paths.stop.touch()
    with pytest.raises(InterruptedRunError):
        train_here(spec)
    spec.paths.stop.unlink()
    train_here(spec)
    for name in ("adapter_model.safetensors", MOMENTS_FILE):
        assert (spec.adapter / name).read_bytes() == (whole.adapter / name).read_bytes()


def test_two_ranks_under_deepspeed_train_what_one_process_does_and_carry_on(tmp_path: Path) -> None:
    plain = train_here(round_spec(tmp_path / "plain"))
    changes = {**write_round(tmp_path / "round"), "variant": round_variant()}
    train = {"save_steps": 4, "lora": LoraSettings(r=4, alpha=8, dropout=0.0)}
    spec, _ = deepspeed_run(tmp_path / "two", 2, spec_changes=changes, **train)
    assert same_curves(plain, spec, relative=1e-4, split=True)
    one, two = (read_moments(found.adapter / MOMENTS_FILE) for found in (plain, spec))
    for key, named in one.of.items():
        for name, tensor in named.items():
            torch.testing.assert_close(two.of[key][name], tensor, rtol=1e-3, atol=1e-7)
    # a further round, on two ranks and on one, from the same moments
    further = {**changes, "moments": spec.adapter / MOMENTS_FILE, "seed": 1}
    alone = round_spec(tmp_path / "further")
    given = alone.train.model_copy(update={"init_adapter": str(spec.adapter)})
    train_here(alone.model_copy(update={"train": given, "moments": further["moments"], "seed": 1}))
    together, _ = deepspeed_run(
        tmp_path / "together", 2, spec_changes=further, init_adapter=str(spec.adapter), **train
    )
    assert same_curves(alone, together, relative=1e-4, split=True)
    wanted = load_file(alone.adapter / "adapter_model.safetensors")
    found = load_file(together.adapter / "adapter_model.safetensors")
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
