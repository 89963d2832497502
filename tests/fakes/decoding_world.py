"""A sweep that takes a second: a random student, six problems, one task, two thresholds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from fakes.decoding_checkpoint import write_student

from trims_core.config import TrimsConfig
from trims_core.graph import build_graph, node_named
from trims_core.schema import SAMPLES, read_table
from trims_core.settings import load_config
from trims_core.stage import Outcome, StageSpec, Work, main, run_node
from trims_core.store import Artifact, Store, UnitRecord
from trims_core.sweep import stage as sweep_stage

N_PROBLEMS = 6
CHUNK = 4
"""Problems per unit in the tests that set it."""
CELLS = ("demo-tone", "demo-t0.9", "demo-t0.3")
NODE = "sweep/untuned"
GRADES_NODE = "grades/untuned"


def write_sweep_world(root: Path, *, raw: Mapping[str, Any] | None = None, **sweep: Any) -> Path:
    """Writes the student, the problems and the settings; gives back the settings' path.

    Args:
        raw: further sections of the settings.
        sweep: settings of the sweep.
    """
    write_student(root / "student")
    rows = [
        {"id": f"p{i}", "question": "How many?" + " Count." * i, "answer": f"The answer is {i}."}
        for i in range(N_PROBLEMS)
    ]
    (root / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": "tiny",
        "store": str(root / "store"),
        "corpus": {"path": str(root / "test.jsonl")},
        "scores": {"model": str(root / "student")},
        "student": {"model": str(root / "student"), "device": "cpu"},
        "sweep": {
            "tasks": {"demo": {"benchmark": "demo", "path": str(root / "test.jsonl")}},
            "thresholds": [0.9, 0.3],
            "gen_length": 16,
            "block_length": 8,
            "batch_size": 4,
            **sweep,
        },
        **(raw or {}),
    }
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def main_in_chunks(arguments: Sequence[str]) -> int:
    """The stage command, with CHUNK problems per unit."""
    sweep_stage.CHUNK = CHUNK
    return main(arguments)


def copied(swept: Path, root: Path) -> Path:
    """A world at another place, with the store of one that was swept."""
    write_sweep_world(root)
    shutil.copytree(swept / "store", root / "store")
    return root


def config_of(root: Path, *overrides: str) -> TrimsConfig:
    """The world's settings."""
    return load_config(root / "tiny.yaml", overrides, env={})


def sweep_artifact(root: Path) -> Artifact:
    """The one committed sweep."""
    (artifact,) = Store(root / "store").artifacts("sweep")
    return artifact


def samples_of(artifact: Artifact, cell: str) -> dict[str, list[Any]]:
    """The columns of a cell's samples, its chunks one behind the other."""
    tables = [read_table(path, SAMPLES) for path in artifact.files(f"{cell}/", "/samples.parquet")]
    return pa.concat_tables(tables).to_pydict()


def unit_bytes(root: Path, stage: str = "sweep") -> dict[str, bytes]:
    """Folder of each finished unit → its table's bytes."""
    return {
        path.parent.name: path.read_bytes()
        for path in (root / "store" / "units" / stage).glob("[0-9a-f]*/*.parquet")
        if path.name != "times.parquet"
    }


def timeless(artifact: Artifact) -> dict[str, Any]:
    """Everything a sweep found, times left out; confidences rounded as another batch may round them."""
    found: dict[str, Any] = {}
    rows = json.loads(artifact.file("cells.json").read_text())
    times = ("seconds", "tokens_per_second")
    found["cells"] = [{key: value for key, value in row.items() if key not in times} for row in rows]
    for cell in dict.fromkeys(unit.name.rpartition("/")[0] for unit in artifact.units):
        columns = samples_of(artifact, cell)
        for name in ("confidence", "entropy"):
            columns[name] = [
                [None if value is None else float(np.round(value, 3)) for value in row]
                for row in columns[name]
            ]
        found[cell] = columns
    return found


class Decoded:
    """Counts what is decoded while the test runs: prompts per call of the decoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from trims_core.decoding import runner

        self.calls: list[int] = []
        decode = runner.decode_parallel

        def counted(student: Any, prompts: Any, *more: Any) -> Any:
            self.calls.append(len(prompts))
            return decode(student, prompts, *more)

        monkeypatch.setattr(runner, "decode_parallel", counted)

    def taken(self) -> list[int]:
        """Sizes of the batches of prompts since the last question."""
        calls, self.calls = self.calls, []
        return calls


def _trained_finish(work: Work, _facts: None, _done: Mapping[str, UnitRecord]) -> Outcome:
    """A random adapter, or the checkpoint that it is merged into, and a model card."""
    from peft import LoraConfig, get_peft_model

    from trims_core.students import load_student, merge_adapter, save_adapter_official, save_official

    student = load_student(work.settings.model, device="cpu")
    targets = student.family.lora_targets("all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tuned = get_peft_model(student.model, LoraConfig(r=2, lora_alpha=8, target_modules=targets))
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    folder = work.folder / work.inputs["kind"]
    if folder.name == "adapter":
        save_adapter_official(tuned, folder)
    else:
        student.model = tuned
        merge_adapter(student)
        save_official(student.model, student.family.config, student.tokenizer, folder)
    (folder / "README.md").write_text(f"Made {CARD['text']}.")
    files = {f"{folder.name}/{path.name}": None for path in sorted(folder.iterdir())}
    aside = [] if folder.name == "adapter" else [f"{folder.name}/README.md"]
    return Outcome({}, seed=0, files=files, aside=aside)


CARD = {"text": "once", "kind": "adapter"}
"""What the model card says, and which it is of: an adapter or a checkpoint."""
TRAIN = StageSpec(
    "train",
    1,
    settings=lambda config, _node: config.student,
    inputs=lambda _settings, _digests: dict(CARD),
    units=lambda *_: (),
    maker=lambda *_: nullcontext(),  # type: ignore[arg-type, return-value]
    finish=_trained_finish,
)
"""A train stage that gives a random adapter, the same for every variant."""


def trained(config: TrimsConfig, variant: str = "trims") -> Artifact:
    """The random adapter as the artifact of a variant."""
    node = replace(node_named(build_graph(config), f"train/{variant}-s0"), parents={})
    return run_node(Store(config.store), config, node, {}, specs={"train": TRAIN}).artifact
