"""What a round of reinforcement costs beside decoding and training, and its peak memory: one JSON line.

usage: python bench/rounds.py [CONFIG] [--rounds N] [--canvases N] [--quick]
The claims: a round's overhead (starting processes, files, grading, reading the weights again) is at most 10 %
of its time, and going through the canvases of N forwards takes at most 10 % more memory than going through
one. Rounds of CONFIG's first cj_grpo variant are made one after the other in a new store, as `trims run`
makes them; decoding's and training's own seconds are those that their artifacts tell; data are made before.
Memory: peak beyond the loaded student, each number of canvases in its own process; baseline: one canvas.
--quick: memory alone, of a small student, not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import methods
from train_step import Shape, new_student

OVERHEAD_LIMIT = 0.1
MEMORY_LIMIT = 1.1
SHAPE = Shape(batch=8, length=256, vocab=32_768, layers=4, hidden=256)
QUICK = Shape(batch=2, length=32, vocab=512, layers=1, hidden=64)


def main() -> int:
    """0 if the claims hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/demo-rl.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--canvases", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="a small student's memory: does it run?")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = QUICK if options.quick else SHAPE
    if options.child:
        print(_grown_mib(shape, options.child))
        return 0
    one, many = (_child(options, n) for n in (1, options.canvases))
    found = {
        "bench": "rounds",
        "canvases": options.canvases,
        "peak_mib": round(many, 1),
        "peak_mib_one_canvas": round(one, 1),
        "memory_ratio": round(many / one, 3),
        "memory_limit": MEMORY_LIMIT,
    }
    if options.quick:
        print(json.dumps(found))
        return 0
    shares = _overheads(options.config, options.rounds)
    found |= {
        "config": str(options.config),
        "n": len(shares),
        "overhead": round(statistics.median(shares), 4),
        "overhead_range": [round(min(shares), 4), round(max(shares), 4)],
        "overhead_limit": OVERHEAD_LIMIT,
    }
    print(json.dumps(found))
    return 0 if many / one <= MEMORY_LIMIT and found["overhead"] <= OVERHEAD_LIMIT else 1


def _overheads(config: Path, n_rounds: int) -> list[float]:
    """Of each round the share of its time that is neither decoding nor training."""
    from trims_core.settings import load_config
    from trims_core.variants import CjGrpoVariant

    variants = load_config(config, []).train.variants
    name = next(name for name, one in variants.items() if isinstance(one, CjGrpoVariant))
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TRIMS_STORE": str(Path(folder) / "store")}
        _run(config, "tokens", 1, name, environment)
        for number in range(1, n_rounds + 1):
            started = time.perf_counter()
            _run(config, f"train/{name}-s0", number, name, environment)
            shares.append(1 - _own_seconds(config, name, number, folder) / (time.perf_counter() - started))
    return shares


def _run(config: Path, until: str, rounds: int, name: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flows.cli", "run", str(config), "--until", until]
    settings = ["--set", f"train.variants.{name}.rounds={rounds}", "--set", "train.seeds=[0]"]
    subprocess.run([*command, *settings], check=True, capture_output=True, env=environment)


def _own_seconds(config: Path, name: str, number: int, folder: str) -> float:
    """Decoding's and training's seconds of the last round."""
    from trims_core.plan import plan
    from trims_core.settings import load_config
    from trims_core.store import Store

    settings = load_config(config, [f"train.variants.{name}.rounds={number}", "train.seeds=[0]"])
    rows = {row.node.id: row.artifact for row in plan(Store(Path(folder) / "store"), settings, None)}
    rollouts, train = rows[f"rollouts/{name}-s0-r{number - 1}"], rows[f"train/{name}-s0"]
    assert rollouts is not None
    assert train is not None
    return float(rollouts.info["decoding_seconds"]) + float(train.info["train_seconds"])


def _child(options: argparse.Namespace, canvases: int) -> float:
    command = [sys.executable, __file__, "--child", str(canvases), *(["--quick"] if options.quick else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _grown_mib(shape: Shape, canvases: int) -> float:
    """Peak memory of one batch's losses, all canvases gone through, beyond the loaded student."""
    import torch

    from trims_core.training.advantages import Judged
    from trims_core.training.methods.cj_grpo import CjGrpo
    from trims_core.training.student import Denoiser, TrainedStudent
    from trims_core.variants import CjGrpoVariant

    model, family = new_student(shape)
    n_answer = shape.length // 2
    rollouts = {"rule": "steps", "threshold": canvases, "gen_length": n_answer, "block_length": n_answer}
    judged_by = {"samples": 2, "sampling": {"temperature": 1.0}, "grader": "demo"}
    variant = CjGrpoVariant(rollouts={**rollouts, **judged_by})
    lengths = methods.Lengths(shape.batch, shape.length - n_answer, (n_answer, n_answer), 0)
    made = methods.sequences(lengths, shape.vocab, 0)
    made.reveal_BL[made.content_BL] %= canvases
    judged = {name: Judged(row - 1.5, False, torch.zeros(n_answer)) for row, name in enumerate(made.ids)}
    method = CjGrpo(variant, methods.context(variant, family), judged)
    batch = method.batch(made)
    denoiser = Denoiser(model, family)
    student, before = TrainedStudent(denoiser, denoiser), _peak_mib()
    for loss in method.losses(student, batch, methods.totals(batch)):
        loss.total.backward()
    return _peak_mib() - before


def _peak_mib() -> float:
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found) / 1024


if __name__ == "__main__":
    sys.exit(main())
