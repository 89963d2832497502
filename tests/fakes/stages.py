"""A small pipeline for tests: the real graph, engine and store, stages that write tiny files.

corpus and scores consist of one unit per shard; every other stage is one JSON file derived from its settings
and its parents' contents, so that a change anywhere shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from trims_core._faults import fault_point
from trims_core.config import ScoresConfig, TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.schema import CORPUS, REJECTS, SCORES, read_table, write_table
from trims_core.scores.stage import Tally, gate
from trims_core.sections import Section
from trims_core.settings import parse_config
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord

N_SHARDS = 3
ROWS = 4
calls: list[str] = []
"""`<node>:<unit>` of every unit that was really made in this process."""


def raw_config(root: Path) -> dict[str, object]:
    """Settings of the small pipeline, with its input file and store under `root`."""
    source = root / "source.jsonl"
    if not source.exists():
        source.write_text("".join(json.dumps({"id": f"a{i}"}) + "\n" for i in range(N_SHARDS * ROWS)))
    return {
        "name": "tiny",
        "store": str(root / "store"),
        "corpus": {"path": str(source), "rows_per_shard": ROWS},
        "scores": {"model": "./none", "teacher": "fake.module:Teacher"},
        "student": {"model": "./none"},
        "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
    }


def tiny_config(root: Path, **sections: Mapping[str, object]) -> TrimsConfig:
    """The small pipeline's settings with some fields changed: `tiny_config(p, buckets={"k": 4})`."""
    raw = raw_config(root)
    for name, fields in sections.items():
        raw[name] = {**raw.get(name, {}), **fields}  # type: ignore[dict-item]
    return parse_config(raw)


def making(make: Make, work: Work) -> AbstractContextManager[Make]:
    """What a maker gives back: `make`, which notes each unit in `calls` first."""

    @contextmanager
    def opened() -> Iterator[Make]:
        def noted(unit: Unit, attempt: Attempt) -> Made:
            made = make(unit, attempt)
            calls.append(f"{work.node_id}:{unit.name}")
            return made

        yield noted

    return opened()


def _corpus_inputs(settings: Any, digests: Digests) -> dict[str, str]:
    return {"source": digests.dataset(settings.path)}


def _corpus_begin(work: Work) -> list[list[str]]:
    """The ids of each shard."""
    (source,) = work.settings.path
    ids = [json.loads(line)["id"] for line in Path(source).read_text().splitlines()]
    return [ids[start : start + ROWS] for start in range(0, len(ids), ROWS)]


def _corpus_units(_work: Work, shards: list[list[str]]) -> list[Unit]:
    return [
        Unit(f"corpus-{number:05d}", {}, {"ids": " ".join(shard)}, (number * ROWS, shard))
        for number, shard in enumerate(shards)
    ]


def _corpus_maker(
    work: Work, _facts: object, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    def make(unit: Unit, attempt: Attempt) -> Made:
        start, ids = unit.source
        columns = {
            "id": ids,
            "messages": [[{"role": "user", "content": name}] for name in ids],
            "completion": [f"answer {name}" for name in ids],
            "source": [f"source:{start + i}" for i in range(len(ids))],
        }
        rows = write_table(attempt.path / "corpus.parquet", CORPUS, columns)
        work.progress(start, 0, "rows")
        return Made({"corpus.parquet": rows}, {"n": len(ids), "first": ids[0]})

    return making(make, work)


def _corpus_finish(_work: Work, _facts: object, done: Mapping[str, UnitRecord]) -> Outcome:
    n = sum(int(record.notes["n"]) for record in done.values())
    return Outcome({"n_in": n, "n_out": n}, {"source": "fake"}, "A fake corpus.")


def _scores_inputs(settings: ScoresConfig, _digests: Digests) -> dict[str, str]:
    return {"teacher": settings.model}


def scores_units(work: Work, _facts: None) -> list[Unit]:
    """One per corpus shard."""
    corpus = work.parents["corpus"]
    files = corpus.files("corpus-", ".parquet")
    return [
        Unit(
            unit.name.replace("corpus", "scores"),
            work.settings.result_fields(),
            {**work.inputs, "corpus": unit.content_digest},
            file,
        )
        for unit, file in zip(corpus.units, files, strict=True)
    ]


def make_scores(unit: Unit, attempt: Attempt) -> Made:
    """Scores every id of a shard; ids that contain `bad` are rejected."""
    fault_point("fake.before_shard")
    ids = read_table(unit.source, CORPUS)["id"].to_pylist()
    bad = [id_ for id_ in ids if "bad" in id_]
    good = [id_ for id_ in ids if "bad" not in id_]
    columns = {
        "id": good,
        "token_ids": [[1, 2] for _ in good],
        "byte_end": [[1, 2] for _ in good],
        "nll_nats": [[0.5, 1.5] for _ in good],
        "entropy_nats": [None for _ in good],
    }
    rejects = {"id": bad, "reason": ["bad"] * len(bad), "detail": [""] * len(bad)}
    files = {
        "scores.parquet": write_table(attempt.path / "scores.parquet", SCORES, columns),
        "rejects.parquet": write_table(attempt.path / "rejects.parquet", REJECTS, rejects),
    }
    fault_point("fake.before_record")
    about = {"bad": {"n": len(bad), "ids": bad[:10], "detail": f"{bad[0]}: bad"}} if bad else {}
    return Made(files, {"n_in": len(ids), "n_out": len(good), "rejects": about})


def _scores_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    def make(unit: Unit, attempt: Attempt) -> Made:
        made = make_scores(unit, attempt)
        work.progress(1, 0, "shards")
        return made

    return making(make, work)


def _scores_finish(_work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    tally = Tally(0, [dict(record.notes) for record in done.values()])
    return Outcome(tally.counts(), {"teacher": "fake", "rejected": tally.rejected()})


class NodeSettings(Section):
    """A section's result fields, and which of a stage's nodes it is."""

    fields: dict[str, Any]
    node: dict[str, Any]

    def result_fields(self) -> dict[str, Any]:
        """All of them, as one flat section."""
        return {**self.fields, "node": dict(self.node)}


def node_settings(config: TrimsConfig, node: Node) -> NodeSettings:
    """Of the stage's own section; aligned and grades read one field of another."""
    if node.stage == "aligned":
        fields = {"metric": config.buckets.metric}
    elif node.stage == "grades":
        fields = {"untuned": config.sweep.untuned}
    else:
        fields = getattr(config, node.stage).result_fields()
    return NodeSettings(fields=fields, node=dict(node.params))


def one_unit(work: Work, _facts: None) -> list[Unit]:
    """The one unit of a stage that depends on all of its parents."""
    contents = {role: artifact.content_digest for role, artifact in work.parents.items()}
    return [Unit("result", work.settings.result_fields(), {**work.inputs, **contents})]


def _other_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    def make(unit: Unit, attempt: Attempt) -> Made:
        about = {"settings": unit.settings, "parents": unit.inputs}
        (attempt.path / "result.json").write_text(json.dumps(about, sort_keys=True))
        return Made({"result.json": None})

    return making(make, work)


def plain_finish(work: Work, _facts: None, _done: Mapping[str, UnitRecord]) -> Outcome:
    """Nothing but counts."""
    return Outcome({"n_in": 1, "n_out": 1}, {"node": work.node_id})


SPECS: Mapping[str, StageSpec] = {
    "corpus": StageSpec(
        "corpus",
        1,
        settings=lambda config, _node: config.corpus,
        inputs=_corpus_inputs,
        begin=_corpus_begin,
        units=_corpus_units,
        maker=_corpus_maker,
        finish=_corpus_finish,
    ),
    "scores": StageSpec(
        "scores",
        1,
        settings=lambda config, _node: config.scores,
        inputs=_scores_inputs,
        units=scores_units,
        maker=_scores_maker,
        finish=_scores_finish,
        gate=gate,
    ),
    **{
        stage: StageSpec(
            stage, 1, settings=node_settings, units=one_unit, maker=_other_maker, finish=plain_finish
        )
        for stage in ("aligned", "buckets", "train", "sweep", "grades", "analysis", "report")
    },
}
