"""The buckets stage: student tokens with their difficulty get bucket ids.

1. begin: exact global quantiles of all difficulties, in constant memory: the cuts.
2. One unit per aligned shard: the same rows with bucket ids.
3. finish: edges.json and histogram.json, from the cuts and from what the units noted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.config import BucketsConfig
from trims_core.fingerprint import sha256_json
from trims_core.schema import ALIGNED, BUCKETS, read_table, write_table
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord

if TYPE_CHECKING:
    from trims_core.difficulty.buckets import BucketPlan

VERSION: Final = 2
TABLE_FILE: Final = "buckets.parquet"


@dataclass(frozen=True)
class Facts:
    """What spans the shards."""

    plan: BucketPlan
    histogram: Mapping[str, Any]


def begin(work: Work) -> Facts:
    """Where the K buckets of all tokens lie. Raises: InputError: no completion token at all."""
    from trims_core.difficulty.aligned import read_token_rows
    from trims_core.difficulty.buckets import plan_buckets
    from trims_core.difficulty.histogram import difficulty_histogram
    from trims_core.difficulty.quantiles import ListColumn

    files = tuple(_files(work))

    def tick(n_done: int, n_files: int) -> None:
        fault_point("buckets.during_scan")
        work.progress(0, len(files), f"edges: {n_done} of {n_files} shards counted")

    config: BucketsConfig = work.settings
    plan, upper = plan_buckets(
        ListColumn(files, "difficulty_nats"), lambda: read_token_rows(files), config.k, tick
    )
    about = {"k": config.k, "metric": config.metric}
    return Facts(plan, {**about, **difficulty_histogram(plan, upper)})


def units(work: Work, facts: Facts) -> list[Unit]:
    """One per aligned shard; the cuts are all that its bucket ids depend on beside its rows."""
    plan = {"k": facts.plan.k, "n_tokens": facts.plan.n_tokens, "cuts": facts.plan.to_json()}
    cuts = sha256_json(plan)
    aligned = work.parents["aligned"]
    return [
        Unit(
            unit.name.replace("aligned", "buckets"),
            work.settings.result_fields(),
            {"cuts": cuts, "aligned": unit.content_digest},
            file,
        )
        for unit, file in zip(aligned.units, _files(work), strict=True)
    ]


@contextmanager
def maker(work: Work, facts: Facts, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Writes shards with their bucket ids."""
    import pyarrow as pa

    from trims_core.difficulty.aligned import token_rows
    from trims_core.difficulty.summary import summarise

    n_done, n_all = len(done), len(done) + len(waiting)

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_done
        fault_point("buckets.before_shard")
        table = read_table(unit.source, ALIGNED)
        rows = token_rows(table)
        bucket_N = facts.plan.assign(rows)
        lists = pa.ListArray.from_arrays(pa.array(rows.offsets_R1, type=pa.int32()), pa.array(bucket_N))
        about = {**unit.settings, **unit.inputs}
        n_rows = write_table(attempt.path / TABLE_FILE, BUCKETS, table.append_column("bucket", lists), about)
        fault_point("buckets.before_record")
        n_done += 1
        work.progress(n_done, n_all, f"bucket ids of {unit.name}")
        summary = summarise(rows.values_N, bucket_N, facts.plan.k)
        return Made({TABLE_FILE: n_rows}, {"n_rows": n_rows, **summary.to_json()})

    yield make


def finish(work: Work, facts: Facts, done: Mapping[str, UnitRecord]) -> Outcome:
    """edges.json: where the buckets lie, and what the difficulties are like; histogram.json.

    Raises:
        CorruptShardError: the shards' bucket sizes are not the plan's.
    """
    from trims_core.difficulty.buckets import check_sizes
    from trims_core.difficulty.summary import Summary, merge

    plan = facts.plan
    whole = merge([Summary.from_json(record.notes) for record in done.values()])
    check_sizes(plan, whole.bucket_sizes)
    edges = {
        "k": plan.k,
        "metric": work.settings.metric,
        "n_tokens": plan.n_tokens,
        "edges_nats": [float(edge) for edge in plan.edges],
        "bucket_sizes": list(whole.bucket_sizes),
        "min_nats": whole.lowest,
        "max_nats": whole.highest,
        "mean_nats": whole.mean,
        "n_zero": whole.n_zero,
    }
    fault_point("buckets.before_edges")
    _write_json(work.folder / "edges.json", edges)
    _write_json(work.folder / "histogram.json", facts.histogram)
    fault_point("buckets.after_edges")
    n_rows = sum(int(record.notes["n_rows"]) for record in done.values())
    return Outcome(
        counts={"n_in": n_rows, "n_out": n_rows, "n_rejected": 0, "n_tokens": plan.n_tokens},
        info={n: edges[n] for n in ("k", "metric", "n_tokens", "edges_nats", "bucket_sizes", "n_zero")},
        card=_card(edges),
        files={"edges.json": None, "histogram.json": None},
    )


SPEC: Final = StageSpec(
    "buckets",
    VERSION,
    settings=lambda config, _node: config.buckets,
    begin=begin,
    units=units,
    maker=maker,
    finish=finish,
)


def _files(work: Work) -> list[Path]:
    return work.parents["aligned"].files("aligned-", "/aligned.parquet")


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
