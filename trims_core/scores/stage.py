"""The scores stage: every completion token of the corpus under the teacher, one unit per corpus shard.

A crash loses at most the shard in flight. The engine is started only when a shard is missing, for the longest
row of the missing ones. Rejected rows stay in finished shards and are judged against
`scores.max_rejected_fraction` after each shard: raising the limit throws no work away. Rows an engine merely
failed to answer are asked again by the next attempt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trims_core._faults import fault_point
from trims_core.config import ScoresConfig
from trims_core.errors import NonFiniteScoreError, RejectBudgetError
from trims_core.fingerprint import Json, sha256_json
from trims_core.rejects import REJECTS_FILE, Rejects, check_budget, merged, reject_counts, reject_lines
from trims_core.schema import CORPUS_TEXT, REJECTS, SCORES, write_table
from trims_core.scores.rendered import RenderedShards
from trims_core.scores.shards import ShardRows, ShardScores, tabulate
from trims_core.shown import card_lines, choose
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.store.rows import rows_digest
from trims_core.teacher.cleaning import NON_FINITE, POSITIVE
from trims_core.teacher.identity import teacher_identity
from trims_core.teacher.limits import Limits, context_limit, engine_overrides, read_limits
from trims_core.teacher.protocol import CorpusObserver, Reply, Teacher
from trims_core.teacher.registry import observes_corpus
from trims_core.teacher.replies import TRANSIENT, match_replies, objection

logger = logging.getLogger(__name__)

VERSION: Final = 3
SCORES_FILE: Final = "scores.parquet"
_ROWS_SHOWN: Final = 256


def units(work: Work, _facts: None) -> list[Unit]:
    """One per corpus shard: who the teacher is, how it computes, and the shard's text.

    A teacher that is shown the whole corpus depends on all of it.
    """
    corpus = work.parents["corpus"]
    files = corpus.files("corpus-", ".parquet")
    texts = [rows_digest(file, CORPUS_TEXT) for file in files]
    about = dict(work.inputs)
    if observes_corpus(work.settings):
        about["corpus_seen"] = sha256_json(texts)
    return [
        Unit(
            unit.name.replace("corpus", "scores"),
            work.settings.result_fields(),
            {**about, "corpus": text},
            file,
        )
        for unit, file, text in zip(corpus.units, files, texts, strict=True)
    ]


@contextmanager
def maker(work: Work, _facts: None, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Starts the teacher and scores shards.

    Raises:
        NonFiniteScoreError, RejectBudgetError: too many rows cannot be used; names their ids.
        TeacherUnavailableError: the teacher died; finished shards are kept.
    """
    from trims_core.rendering import Renderer
    from trims_core.teacher.registry import make_teacher, make_tokenizer

    config: ScoresConfig = work.settings
    tally = Tally(work.parents["corpus"].rows("corpus-"), [dict(record.notes) for record in done])
    tally.check(config.max_rejected_fraction)
    limits = read_limits(config.model, config.revision, engine_overrides(config.options))
    context = context_limit(limits, config.max_model_len)
    renderer = Renderer(make_tokenizer(config), config, "scores")
    folder = None if work.folder == Path() else work.folder  # a helper has none
    with (
        closing(make_teacher(config, limits, work.logs)) as teacher,
        RenderedShards(renderer, folder) as rendered,
    ):
        if isinstance(teacher, CorpusObserver):
            for rows in _measured(work, rendered, work.parents["corpus"].files("corpus-", ".parquet")):
                for start in range(0, len(rows.ids), _ROWS_SHOWN):
                    asked = rows.requests(slice(start, start + _ROWS_SHOWN))
                    teacher.observe([request for request in asked if request.id not in rows.refused])
        longest = 2
        refused = Rejects()
        for rows in _measured(work, rendered, [unit.source for unit in waiting]):
            fitting_R = rows.row_lengths
            if context is not None:
                fitting_R = fitting_R[fitting_R <= context]
            longest = max(longest, int(fitting_R.max(initial=0)))
            for one in rows.refused.values():
                refused.add(one.id, one.reason, one.detail)
        tally.check(config.max_rejected_fraction, refused)  # before an engine starts
        scorer = _Scorer(work, rendered, teacher, limits, context, tally)
        scorer.start(longest)

        def make(unit: Unit, attempt: Attempt) -> Made:
            fault_point("scores.before_shard")
            tally.check(config.max_rejected_fraction)  # of the shards before this one
            made = scorer.score(unit, attempt)
            tally.units.append(dict(made.notes))
            return made

        yield make


def finish(work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts, speed and card from what the shards noted."""
    tally = Tally(work.parents["corpus"].rows("corpus-"), [dict(record.notes) for record in done.values()])
    return Outcome(counts=tally.counts(), info=_info(work, tally), card=_card(work, tally))


def gate(config: ScoresConfig, counts: Mapping[str, int], info: Mapping[str, Json]) -> None:
    """Raises NonFiniteScoreError or RejectBudgetError if more rows were rejected than the settings allow."""
    _check_rejects(config.max_rejected_fraction, counts["n_in"], info["rejected"])


def _check_rejects(max_fraction: float, n_total: int, rejected: Mapping[str, Json]) -> None:
    broken = any(reason in rejected for reason in (NON_FINITE, POSITIVE))
    kind, expected = (
        (NonFiniteScoreError, "finite scores ≥ 0 nats")
        if broken
        else (RejectBudgetError, "rows the teacher can score")
    )
    check_budget("scores", max_fraction, n_total, rejected, kind, expected)


def settled(record: UnitRecord) -> bool:
    """Whether every row of a shard got its final answer."""
    return not any(reason in record.notes["rejects"] for reason in TRANSIENT)


SPEC: Final = StageSpec(
    "scores",
    VERSION,
    settings=lambda config, _node: config.given_scores,
    inputs=teacher_identity,
    units=units,
    maker=maker,
    finish=finish,
    gate=gate,
    settled=settled,
    apart=True,
)


@dataclass
class Tally:
    """What the finished shards came to."""

    n_total: int
    units: list[dict[str, Any]]

    def total(self, name: str) -> float:
        """Sum of a number that every unit notes."""
        return sum(unit[name] for unit in self.units)

    def rejected(self) -> dict[str, dict[str, Any]]:
        """Reason → its number of rows, some ids and one example; most frequent first."""
        return merged(unit["rejects"] for unit in self.units)

    def counts(self) -> dict[str, int]:
        """n_in = n_out + n_rejected, and n_rejected by reason."""
        counts = {name: int(self.total(name)) for name in ("n_in", "n_out")}
        return counts | reject_counts(self.rejected())

    def check(self, max_fraction: float, further: Rejects | None = None) -> None:
        """Raises NonFiniteScoreError or RejectBudgetError once the rejects exceed their share of all rows.

        Args:
            further: rejects of shards that are not finished.
        """
        rejected = merged([self.rejected(), *([further.notes()] if further else [])])
        _check_rejects(max_fraction, self.n_total, rejected)


def _measured(work: Work, rendered: RenderedShards, shards: Sequence[Path]) -> Iterator[ShardRows]:
    """The rows of some shards, one shard at a time. Tokenizing takes about 0.2 ms per row."""
    n_done, n_all = 0, work.parents["corpus"].rows("corpus-")

    def tick(n_rows: int) -> None:
        work.progress(n_done + n_rows, n_all, "rows measured")

    for shard in shards:
        rows = rendered.rows(shard, tick)
        yield rows
        n_done += len(rows.ids)
        tick(0)


class _Scorer:
    """A started teacher at work on shards."""

    def __init__(
        self,
        work: Work,
        rendered: RenderedShards,
        teacher: Teacher,
        limits: Limits,
        context: int | None,
        tally: Tally,
    ) -> None:
        self._work = work
        self._rendered = rendered
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

    def score(self, unit: Unit, attempt: Attempt) -> Made:
        """Score and write one shard."""
        started = time.perf_counter()
        rows = self._rendered.rows(unit.source)
        found = tabulate(rows, {reply.id: reply for reply in self._replies(rows)})
        seconds = time.perf_counter() - started
        notes = {
            "n_in": len(rows.ids),
            "n_out": found.scores.num_rows,
            "n_tokens": found.n_tokens,
            "n_tokens_read": int(rows.row_lengths.sum()),
            "seconds": round(seconds, 3),
            "engine": self._engine,
            "rejects": found.rejects.notes(),
            "shown": rows.shown,
        }
        return Made(self._write(attempt.path, found), notes)

    def _replies(self, rows: ShardRows) -> Iterator[Reply]:
        """One reply per row; rows the teacher cannot read are refused without asking it."""
        asked = []
        for request in rows.requests():
            refused = rows.refused.get(request.id)
            refused = refused or objection(request, self._context, self._limits.vocab_size)
            if refused is None:
                asked.append(request)
            else:
                yield refused
        self._done += len(rows.ids) - len(asked)
        if not asked:
            return
        for reply in match_replies(asked, self._teacher.score(asked, self._beat)):
            self._done += 1
            self._beat("rows scored")
            yield reply

    def _write(self, folder: Path, found: ShardScores) -> dict[str, int | None]:
        """Both files of a unit; gives back their rows."""
        about = self._provenance()
        n_scores = write_table(folder / SCORES_FILE, SCORES, found.scores, about)
        fault_point("scores.mid_shard")
        n_rejects = write_table(folder / REJECTS_FILE, REJECTS, found.rejects.columns, about)
        fault_point("scores.before_record")
        return {SCORES_FILE: n_scores, REJECTS_FILE: n_rejects}

    def _provenance(self) -> dict[str, Json]:
        """What the numbers are, from the key alone: no versions, no clock, no paths."""
        config = self._work.settings
        about = {"dtype": config.dtype, "max_model_len": config.max_model_len, "unit": "nats"}
        return {**self._work.inputs, **about}

    def _beat(self, note: str) -> None:
        self._work.progress(self._done, self._tally.n_total, note)


def _info(work: Work, tally: Tally) -> dict[str, Json]:
    seconds = tally.total("seconds")
    config = work.settings
    return {
        "identity": dict(work.inputs),
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
    lines += [*reject_lines(tally.rejected()), ""]
    lines += card_lines(choose(one for unit in tally.units for one in unit["shown"]), "teacher")
    return "\n".join(lines)
