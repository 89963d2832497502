"""A round of reinforcement as training finds it: tokens, rollouts and grades at random, and its spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fakes.training_student import EOS_ID, tiny_spec, tiny_train

from trims_core.config import LoraSettings
from trims_core.schema import ROLLOUT_GRADES, ROLLOUTS, TOKENS, write_table
from trims_core.token_digests import ids_digest
from trims_core.training.spec import TrainSpec
from trims_core.variants import CjGrpoVariant

N_PROMPTS, N_SAMPLES, N_CANVAS, N_FORWARDS = 4, 2, 6, 3


def round_variant(**changes: Any) -> CjGrpoVariant:
    """All rollouts of a round, in a few steps."""
    rollouts = {
        "samples": N_SAMPLES,
        "sampling": {"temperature": 1.0},
        "grader": "demo",
        "rule": "steps",
        "threshold": N_FORWARDS,
        "gen_length": N_CANVAS,
        "block_length": N_CANVAS,
    }
    settings = {"prompts": N_PROMPTS, "inner_steps": 4, **changes}
    return CjGrpoVariant(rollouts=rollouts, **settings)


def write_round(folder: Path) -> dict[str, Any]:
    """The tables; gives back the fields of a spec that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    tokens: dict[str, list[Any]] = {name: [] for name in TOKENS.schema.names}
    rollouts: dict[str, list[Any]] = {name: [] for name in ROLLOUTS.schema.names}
    grades: dict[str, list[Any]] = {name: [] for name in ROLLOUT_GRADES.schema.names}
    for prompt in range(N_PROMPTS):
        name, ids = f"p{prompt}", generator.integers(1, EOS_ID, 2 + prompt).tolist()
        tokens["id"].append(name)
        tokens["input_ids"].append([*ids, 1, EOS_ID])
        tokens["prompt_length"].append(len(ids))
        for number in range(N_SAMPLES):
            answer = generator.integers(1, EOS_ID, N_CANVAS).tolist()
            steps = generator.permutation(np.arange(N_CANVAS) % N_FORWARDS).tolist()
            row = {"id": name, "rollout": number, "prompt_digest": ids_digest(ids), "temperature": 1.0}
            row |= {"draw_seed": 0, "text": "", "finished": False, "n_tokens": N_CANVAS}
            row |= {"n_forwards": N_FORWARDS, "token_ids": answer, "reveal_step": steps}
            row["logprob"] = (-4 - generator.random(N_CANVAS)).tolist()
            grade = {"id": name, "rollout": number, "response_digest": ids_digest(answer), "grader": "demo"}
            grade |= {
                "verdict": "right",
                "reward": float(generator.random()),
                "extracted": None,
                "gold": None,
            }
            for table, found in ((rollouts, row), (grades, grade)):
                for column, value in found.items():
                    table[column].append(value)
    paths = [folder / f"{kind}.parquet" for kind in ("tokens", "rollouts", "grades")]
    write_table(paths[0], TOKENS, tokens)
    write_table(paths[1], ROLLOUTS, rollouts)
    write_table(paths[2], ROLLOUT_GRADES, grades)
    return {
        "shards": (paths[0],),
        "n_buckets": 0,
        "rollouts": (paths[1],),
        "rollout_grades": (paths[2],),
        "answers": "all",
        "keeps_moments": True,
    }


def round_spec(folder: Path, **changes: Any) -> TrainSpec:
    """A round without dropout in one process, saved after every step."""
    variant = changes.pop("variant", round_variant())
    train = tiny_train(save_steps=1, lora=LoraSettings(r=4, alpha=8, dropout=0.0))
    return tiny_spec(folder, train=train, variant=variant, **write_round(folder / "round"), **changes)
