"""A small pipeline for tests: the real graph and store, stages that write tiny tables.

Every stage writes `units` Parquet shards derived from its parents' content, so that a change anywhere shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.schema import CORPUS, REJECTS, SCORES, write_table
from trims_core.settings import parse_config
from trims_core.stage import Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey

N_SHARDS = 3
ROWS = 4
calls: list[str] = []
"""`<node>:<unit>` of every unit that was really worked on in this process."""


def raw_config(root: Path) -> dict[str, object]:
    """Settings of the small pipeline, with its input file and store under `root`."""
    source = root / "source.jsonl"
    if not source.exists():
        source.write_text("".join(json.dumps({"id": f"a{i}"}) + "\n" for i in range(N_SHARDS * ROWS)))
    return {
        "name": "tiny",
        "store": str(root / "store"),
        "corpus": {"path": str(source), "rows_per_shard": ROWS},
        "scores": {"model": "none", "teacher": "fake.module:Teacher"},
        "student": {"model": "none"},
        "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
    }


def tiny_config(root: Path, **sections: Mapping[str, object]) -> TrimsConfig:
    """The small pipeline's settings with some fields changed: `tiny_config(p, buckets={"k": 4})`."""
    raw = raw_config(root)
    for name, fields in sections.items():
        raw[name] = {**raw.get(name, {}), **fields}  # type: ignore[dict-item]
    return parse_config(raw)


def _corpus_key(
    config: TrimsConfig, node: Node, parents: Mapping[str, Artifact], digests: Digests
) -> StageKey:
    source = {"source": digests.dataset(config.corpus.path)}
    return stage_key("corpus", 1, config.corpus.result_fields(), parents, source)


def _corpus(work: Work) -> Outcome:
    (source,) = work.config.corpus.path or ()
    ids = [json.loads(line)["id"] for line in Path(source).read_text().splitlines()]
    for start in range(0, len(ids), ROWS):
        unit = f"corpus-{start // ROWS:05d}"
        if work.staging.is_done(unit):
            continue
        calls.append(f"{work.node.id}:{unit}")
        here = ids[start : start + ROWS]
        columns = {
            "id": here,
            "messages": [[{"role": "user", "content": name}] for name in here],
            "completion": [f"answer {name}" for name in here],
            "source": [f"source:{start + i}" for i in range(len(here))],
        }
        name = f"{unit}.parquet"
        rows = write_table(work.staging.path / name, CORPUS, columns)
        work.staging.record(unit, {name: rows}, {"first": here[0]})
        work.progress(start, len(ids), "rows")
    return Outcome({"n_in": len(ids), "n_out": len(ids)}, {"source": "fake"}, "A fake corpus.")


def _scores_key(
    config: TrimsConfig, node: Node, parents: Mapping[str, Artifact], digests: Digests
) -> StageKey:
    return stage_key("scores", 1, config.scores.result_fields(), parents)


def _scores(work: Work) -> Outcome:
    """Scores every id; ids that contain `bad` are rejected."""
    corpus = work.parents["corpus"]
    bad: list[str] = []
    n_in = n_out = 0
    for number, shard in enumerate(corpus.files("corpus-", ".parquet")):
        import pyarrow.parquet as pq

        unit, name = f"scores-{number:05d}", f"scores-{number:05d}.parquet"
        ids = pq.read_table(shard, columns=["id"])["id"].to_pylist()
        bad += [id_ for id_ in ids if "bad" in id_]
        good = [id_ for id_ in ids if "bad" not in id_]
        n_in, n_out = n_in + len(ids), n_out + len(good)
        if work.staging.is_done(unit):
            continue
        fault_point("fake.before_shard")
        calls.append(f"{work.node.id}:{unit}")
        columns = {
            "id": good,
            "token_ids": [[1, 2] for _ in good],
            "byte_end": [[1, 2] for _ in good],
            "nll_nats": [[0.5, 1.5] for _ in good],
            "entropy_nats": [None for _ in good],
        }
        rows = write_table(work.staging.path / name, SCORES, columns)
        fault_point("fake.before_record")
        work.staging.record(unit, {name: rows})
        work.progress(number, 0, "shards")
    rejects = {"id": bad, "reason": ["bad"] * len(bad), "detail": [""] * len(bad)}
    write_table(work.staging.path / "rejects-00000.parquet", REJECTS, rejects)
    work.staging.record("rejects", {"rejects-00000.parquet": len(bad)})
    return Outcome({"n_in": n_in, "n_out": n_out, "n_rejected": len(bad)}, {"teacher": "fake"})


def _other_key(
    config: TrimsConfig, node: Node, parents: Mapping[str, Artifact], digests: Digests
) -> StageKey:
    fields = getattr(config, node.stage).result_fields()
    return stage_key(node.stage, 1, {**fields, "node": node.params}, parents)


def _other(work: Work) -> Outcome:
    """Any other stage: one JSON file naming the settings and the parents' contents."""
    calls.append(f"{work.node.id}:result")
    about = {
        "node": work.node.id,
        "settings": work.staging.key.config,
        "parents": {role: artifact.content_digest for role, artifact in work.parents.items()},
    }
    (work.staging.path / "result.json").write_text(json.dumps(about, sort_keys=True))
    work.staging.record("result", {"result.json": None})
    return Outcome({"n_in": 1, "n_out": 1}, {"node": work.node.id})


SPECS: Mapping[str, StageSpec] = {
    "corpus": StageSpec("corpus", 1, _corpus_key, _corpus),
    "scores": StageSpec("scores", 1, _scores_key, _scores),
    **{stage: StageSpec(stage, 1, _other_key, _other) for stage in ("buckets", "train", "sweep", "report")},
}
