"""Artifacts as version 0.1 left them: one folder per stage and model, files under their own names, no units.

`tests/store/test_old.py` holds this writer to the bytes that version 0.1 itself wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from fakes.report_world import ReportWorld, Rows

from trims_core.config import TrimsConfig
from trims_core.fingerprint import canonical_json, sha256_json
from trims_core.schema import CORPUS, GRADED_SAMPLES, Table, read_table, write_table
from trims_core.store import Artifact, Store

CORPUS_01 = Table(
    "corpus",
    CORPUS.schema,
    {"completion": "NFC-normalised, stripped", "source": "file:line or file:row of the input"},
)
_UNKNOWN_THEN = ("pads", "pads_rho", "pads_p_high", "end_tokens", "end_weight", "hide_end_of_turn")


def write_old(root: Path, node: str, files: Mapping[str, Rows | str | bytes], **said: Any) -> Path:
    """An artifact of a node in the store at `root`; gives back its folder.

    Args:
        said: fields of the manifest; parents as role → folder, or as the manifest has them.
    """
    stage = node.partition("/")[0]
    body: dict[str, Any] = {
        "stage": stage,
        "node": node,
        "version": 1,
        "config": {},
        "full_config": {},
        "parents": {},
        "inputs": {},
        "versions": {},
        "seed": None,
        "counts": {},
        "info": {},
        "seconds": 0.0,
        "created_at": "2026-01-01T00:00:00.000000+00:00",
        "schema_version": 1,
        **said,
    }
    body["parents"] = {
        role: _parent_ref(one) if isinstance(one, Path) else one for role, one in body["parents"].items()
    }
    key = {name: body[name] for name in ("stage", "version", "config", "inputs", "schema_version")}
    contents = {role: one["content_digest"] for role, one in body["parents"].items()}
    body["fingerprint"] = sha256_json({**key, "parents": contents})
    folder = root / stage / body["fingerprint"]
    folder.mkdir(parents=True, exist_ok=True)
    body["files"] = [_written(folder, name, what) for name, what in files.items()]
    body["manifest_version"] = 1
    body["content_digest"] = sha256_json(sorted(body["files"], key=lambda entry: entry["name"]))
    body["manifest_digest"] = sha256_json(body)
    text = json.dumps(json.loads(canonical_json(body)), indent=1, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    (folder / "card.md").write_text(f"# {node}\n")
    return folder


def _parent_ref(folder: Path) -> dict[str, str]:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return {name: manifest[name] for name in ("stage", "fingerprint", "content_digest")}


def _written(folder: Path, name: str, what: Rows | str | bytes) -> dict[str, Any]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(what, Rows):
        write_table(path, what.table, what.columns)
    else:
        path.write_bytes(what.encode() if isinstance(what, str) else what)
    data = path.read_bytes()
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return {
        "name": name,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "rows": rows,
    }


def as_01(config: TrimsConfig) -> dict[str, Any]:
    """A config as version 0.1 dumped it: without what came later, with what went."""
    dumped = config.model_dump(mode="json")
    dumped["train"] = {name: value for name, value in dumped["train"].items() if name not in _UNKNOWN_THEN}
    dumped["train"]["supervise_padding"] = True
    return dumped


def old_run(config: TrimsConfig, **said: Any) -> dict[str, Path]:
    """Folders of a whole run of version 0.1 of small text files, by node, in the config's store.

    Args:
        said: fields of every manifest.
    """
    root, about = Path(config.store), {"full_config": as_01(config), **said}
    columns = {"id": ["a", "b"], "messages": [[], []], "completion": ["x", "y"], "source": ["f:1", "f:2"]}
    made = {"corpus": write_old(root, "corpus", {"corpus-00000.parquet": Rows(CORPUS_01, columns)}, **about)}
    made["scores"] = write_old(root, "scores", {"s.txt": "s"}, parents={"corpus": made["corpus"]}, **about)
    above = {role: made[role] for role in ("corpus", "scores")}
    made["buckets"] = write_old(root, "buckets", {"b.txt": "b"}, parents=above, **about)
    models = [f"{variant}-s{seed}" for variant in config.train.variants for seed in config.train.seeds]
    for model in models:
        names = ("adapter_config.json", "adapter_model.safetensors", "README.md")
        adapter = {f"adapter/{name}": f"old {model} {name}" for name in names}
        made[f"train/{model}"] = write_old(
            root,
            f"train/{model}",
            {**adapter, "metrics.jsonl": ""},
            config={"model": model},
            parents={"buckets": made["buckets"]},
            counts={"n_in": 2},
            **about,
        )
    for model in ("untuned", *models):
        parents = {"train": made[f"train/{model}"]} if model in models else {}
        made[f"sweep/{model}"] = write_old(
            root,
            f"sweep/{model}",
            {"cells.json": "[]"},
            config={"model": model},
            parents=parents,
            **about,
        )
    page = {"index.html": "<html>old</html>"}
    made["report"] = write_old(root, "report", page, parents=dict(made), **about)
    return made


def old_world(world: ReportWorld) -> dict[str, Artifact]:
    """A made-up run as version 0.1 would have left it, opened: the same rows and numbers, by role."""
    new, root = world.parents(), world.root / "old"
    full = as_01(world.config())
    made: dict[str, Path] = {}

    def write(node: str, files: Mapping[str, Rows | str | bytes], **said: Any) -> None:
        parents = {role: made[role] for role in said.pop("made_from", ())}
        manifest = new[node].manifest
        said = {"config": {"node": node}, "counts": manifest.counts, "info": manifest.info, **said}
        made[node] = write_old(root, node, files, parents=parents, full_config=full, **said)

    def shards(stage: str) -> dict[str, bytes]:
        files = new[stage].files(suffix=f"/{stage}.parquet")
        return {f"{stage}-{number:05d}.parquet": path.read_bytes() for number, path in enumerate(files)}

    corpus = [read_table(path, CORPUS) for path in new["corpus"].files(suffix="/corpus.parquet")]
    tables = {f"corpus-{number:05d}.parquet": Rows(CORPUS_01, rows) for number, rows in enumerate(corpus)}
    write("corpus", tables)
    write("scores", {"scores.txt": "scores"}, made_from=["corpus"])
    tokens = {name: new["buckets"].file(name).read_bytes() for name in ("edges.json", "histogram.json")}
    write("buckets", {**shards("buckets"), **tokens}, made_from=["corpus", "scores"])
    for node, artifact in new.items():
        stage, _, model = node.partition("/")
        if stage == "train":
            metrics = artifact.file("adapter/metrics.jsonl").read_bytes()
            files = {"metrics.jsonl": metrics, "adapter/adapter_config.json": b"{}"}
            write(node, files, made_from=["buckets"], seed=artifact.manifest.seed)
        elif stage == "sweep":
            write(node, _graded(model, artifact, new[f"grades/{model}"]), version=2)
    store = Store(root)
    return {node: store.open(folder) for node, folder in made.items()}


_NEW: Final = ("units", "batch_sizes", "workers", "grader", "graders")
"""What lines of cells.json did not have."""


def _graded(model: str, sweep: Artifact, grades: Artifact) -> dict[str, Rows | str | bytes]:
    """The files of a sweep that graded what it decoded: a table per cell, and cells.json."""
    variant, _, seed = model.rpartition("-s") if model != "untuned" else (None, "", None)
    identity = {"model": model, "variant": variant, "seed": None if seed is None else int(seed)}
    files: dict[str, Rows | str | bytes] = {}
    lines = []
    for row in json.loads(grades.file("cells.json").read_bytes()):
        rows = _joined([sweep.file(f"{unit}/samples.parquet") for unit in row["units"]])
        graded = _joined([grades.file(f"{unit}/words/grades.parquet") for unit in row["units"]])
        n = len(rows["sample_id"])
        rows |= {name: [value] * n for name, value in {**identity, "task": row["task"]}.items()}
        rows |= {"gold": graded["gold"], "answer": graded["extracted"], "seconds": [0.1] * n}
        rows["correct"] = [verdict == "right" for verdict in graded["verdict"]]
        point = "one" if row["threshold"] is None else f"{row['threshold']:.10g}"
        cache = "" if row["cache"] == "none" else f"-{row['cache']}"
        files[f"cells/{row['task']}-t{point}{cache}.parquet"] = Rows(GRADED_SAMPLES, rows)
        line = {name: value for name, value in row.items() if name not in _NEW}
        lines.append({**identity, **line, "batch_size": row["batch_sizes"][0], "workers": row["workers"][0]})
    return {**files, "cells.json": json.dumps(lines, indent=1)}


def _joined(paths: list[Path]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pa.concat_tables([pq.read_table(path) for path in paths]).to_pydict()
    return columns
