"""The scores stage: every completion token of the corpus under the teacher, one unit per corpus shard.

A crash loses at most the shard in flight. The engine is started only when a shard is missing. Rejected rows
stay in finished shards and are judged against `scores.max_rejected_fraction` after each shard: raising the
limit throws no work away. Rows an engine merely failed to answer are asked again by the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig
from trims_core.errors import NonFiniteScoreError, RejectBudgetError
from trims_core.fingerprint import Digests, Json
from trims_core.graph import Node
from trims_core.schema import CORPUS, REJECTS, SCORES, read_table, write_table
from trims_core.stage import Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey
from trims_core.teacher.cleaning import NON_FINITE, POSITIVE
from trims_core.teacher.identity import result_settings, teacher_identity
from trims_core.teacher.limits import Limits, context_limit, read_limits
from trims_core.teacher.protocol import ENGINE_ERROR, CorpusObserver, Reply, Teacher
from trims_core.teacher.shards import (
    NO_REPLY,
    Row,
    ShardScores,
    match_replies,
    objection,
    render_rows,
    tabulate,
)

if TYPE_CHECKING:
    from trims_core.rendering import Renderer

logger = logging.getLogger(__name__)

VERSION: Final = 1
_IDS_KEPT: Final = 10
_MEASURE_ROWS: Final = 256
_TRANSIENT: Final = (ENGINE_ERROR, NO_REPLY)


def key(config: TrimsConfig, _node: Node, parents: Mapping[str, Artifact], digests: Digests) -> StageKey:
    """Scores depend on the corpus's content, on who the teacher is and on how it computes."""
    identity = teacher_identity(config.scores, digests)
    return stage_key("scores", VERSION, result_settings(config.scores), parents, identity)


def produce(work: Work) -> Outcome:
    """Writes scores-00000.parquet and rejects-00000.parquet … for every corpus shard.

    Raises:
        NonFiniteScoreError, RejectBudgetError: too many rows cannot be used; names their ids.
        TeacherUnavailableError: the teacher died; finished shards are kept.
        AlignmentError: its tokenizer changes an example's text.
    """
    shards = work.parents["corpus"].files("corpus-", ".parquet")
    units = [shard.stem.replace("corpus", "scores") for shard in shards]
    n_total = work.parents["corpus"].rows("corpus-")
    waiting = [
        (unit, shard) for unit, shard in zip(units, shards, strict=True) if not _is_finished(work, unit)
    ]
    tally = Tally(n_total, [dict(work.staging.unit(unit)) for unit in units if _is_finished(work, unit)])
    tally.check(work.config.scores.max_rejected_fraction)
    if waiting:
        _score_shards(work, waiting, shards, tally)
    return Outcome(counts=tally.counts(), info=_info(work, tally), card=_card(work, tally))


SPEC: Final = StageSpec(name="scores", version=VERSION, key=key, produce=produce)


@dataclass
class Tally:
    """What the finished shards came to."""

    n_total: int
    units: list[dict[str, Any]]

    def total(self, name: str) -> float:
        """Sum of a number that every unit notes."""
        return sum(unit[name] for unit in self.units)

    def rejected(self) -> dict[str, int]:
        """Reason → rows, most frequent first."""
        found: dict[str, int] = {}
        for unit in self.units:
            for reason, about in unit["rejects"].items():
                found[reason] = found.get(reason, 0) + about["n"]
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def counts(self) -> dict[str, int]:
        """n_in = n_out + n_rejected, and n_rejected by reason."""
        rejected = self.rejected()
        counts = {name: int(self.total(name)) for name in ("n_in", "n_out")}
        counts["n_rejected"] = sum(rejected.values())
        return counts | {f"n_{reason}": n for reason, n in rejected.items()}

    def check(self, max_fraction: float) -> None:
        """Raises NonFiniteScoreError or RejectBudgetError once the rejects exceed their share of all rows."""
        rejected = self.rejected()
        n_rejected = sum(rejected.values())
        if n_rejected <= max_fraction * self.n_total + 1e-9:
            return
        what = "; ".join(f"{n} {reason} (ids {self._ids(reason, n)})" for reason, n in rejected.items())
        detail = next(iter(about["detail"] for unit in self.units for about in unit["rejects"].values()), "")
        broken = any(reason in (NON_FINITE, POSITIVE) for reason in rejected)
        kind, expected = (
            (NonFiniteScoreError, "finite scores ≥ 0 nats")
            if broken
            else (RejectBudgetError, "rows the teacher can score")
        )
        raise kind(
            f"scores: {n_rejected} of {self.n_total} rows rejected so far: {what}; for instance:"
            f" {detail}. Expected {expected}. Correct the rows or the teacher, or raise"
            f" scores.max_rejected_fraction (now {max_fraction:g}) to go on without them;"
            " finished shards are kept"
        )

    def _ids(self, reason: str, n: int) -> str:
        ids = [i for unit in self.units if reason in unit["rejects"] for i in unit["rejects"][reason]["ids"]]
        return ", ".join(ids[:_IDS_KEPT]) + (", …" if n > _IDS_KEPT else "")


def _is_finished(work: Work, unit: str) -> bool:
    """Whether a unit was recorded and every row in it got its final answer."""
    if not work.staging.is_done(unit):
        return False
    return not any(reason in work.staging.unit(unit)["rejects"] for reason in _TRANSIENT)


def _score_shards(
    work: Work, waiting: Sequence[tuple[str, Path]], all_shards: Sequence[Path], tally: Tally
) -> None:
    """Scores and records the shards that are missing, with the engine held open over all of them."""
    from trims_core.rendering import Renderer
    from trims_core.teacher.registry import make_teacher, make_tokenizer

    config = work.config.scores
    limits = read_limits(config.model, config.revision)
    context = context_limit(limits, config.max_model_len)
    renderer = Renderer(make_tokenizer(config))
    with closing(make_teacher(config, limits, work.staging.scratch)) as teacher:
        longest = _read_corpus(work, renderer, all_shards, context, teacher)
        scorer = _Scorer(work, renderer, teacher, limits, context, tally)
        scorer.start(longest)
        for unit, shard in waiting:
            fault_point("scores.before_shard")
            tally.units.append(scorer.score(unit, shard))
            fault_point("scores.after_record")
            tally.check(config.max_rejected_fraction)


def _read_corpus(
    work: Work, renderer: Renderer, shards: Sequence[Path], context: int | None, teacher: Teacher
) -> int:
    """Tokens of the longest row of the corpus that fits the context; the same after a resume.

    The engine is given no more room than this. A teacher that observes the corpus sees every row, of
    finished shards too. Tokenizing everything twice costs about 0.2 ms per row.
    """
    longest = 2
    done = 0
    for shard in shards:
        for batch in read_table(shard, CORPUS).to_batches(_MEASURE_ROWS):
            requests = [row.request for row in render_rows(renderer, batch.to_pydict())]
            fitting = (r.n_tokens for r in requests if context is None or r.n_tokens <= context)
            longest = max([longest, *fitting])
            if isinstance(teacher, CorpusObserver):
                teacher.observe(requests)
            done += batch.num_rows
            work.progress(done, work.parents["corpus"].rows("corpus-"), "rows measured")
    return longest


class _Scorer:
    """A started teacher at work on shards."""

    def __init__(
        self,
        work: Work,
        renderer: Renderer,
        teacher: Teacher,
        limits: Limits,
        context: int | None,
        tally: Tally,
    ) -> None:
        self._work = work
        self._renderer = renderer
        self._teacher = teacher
        self._limits = limits
        self._context = context
        self._tally = tally
        self._done = int(tally.total("n_in"))
        self._engine = ""

    def start(self, longest: int) -> None:
        """Start the engine for rows of at most `longest` tokens."""
        info = self._teacher.start(longest, self._beat)
        self._engine = info.engine
        logger.info("scores: teacher %s, rows of at most %d tokens, %s", info.engine, longest, info.facts)

    def score(self, unit: str, shard: Path) -> dict[str, Any]:
        """Score, write and record one shard; gives back what the journal notes about it."""
        started = time.perf_counter()
        rows = render_rows(self._renderer, read_table(shard, CORPUS).to_pydict())
        found = tabulate(rows, {reply.id: reply for reply in self._replies(rows)})
        seconds = time.perf_counter() - started
        note = {
            "n_in": len(rows),
            "n_out": len(found.scores["id"]),
            "n_tokens": found.n_tokens,
            "n_tokens_read": sum(row.request.n_tokens for row in rows),
            "seconds": round(seconds, 3),
            "engine": self._engine,
            "rejects": {
                reason: {"n": len(ids), "ids": ids[:_IDS_KEPT], "detail": _detail(found, ids[0])}
                for reason, ids in found.reasons.items()
            },
        }
        self._work.staging.record(unit, self._write(unit, found), note)
        return note

    def _replies(self, rows: Sequence[Row]) -> Iterator[Reply]:
        """One reply per row; rows the teacher cannot read are refused without asking it."""
        asked = []
        for row in rows:
            refused = objection(row.request, self._context, self._limits.vocab_size)
            if refused is None:
                asked.append(row.request)
            else:
                yield refused
        self._done += len(rows) - len(asked)
        if not asked:
            return
        for reply in match_replies(asked, self._teacher.score(asked, self._beat)):
            self._done += 1
            self._beat("rows scored")
            yield reply

    def _write(self, unit: str, found: ShardScores) -> dict[str, int]:
        """Both files of a unit; gives back their rows."""
        staging, about = self._work.staging, self._provenance()
        scores_name, rejects_name = f"{unit}.parquet", f"{unit.replace('scores', 'rejects')}.parquet"
        n_scores = write_table(staging.path / scores_name, SCORES, found.scores, about)
        fault_point("scores.mid_shard")
        n_rejects = write_table(staging.path / rejects_name, REJECTS, found.rejects, about)
        fault_point("scores.before_record")
        return {scores_name: n_scores, rejects_name: n_rejects}

    def _provenance(self) -> dict[str, Json]:
        """What the numbers are, from the key alone: no versions, no clock, no paths."""
        config, inputs = self._work.config.scores, self._work.staging.key.inputs
        return {**inputs, "dtype": config.dtype, "max_model_len": config.max_model_len, "unit": "nats"}

    def _beat(self, note: str) -> None:
        self._work.progress(self._done, self._tally.n_total, note)


def _detail(found: ShardScores, row_id: str) -> str:
    return f"{row_id}: {found.rejects['detail'][found.rejects['id'].index(row_id)]}"


def _info(work: Work, tally: Tally) -> dict[str, Json]:
    seconds = tally.total("seconds")
    config = work.config.scores
    return {
        "identity": dict(work.staging.key.inputs),
        "model": config.model,
        "revision": config.revision,
        "dtype": config.dtype,
        "engine": ", ".join(sorted({unit["engine"] for unit in tally.units})),
        "n_shards": len(tally.units),
        "n_tokens": int(tally.total("n_tokens")),
        "n_tokens_read": int(tally.total("n_tokens_read")),
        "tokens_per_second": round(tally.total("n_tokens") / seconds, 1) if seconds else 0.0,
        "seconds": round(seconds, 3),
        "rejected": tally.rejected(),
    }


def _card(work: Work, tally: Tally) -> str:
    info, counts = _info(work, tally), tally.counts()
    lines = [
        f"{info['n_tokens']} completion tokens of {counts['n_out']} examples under {info['model']}"
        f" ({info['engine']}, {info['dtype']}), {info['tokens_per_second']} scored tokens per second.",
        "",
        f"Rows in: {counts['n_in']}, scored: {counts['n_out']}, rejected: {counts['n_rejected']}.",
    ]
    lines += [f"- {reason}: {n}" for reason, n in tally.rejected().items()]
    return "\n".join(lines)
