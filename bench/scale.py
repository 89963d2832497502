"""Memory and CPU seconds of the data stages at n and 10 n tokens: one JSON line.

usage: python bench/scale.py [--n N] [--folder FOLDER] [--quick]

A made-up corpus (sentences of the demo, about 200 completion tokens a row, Parquet) goes through corpus,
scores (beside a fake teacher that costs nearly nothing), aligned, buckets and drift, and its buckets become
training examples. Every stage runs in a process of its own, which first does the same on 40 rows, so that
libraries are loaded; its base is what is resident then, and what counts is the peak above it and the CPU
seconds. Drift compares the buckets with those of another metric.

Claims:
- corpus, scores, aligned, buckets, drift: the peak above the base grows by at most 20 % when the tokens are
  ten times as many (4 MiB more are noise of the allocator);
- ids: a corpus of ten times as many short rows takes at most 64 bytes per row more in its first reading,
  which checks that ids are unique (30,000 rows for --n 1e6);
- train: the mapped file, which all ranks of a host share, and what a rank that finds it holds besides,
  together at most 6 bytes per token (what the rank that wrote it keeps is told beside it);
- wide: 300 rows with a column of 2 MiB that nobody asked for stay below 64 MiB.

Exit code 1 where one does not hold. --quick: a hundredth of the tokens, and only the fields are the claim.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent
DATA_STAGES: Final = ("corpus", "scores", "aligned", "buckets", "drift", "train", "ids")
FLAT: Final = ("corpus", "scores", "aligned", "buckets", "drift")
WARM_ROWS: Final = 40
TOKENS_PER_ROW: Final = 200
WIDE_ROWS, WIDE_BYTES = 300, 2 << 20
BARS: Final = {
    "memory_growth": 1.2,
    "noise_mib": 4.0,
    "bytes_per_row": 64.0,
    "train_bytes_per_token": 6.0,
    "wide_mib": 64.0,
}


class FakeTeacher:
    """A value per token id, looked up: what the stage costs is what is left."""

    def __init__(self, _config: Any) -> None:
        import numpy as np

        self._np = np
        self._nats = (np.arange(1 << 16) * 2654435761 % 1000003) / 1e5

    def start(self, _max_tokens: int, _beat: Any) -> Any:
        """Nothing to load."""
        from trims_core.teacher.protocol import TeacherInfo

        return TeacherInfo("fake")

    def score(self, requests: Sequence[Any], _beat: Any) -> Iterator[Any]:
        """Difficulties that depend on the token and its place, and an entropy that nearly follows them."""
        from trims_core.teacher.protocol import Scored

        for request in requests:
            ids = self._np.array(request.target_ids)
            nll = self._nats[ids] + self._np.arange(len(ids)) * 1e-3
            entropy = 1.0 + 0.5 * nll + 1e-2 * (self._np.arange(len(ids)) % 7)
            yield Scored(request.id, nll.tolist(), entropy.tolist())

    def close(self) -> None:
        """Nothing is held."""


def write_corpus(path: Path, n_rows: int) -> None:
    """Questions and answers that are four of the demo's answers, in row groups of 1000."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = (PROJECT_ROOT / "data/demo/train.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [json.loads(line)["messages"] for line in lines]
    rng = np.random.default_rng(3)
    schema = pa.schema([("id", pa.string()), ("question", pa.string()), ("answer", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, 1000):
            picks = rng.integers(0, len(turns), (min(1000, n_rows - start), 5))
            columns = [
                [f"row-{start + row:09d}" for row in range(len(picks))],
                [turns[pick[0]][0]["content"] for pick in picks],
                [" ".join(turns[one][1]["content"] for one in pick[1:]) for pick in picks],
            ]
            writer.write_table(pa.table(columns, schema=schema))


def write_short_corpus(path: Path, n_rows: int) -> None:
    """Rows of one word, in row groups of 1000."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.string()), ("question", pa.string()), ("answer", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, 1000):
            ids = [f"row-{row:09d}" for row in range(start, min(start + 1000, n_rows))]
            writer.write_table(pa.table([ids, ids, ids], schema=schema))


def write_wide_corpus(path: Path, n_rows: int) -> None:
    """A corpus with a column of 2 MiB per row beside the text, all in one row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.array([bytes(WIDE_BYTES)] * n_rows, pa.large_binary())
    text = [f"answer {row}" for row in range(n_rows)]
    pq.write_table(pa.table({"question": text, "answer": text, "image": image}), path)


def settings(folder: Path, metric: str = "nll") -> Any:
    """The configuration of one world."""
    from trims_core.settings import parse_config

    return parse_config(
        {
            "name": "scale",
            "store": str(folder / "store"),
            "corpus": {
                "path": str(folder / "corpus.parquet"),
                "prompt_column": "question",
                "completion_column": "answer",
            },
            "scores": {
                "teacher": "scale:FakeTeacher",
                "model": str(PROJECT_ROOT / "data/demo/teacher"),
                "max_rejected_fraction": 1.0,
            },
            "buckets": {"k": 8, "metric": metric},
            "student": {"model": str(PROJECT_ROOT / "data/demo/student")},
            "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
        }
    )


def run_stage(stage: str, folder: Path) -> dict[str, Any]:
    """Makes one stage's artifact (its parents must be there); its counts."""
    if stage == "train":
        return hold_examples(folder)
    if stage == "ids":
        from trims_core.corpus.stage import begin
        from trims_core.stage import Work

        config = settings(folder).corpus
        return dict(begin(Work("corpus", config, {}, {}, lambda *_: None)).counts)
    if stage == "drift":
        from trims_core.drift import bucket_drift

        old, new = (_buckets(folder, metric) for metric in ("nll", "entropy"))
        drift = bucket_drift(old, new)
        return {"n_tokens": drift.n_tokens, "spearman": drift.spearman}
    return dict(make(folder, stage)[stage].artifact.manifest.counts)


def make(folder: Path, last: str, metric: str = "nll") -> dict[str, Any]:
    """Every stage up to `last`; those that are there are found."""
    from trims_core.graph import build_graph
    from trims_core.stage import run_node
    from trims_core.store import Store

    config = settings(folder, metric)
    store = Store(config.store)
    done: dict[str, Any] = {}
    for node in build_graph(config):
        parents = {role: done[parent].artifact for role, parent in node.parents.items()}
        done[node.id] = run_node(store, config, node, parents)
        if node.id == last:
            break
    return done


def _buckets(folder: Path, metric: str) -> list[Path]:
    files: list[Path] = make(folder, "buckets", metric)["buckets"].artifact.files("buckets-", ".parquet")
    return files


def hold_examples(folder: Path) -> dict[str, Any]:
    """What a rank holds once it has looked at every training example."""
    from trims_core.training.examples import load_examples
    from trims_core.training.sources import BucketShards

    shards = _buckets(folder, "nll")
    before = _status_mib("RssAnon")
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    examples = load_examples(BucketShards(shards, 8), "descending", 0, 4096, scratch)
    checked = 0
    for row in range(len(examples.ids)):
        checked += len(examples.ids[row]) + int(examples.input_ids[row].sum())
        checked += int(examples.buckets[row].sum())
    return {
        "n_rows": len(examples.ids),
        "n_tokens": int(examples.lengths.sum()),
        "private_bytes": (_status_mib("RssAnon") - before) * (1 << 20),
        "mapped_bytes": sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file()),
        "checked": checked,
    }


def child(stage: str, folder: Path) -> None:
    """Prints one stage's peak above its base and CPU seconds."""
    import gc

    import pyarrow as pa

    with tempfile.TemporaryDirectory(dir=folder.parent) as warm:
        write_corpus(Path(warm, "corpus.parquet"), WARM_ROWS)
        run_stage(stage, Path(warm))
    if stage in ("drift", "train"):
        _buckets(folder, "entropy")
    gc.collect()
    pa.default_memory_pool().release_unused()
    base = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, started = _cpu_seconds(), time.perf_counter()
    facts = run_stage(stage, folder)
    line = {
        **facts,
        "cpu_s": _cpu_seconds() - before,
        "wall_s": time.perf_counter() - started,
        "base_mib": base,
        "peak_mib": _status_mib("VmHWM") - base,
    }
    print(json.dumps(line))


def _cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _status_mib(name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def run_child(stage: str, folder: Path) -> dict[str, Any]:
    """What `child` printed in a new process."""
    command = [sys.executable, __file__, "--child", stage, "--folder", str(folder)]
    paths = os.pathsep.join(
        [str(PROJECT_ROOT), str(PROJECT_ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    if done.returncode:
        raise SystemExit(f"{stage} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    note = f"{stage} {folder.name}: {found['cpu_s']:.2f} CPU s, {found['peak_mib']:.1f} MiB above the base"
    print(note, file=sys.stderr, flush=True)
    return found


def measure(folder: Path, n_tokens: int, n_wide: int = WIDE_ROWS) -> dict[str, Any]:
    """All stages at n and 10 n tokens, and the wide corpus."""
    sizes = {"small": n_tokens // TOKENS_PER_ROW, "large": n_tokens // TOKENS_PER_ROW * 10}
    for name, n_rows in sizes.items():
        (folder / name).mkdir()
        write_corpus(folder / name / "corpus.parquet", n_rows)
    (folder / "wide").mkdir()
    write_wide_corpus(folder / "wide" / "corpus.parquet", n_wide)
    for name, n_rows in {"few": n_tokens * 3 // 100, "many": n_tokens * 3 // 10}.items():
        (folder / name).mkdir()
        write_short_corpus(folder / name / "corpus.parquet", n_rows)
    stages = [stage for stage in DATA_STAGES if stage != "ids"]
    runs = {stage: {size: run_child(stage, folder / size) for size in ("small", "large")} for stage in stages}
    found: dict[str, Any] = {"tokens": [runs["train"][size]["n_tokens"] for size in ("small", "large")]}
    found |= {stage: _summary(runs[stage], runs["buckets"]) for stage in stages}
    few, many = (run_child("ids", folder / name) for name in ("few", "many"))
    n_more = many["n_out"] - few["n_out"]
    per_row = round((many["peak_mib"] - few["peak_mib"]) * (1 << 20) / n_more, 1)
    found["ids"] = {"rows": [few["n_out"], many["n_out"]], "bytes_per_row": per_row}
    found["train"]["writer_private_bytes_per_token"] = _per_token(runs["train"]["large"], "private")
    held = run_child("train", folder / "large")  # a rank that finds the file
    for kind in ("private", "mapped"):
        found["train"][f"{kind}_bytes_per_token"] = _per_token(held, kind)
    found["drift"]["spearman"] = runs["drift"]["large"]["spearman"]
    found["wide"] = {"peak_mib": round(run_child("corpus", folder / "wide")["peak_mib"], 1)}
    return found


def _per_token(held: Mapping[str, Any], kind: str) -> float:
    return round(float(held[f"{kind}_bytes"] / held["n_tokens"]), 2)


def _summary(
    runs: Mapping[str, Mapping[str, Any]], tokens: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Per million student completion tokens, of the small and of the large run."""
    small, large = runs["small"]["peak_mib"], runs["large"]["peak_mib"]
    return {
        "peak_mib": [round(small, 1), round(large, 1)],
        "memory_growth": round(large / max(small, 1e-3), 3),
        "cpu_s_per_million_tokens": [
            round(runs[size]["cpu_s"] / tokens[size]["n_tokens"] * 1e6, 2) for size in ("small", "large")
        ],
    }


def broken_claims(found: Mapping[str, Any]) -> list[str]:
    """The claims that do not hold."""
    broken = [
        f"{stage}: memory grows"
        for stage in FLAT
        if found[stage]["peak_mib"][1]
        > BARS["memory_growth"] * found[stage]["peak_mib"][0] + BARS["noise_mib"]
    ]
    if found["ids"]["bytes_per_row"] > BARS["bytes_per_row"]:
        broken.append("ids: bytes per row")
    train = found["train"]
    if train["private_bytes_per_token"] + train["mapped_bytes_per_token"] > BARS["train_bytes_per_token"]:
        broken.append("train: bytes per token")
    if found["wide"]["peak_mib"] > BARS["wide_mib"]:
        broken.append("wide: an unused column was read")
    return broken


def main() -> int:
    """0 if the claims hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=float, default=1e6, help="completion tokens of the small corpus")
    parser.add_argument("--folder", type=Path, help="where the temporary data go (default: the system's)")
    parser.add_argument("--quick", action="store_true", help="a hundredth; only the fields are the claim")
    parser.add_argument("--child", choices=DATA_STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return 0
    n_tokens = int(options.n / 100 if options.quick else options.n)
    with tempfile.TemporaryDirectory(prefix="trims-scale-", dir=options.folder) as folder:
        found = measure(Path(folder), n_tokens, WIDE_ROWS // 10 if options.quick else WIDE_ROWS)
    broken = [] if options.quick else broken_claims(found)
    print(json.dumps({"bench": "scale", "n": n_tokens, "bars": BARS, **found, "broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
