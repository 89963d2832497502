"""The buckets stage: scores of the teacher's tokens become bucket ids of the student's tokens.

1. Each scores shard is aligned with the student's tokens (one unit of the journal per shard; the rows go to
   the scratch folder). Another K over the same inputs takes the aligned columns of the earlier artifact.
2. The plan: exact global quantiles of all difficulties, in constant memory (one unit; with histogram.json).
3. Each aligned shard gets its bucket ids and becomes buckets-<n>.parquet (one unit per shard).
4. edges.json, from what the units of step 3 noted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig
from trims_core.errors import CorruptShardError, InputError
from trims_core.fingerprint import Digests, sha256_file
from trims_core.graph import Node
from trims_core.schema import BUCKETS, write_table
from trims_core.stage import Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey, Store
from trims_core.store.durable import fsync_file

if TYPE_CHECKING:
    from trims_core.difficulty.buckets import BucketPlan
    from trims_core.difficulty.quantiles import Ticker
    from trims_core.rendering import Renderer

logger = logging.getLogger(__name__)

VERSION: Final = 1
_PLAN: Final = "plan"
_EDGES: Final = "edges"


def key(config: TrimsConfig, _node: Node, parents: Mapping[str, Artifact], digests: Digests) -> StageKey:
    """Buckets depend on their settings, corpus, scores, and the student's tokenizer (not its weights)."""
    student = {"student_tokenizer": digests.tokenizer(config.student.model, config.student.revision)}
    fields = config.buckets.result_fields()
    if config.student.family != "auto":  # else config.json decides, which the tokenizer's digest covers
        fields["family"] = config.student.family
    return stage_key("buckets", VERSION, fields, parents, student)


def produce(work: Work) -> Outcome:
    """Writes buckets-00000.parquet …, edges.json and histogram.json.

    Raises:
        ConfigError: the scores lack the metric.
        AlignmentError, NonFiniteScoreError, CorruptShardError: see `aligned.align_shard`.
        InputError: no completion token at all.
    """
    pairs = _shard_pairs(work)
    aligned = _reusable(work) or _align_all(work, pairs)
    plan = _plan(work, aligned)
    for number, path in enumerate(aligned):
        _write_bucket_shard(work, plan, number, path, len(aligned))
    edges = _write_edges(work, plan, len(aligned))
    n_rows = sum(int(work.staging.unit(_shard_name(n))["n_rows"]) for n in range(len(aligned)))
    counts = {"n_in": n_rows, "n_out": n_rows, "n_rejected": 0, "n_tokens": plan.n_tokens}
    info = {name: edges[name] for name in ("k", "metric", "n_tokens", "edges_nats", "bucket_sizes", "n_zero")}
    return Outcome(counts=counts, info=info, card=_card(edges))


SPEC: Final = StageSpec(name="buckets", version=VERSION, key=key, produce=produce)


@dataclass(frozen=True)
class _Pair:
    """A scores shard and the corpus shard it was made from."""

    scores: Path
    corpus: Path


def _shard_pairs(work: Work) -> list[_Pair]:
    """Scores and corpus shards with the same number; rows inside are joined by id."""
    scores, corpus = work.parents["scores"], work.parents["corpus"]
    corpus_of = {path.name.removeprefix("corpus-"): path for path in corpus.files("corpus-", ".parquet")}
    scores_of = {path.name.removeprefix("scores-"): path for path in scores.files("scores-", ".parquet")}
    if corpus_of.keys() != scores_of.keys():
        raise CorruptShardError(
            f"{scores.path} has {len(scores_of)} shards, {corpus.path} has {len(corpus_of)}; expected one"
            " scores shard per corpus shard. Score again with --refresh scores"
        )
    if not scores.rows("scores-"):
        raise InputError(f"{scores.path}: no scored example; expected at least one. See its rejects")
    return [_Pair(scores_of[name], corpus_of[name]) for name in sorted(scores_of)]


def _reusable(work: Work) -> list[Path]:
    """Shards of a buckets artifact that differs in K only; none when this artifact is being refreshed."""
    wanted = work.staging.key
    if work.staging.replaces is not None:
        return []
    store = Store(work.config.store)
    for artifact in store.artifacts("buckets"):
        found = artifact.manifest.key()
        same_but_k = {**found.config, "k": None} == {**wanted.config, "k": None}
        same_inputs = (found.version, found.schema_version) == (wanted.version, wanted.schema_version)
        same_inputs &= dict(found.parents) == dict(wanted.parents) and dict(found.inputs) == dict(
            wanted.inputs
        )
        if same_but_k and same_inputs:
            store.check(artifact)
            logger.info("buckets: difficulties are taken from %s (another K)", artifact.path)
            return artifact.files("buckets-", ".parquet")
    return []


def _align_all(work: Work, pairs: list[_Pair]) -> list[Path]:
    """Aligned shards in the scratch folder, those of an earlier attempt kept if they are whole."""
    renderer: Renderer | None = None
    paths = []
    for number, pair in enumerate(pairs):
        path = work.staging.scratch / f"aligned-{number:05d}.parquet"
        paths.append(path)
        if not _is_whole(work, number, path):
            if renderer is None:
                work.progress(number, 2 * len(pairs) + 1, "loading the student's tokenizer")
                renderer = _student_renderer(work.config)
            _align_one(work, renderer, number, pair, path, len(pairs))
    return paths


def _student_renderer(config: TrimsConfig) -> Renderer:
    """The student's renderer, ending completions as the settings say; the teacher's score of its own end of
    turn goes to that token."""
    from trims_core.rendering import Renderer
    from trims_core.students import load_student_tokenizer

    student = config.student
    tokenizer, family = load_student_tokenizer(student.model, student.revision, student.family)
    return Renderer(tokenizer, family.eos_id if config.buckets.supervised_end == "eos" else None)


def _is_whole(work: Work, number: int, path: Path) -> bool:
    unit = f"aligned-{number:05d}"
    if not work.staging.is_done(unit):
        return False
    return path.is_file() and sha256_file(path) == work.staging.unit(unit)["sha256"]


def _align_one(work: Work, renderer: Renderer, number: int, pair: _Pair, path: Path, n_shards: int) -> None:
    from trims_core.difficulty.aligned import align_shard, write_aligned

    total = 2 * n_shards + 1
    fault_point("buckets.before_align")

    def tick(n_rows: int) -> None:
        work.progress(number, total, f"aligning {pair.scores.name}: {n_rows} rows")

    write_aligned(path, align_shard(pair.scores, pair.corpus, work.config.buckets.metric, renderer, tick))
    fsync_file(path)
    fault_point("buckets.after_align")
    work.staging.record(f"aligned-{number:05d}", {}, {"sha256": sha256_file(path)})
    work.progress(number + 1, total, f"aligned {pair.scores.name}")


def _plan(work: Work, aligned: list[Path]) -> BucketPlan:
    """The cuts, from the journal where they were found before; histogram.json beside them."""
    from trims_core.difficulty.aligned import read_token_rows
    from trims_core.difficulty.buckets import BucketPlan, plan_buckets
    from trims_core.difficulty.histogram import difficulty_histogram
    from trims_core.difficulty.quantiles import ListColumn

    k, metric = work.config.buckets.k, work.config.buckets.metric
    if work.staging.is_done(_PLAN):
        known = work.staging.unit(_PLAN)
        return BucketPlan(k, known["n_tokens"], BucketPlan.cuts_from_json(known["cuts"]))
    column = ListColumn(tuple(aligned), "difficulty_nats")
    plan, upper = plan_buckets(column, lambda: read_token_rows(aligned), k, _scan_ticker(work, len(aligned)))
    fault_point("buckets.before_plan")
    histogram = {"k": k, "metric": metric, **difficulty_histogram(plan, upper)}
    _write_json(work.staging.path / "histogram.json", histogram)
    work.staging.record(_PLAN, {"histogram.json": None}, {"n_tokens": plan.n_tokens, "cuts": plan.to_json()})
    return plan


def _scan_ticker(work: Work, n_shards: int) -> Ticker:
    def tick(n_done: int, n_files: int) -> None:
        fault_point("buckets.during_scan")
        work.progress(n_shards, 2 * n_shards + 1, f"edges: {n_done} of {n_files} shards counted")

    return tick


def _shard_name(number: int) -> str:
    return f"buckets-{number:05d}"


def _write_bucket_shard(work: Work, plan: BucketPlan, number: int, aligned: Path, n_shards: int) -> None:
    """Writes and records one shard with its bucket ids, unless that was done before."""
    import pyarrow as pa

    from trims_core.difficulty.aligned import read_aligned, token_rows
    from trims_core.difficulty.summary import summarise

    unit = _shard_name(number)
    if work.staging.is_done(unit):
        return
    fault_point("buckets.before_shard")
    table = read_aligned(aligned)
    rows = token_rows(table)
    bucket_N = plan.assign(rows)
    lists = pa.ListArray.from_arrays(pa.array(rows.offsets_R1, type=pa.int32()), pa.array(bucket_N))
    about = {**work.staging.key.config, **work.staging.key.inputs, **work.staging.key.parents}
    n_rows = write_table(
        work.staging.path / f"{unit}.parquet", BUCKETS, table.append_column("bucket", lists), about
    )
    fault_point("buckets.before_record")
    summary = summarise(rows.values_N, bucket_N, plan.k)
    work.staging.record(unit, {f"{unit}.parquet": n_rows}, {"n_rows": n_rows, **summary.to_json()})
    work.progress(n_shards + number + 1, 2 * n_shards + 1, f"bucket ids of {unit}")


def _write_edges(work: Work, plan: BucketPlan, n_shards: int) -> dict[str, Any]:
    """edges.json: where the buckets lie, and what the difficulties are like.

    Raises:
        CorruptShardError: the shards' bucket sizes are not the plan's.
    """
    from trims_core.difficulty.buckets import check_sizes
    from trims_core.difficulty.summary import Summary, merge

    path = work.staging.path / "edges.json"
    if work.staging.is_done(_EDGES):
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    whole = merge([Summary.from_json(work.staging.unit(_shard_name(n))) for n in range(n_shards)])
    check_sizes(plan, whole.bucket_sizes)
    edges = {
        "k": plan.k,
        "metric": work.config.buckets.metric,
        "n_tokens": plan.n_tokens,
        "edges_nats": [float(edge) for edge in plan.edges],
        "bucket_sizes": list(whole.bucket_sizes),
        "min_nats": whole.lowest,
        "max_nats": whole.highest,
        "mean_nats": whole.mean,
        "n_zero": whole.n_zero,
    }
    fault_point("buckets.before_edges")
    _write_json(path, edges)
    fault_point("buckets.after_edges")
    work.staging.record(_EDGES, {"edges.json": None})
    work.progress(2 * n_shards + 1, 2 * n_shards + 1, "edges written")
    return edges


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _card(edges: Mapping[str, Any]) -> str:
    k = edges["k"]
    lines = [
        f"{edges['n_tokens']} student completion tokens (end of turn included) in {k} buckets by"
        f" {edges['metric']}: 1 = hardest … {k} = easiest.",
        "",
        "| bucket | tokens | up to (nats) |",
        "|---|---|---|",
    ]
    tops = [edges["max_nats"], *reversed(edges["edges_nats"])]
    sizes = edges["bucket_sizes"]
    lines += [
        f"| {i} | {size} | {top:.6g} |" for i, (size, top) in enumerate(zip(sizes, tops, strict=True), 1)
    ]
    lines += ["", f"Mean {edges['mean_nats']:.6g} nats; {edges['n_zero']} tokens with exactly 0."]
    return "\n".join(lines)
