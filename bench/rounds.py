"""What a round of reinforcement costs beside decoding and training, and its peak memory: one JSON line.

usage: python bench/rounds.py [CONFIG] [--rounds N] [--canvases N] [--quick]
The claims: a round's overhead (starting processes, files, grading, reading the weights again) is at most 10 %
of its time, and going through all canvases of answers of N forwards takes at most 10 % more memory than going
through the first one alone. `trims run` makes N + 1 rounds of CONFIG's first cj_grpo variant in a new store;
a round lasts from one training's artifact to the next one's; decoding's and training's own seconds are those
that these tell. Memory: peak beyond the loaded student of the same answers, all canvases and the first, each
in its own process, by turns, median of five. glibc's threshold of mmap is fixed there: left to itself it
rises with the first block freed, and the heap keeps what chance leaves between blocks.
--quick: memory alone, of a small student, not judged.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import methods
from train_step import Shape, new_student

if TYPE_CHECKING:
    from trims_core.store import Artifact

OVERHEAD_LIMIT = 0.1
MEMORY_LIMIT = 1.1
SHAPE = Shape(batch=8, length=256, vocab=32_768, layers=4, hidden=256)
MEMORY_RUNS = 5
MMAP_THRESHOLD_BYTES = 2**20
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
        print(_grown_mib(shape, options.canvases, options.child))
        return 0
    pairs = [(_child(options, 1), _child(options, options.canvases)) for _ in range(MEMORY_RUNS)]
    ones, manys = ([pair[which] for pair in pairs] for which in (0, 1))
    one, many = statistics.median(ones), statistics.median(manys)
    found = {
        "bench": "rounds",
        "canvases": options.canvases,
        "memory_n": MEMORY_RUNS,
        "peak_mib": round(many, 1),
        "peak_mib_range": [round(min(manys), 1), round(max(manys), 1)],
        "peak_mib_one_canvas": round(one, 1),
        "peak_mib_one_canvas_range": [round(min(ones), 1), round(max(ones), 1)],
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
    """Of each round but the first, which also starts the orchestration, the share of its time that is neither
    decoding nor training."""
    from trims_core.plan import plan
    from trims_core.settings import load_config
    from trims_core.store import Store
    from trims_core.variants import CjGrpoVariant

    variants = load_config(config, []).train.variants
    name = next(name for name, one in variants.items() if isinstance(one, CjGrpoVariant))
    settings = [f"train.variants.{name}.rounds={n_rounds + 1}", "train.seeds=[0]"]
    last = f"train/{name}-s0"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        command = [sys.executable, "-m", "flows.cli", "run", str(config), "--until", last]
        command += [word for setting in settings for word in ("--set", setting)]
        subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "TRIMS_STORE": str(store)}
        )
        made = {row.node.id: row.artifact for row in plan(Store(store), load_config(config, settings), None)}
        names = [f"{name}-s0-r{number}" for number in range(n_rounds + 1)]
        trained = [made[f"train/{one}"] for one in names[:-1]] + [made[last]]
        return [
            1 - _own_seconds(made[f"rollouts/{one}"], after) / _seconds_between(before, after)
            for one, before, after in zip(names[1:], trained, trained[1:], strict=False)
        ]


def _own_seconds(rollouts: Artifact | None, train: Artifact | None) -> float:
    """Decoding's and training's own."""
    assert rollouts is not None and train is not None
    return float(rollouts.info["decoding_seconds"]) + float(train.info["train_seconds"])


def _seconds_between(before: Artifact | None, after: Artifact | None) -> float:
    assert before is not None and after is not None
    first, last = (datetime.fromisoformat(one.manifest.created_at) for one in (before, after))
    return (last - first).total_seconds()


def _child(options: argparse.Namespace, gone_through: int) -> float:
    command = [sys.executable, __file__, "--child", str(gone_through), "--canvases", str(options.canvases)]
    command += ["--quick"] if options.quick else []
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD_BYTES)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def _grown_mib(shape: Shape, canvases: int, gone_through: int) -> float:
    """Peak memory beyond the loaded student of the losses of one batch's first ``gone_through`` canvases."""
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
    for loss in itertools.islice(method.losses(student, batch, methods.totals(batch)), gone_through):
        loss.total.backward()
    return _peak_mib() - before


def _peak_mib() -> float:
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found) / 1024


if __name__ == "__main__":
    sys.exit(main())
