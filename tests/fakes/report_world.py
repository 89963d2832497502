"""A finished run without models: artifacts of every stage, written through the real store.

Outcomes follow a small story: each method loses accuracy as the threshold falls, at its own pace.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from fakes.analysis_tables import analysed, difficulty, trajectories

from trims_core.analysis.settings import point_of
from trims_core.config import TrimsConfig
from trims_core.graph import Node, build_graph
from trims_core.schema import BUCKETS, CORPUS, GRADES, SAMPLES, TOKENS, Table, write_table
from trims_core.sections import OPERATIONAL, Section
from trims_core.settings import parse_config
from trims_core.stage import Make, Outcome, Result, StageSpec, Unit, Work, run_node
from trims_core.store import Artifact, Made, Store, UnitRecord

CANVAS = 32
SPECIALS = ("<|endoftext|>", "<|mdm_mask|>", "<|eot_id|>")
ANSWERS = (
    "Tom has 3 boxes of 12 pens. 3 times 12 is 36. The answer is 36.",
    "A café sells 7 tarts 🥧 at 4 € each. 7 × 4 = 28. The answer is 28.",
    "<b>8</b> & 5 make 13. The answer is 13.",
)

SECONDS = {"none": 0.01, "prefix": 0.006, "dual": 0.004}
"""A forward with each cache."""

Row = dict[str, Any]
Edit = Callable[[str, float | None, list[Row]], list[Row] | None]
"""Changes (or, giving None, leaves out) the rows of a cell of a model at a threshold."""


_OWN_TASK: Final = {
    "tasks": {"demo": {"benchmark": "demo"}},
    "gen_length": CANVAS,
    "block_length": CANVAS,
}


@dataclass
class ReportWorld:
    """Settings of the made-up run."""

    root: Path
    n: int = 40
    seeds: tuple[int, ...] = (0,)
    thresholds: tuple[float, ...] = (0.9, 0.6, 0.3)
    variants: Mapping[str, Mapping[str, object]] = field(
        default_factory=lambda: {"standard": {"method": "standard"}, "trims": {"method": "trims"}}
    )
    skill: Mapping[str, float] = field(
        default_factory=lambda: {"untuned": 0.72, "standard": 0.8, "trims": 0.84}
    )
    """Accuracy of each method at one token per forward."""
    stamina: Mapping[str, float] = field(
        default_factory=lambda: {"untuned": 2.0, "standard": 2.2, "trims": 3.5}
    )
    """Tokens per forward at which half of that accuracy is left, beyond one."""
    effect: Callable[[TrimsConfig], float] = lambda _config: 0.0
    """What a run's settings add to the skill of its trained methods."""
    edit: Edit = lambda model, threshold, rows: rows
    summary: Callable[[Row], Row] = lambda row: row
    """Changes a cell's summary in the grades' cells.json; `model` is in it, for those who choose by it."""
    sweep: Mapping[str, object] = field(default_factory=dict)
    """Further settings of the sweep."""
    report: Mapping[str, object] = field(default_factory=dict)
    teacher: bool = True
    rollouts: bool = False
    """Whether there is a section of that name."""
    loss: float = 2.0
    k: int = 4

    def config(self) -> TrimsConfig:
        """The run's settings."""
        return parse_config(
            {
                "name": "world",
                "store": str(self.root / "store"),
                "corpus": {"path": str(self.root / "train.jsonl")},
                **(
                    {"scores": {"teacher": "fake.module:Teacher", "model": "./teacher"}}
                    if self.teacher
                    else {}
                ),
                **({"rollouts": {"grader": "demo"}} if self.rollouts else {}),
                "buckets": {"k": self.k},
                "student": {"model": str(write_student(self.root / "student"))},
                "train": {"variants": dict(self.variants), "seeds": list(self.seeds)},
                "sweep": {
                    "thresholds": list(self.thresholds),
                    **({} if "tasks" in self.sweep else _OWN_TASK),
                    **self.sweep,
                },
                "report": {"bootstrap_samples": 200, "examples": 3, **self.report},
            }
        )

    def specs(self) -> dict[str, StageSpec]:
        """Fake stages for all but the report."""
        makers: dict[str, Maker] = {
            "corpus": _corpus,
            "scores": _scores,
            "aligned": _aligned,
            "buckets": _buckets,
            "tokens": _tokens,
            "rollouts": lambda _story: Tale(Outcome({"n_rollouts": 9}), files={"rollouts.txt": "rollouts"}),
            "train": _train,
            "sweep": _sweep,
            "grades": _grades,
            "analysis": _analysis,
        }
        return {stage: self._spec(stage, maker) for stage, maker in makers.items()}

    def parents(self) -> dict[str, Artifact]:
        """Every artifact above the report, by role."""
        config, store = self.config(), Store(self.root / "store")
        made: dict[str, Artifact] = {}
        for node in build_graph(config)[:-1]:
            above = {role: made[parent] for role, parent in node.parents.items()}
            made[node.id] = run_node(store, config, node, above, specs=self.specs()).artifact
        return made

    def make_report(self) -> Result:
        """Runs the real report stage on the made-up artifacts."""
        config = self.config()
        node = build_graph(config)[-1]
        return run_node(Store(self.root / "store"), config, node, self.parents())

    def _spec(self, stage: str, maker: Maker) -> StageSpec:
        """A stage whose units are all made of the story, of the node and of the parents' contents."""

        def settings(config: TrimsConfig, node: Node) -> Told:
            read = _read_by(config, node)
            return Told(story=self._story(), node=dict(node.params), read=read, config=config)

        def made(work: Work) -> Story:
            params = dict(work.settings.node)
            return Story(self, work.settings.config, params, work.parents)

        def units(work: Work, _facts: None) -> list[Unit]:
            about = {role: artifact.content_digest for role, artifact in work.parents.items()}
            fields = work.settings.result_fields()
            return [Unit(name, fields, {**about, "unit": name}) for name in maker(made(work)).units]

        @contextmanager
        def making(work: Work, *_: object) -> Iterator[Make]:
            written = maker(made(work)).units
            yield lambda unit, attempt: _write(attempt.path, written[unit.name])

        def finish(work: Work, _facts: None, _done: Mapping[str, UnitRecord]) -> Outcome:
            told = maker(made(work))
            files = _write(work.folder, told.files).files
            return replace(told.outcome, files=files)

        return StageSpec(stage, 1, settings=settings, units=units, maker=making, finish=finish)

    def _story(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "loss": str(self.loss),
            "skill": dict(self.skill),
            "stamina": dict(self.stamina),
            "sweep": dict(self.sweep),
        }


@dataclass(frozen=True)
class Rows:
    """A table to be written."""

    table: Table
    columns: Mapping[str, Any]


Files = Mapping[str, Rows | str]
"""Name → a table or text."""


@dataclass(frozen=True)
class Story:
    """What a fake stage tells its part of."""

    world: ReportWorld
    config: TrimsConfig
    params: Mapping[str, Any]
    parents: Mapping[str, Artifact]


@dataclass(frozen=True)
class Tale:
    """What a fake stage writes."""

    outcome: Outcome
    units: Mapping[str, Files] = field(default_factory=dict)
    files: Files = field(default_factory=dict)


Maker = Callable[[Story], Tale]


class Told(Section):
    """What a fake stage reads."""

    story: dict[str, Any]
    node: dict[str, Any]
    read: dict[str, Any]
    config: Annotated[TrimsConfig, OPERATIONAL]


def _read_by(config: TrimsConfig, node: Node) -> dict[str, Any]:
    """Of the real settings, those that a stage's real one would read and this one shows."""
    if node.stage == "train":
        return {"variant": config.train.variants[str(node.params["variant"])].result_fields()}
    read: dict[str, dict[str, Any]] = {
        "corpus": {"limit": config.corpus.limit},
        "aligned": {"metric": config.buckets.metric},
        "buckets": config.buckets.result_fields(),
        **{stage: {"thresholds": list(config.sweep.thresholds)} for stage in ("sweep", "analysis")},
    }
    return read.get(node.stage, {})


def _write(folder: Path, files: Files) -> Made:
    rows: dict[str, int | None] = {}
    for name, what in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, Rows):
            rows[name] = write_table(path, what.table, what.columns)
        else:
            path.write_text(what)
            rows[name] = None
    return Made(rows)


def write_student(folder: Path) -> Path:
    """A checkpoint folder with a byte-level tokenizer: 256 bytes, a few merges, LLaDA-like specials."""
    if (folder / "tokenizer.json").exists():
        return folder
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([ANSWERS[0]] * 3, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llada"}))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIALS[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def _corpus(_story: Story) -> Tale:
    columns = {
        "id": [f"ex{i}" for i in range(9)],
        "messages": [[{"role": "user", "content": f"Question {i}?"}] for i in range(9)],
        "completion": [ANSWERS[i % 3] for i in range(9)],
        "source": [f"train.jsonl:{i + 1}" for i in range(9)],
    }
    units = {"corpus-00000": {"corpus.parquet": Rows(CORPUS, columns)}}
    return Tale(Outcome({"n_in": 9, "n_out": 9, "n_normalised": 2}), units)


def _scores(_story: Story) -> Tale:
    counts = {"n_in": 9, "n_out": 9, "n_rejected": 0}
    return Tale(Outcome(counts, {"model": "teacher", "dtype": "float32"}), files={"scores.txt": "scores"})


def _aligned(story: Story) -> Tale:
    text = f"aligned by {story.config.buckets.metric}"
    return Tale(Outcome({"n_in": 9, "n_out": 9}), files={"aligned.txt": text})


def _buckets(story: Story) -> Tale:
    """Difficulties drawn log-uniformly, one in ten exactly zero; buckets by rank."""
    from trims_core.rendering import load_tokenizer

    tokenizer = load_tokenizer(story.config.student.model)
    k = story.config.buckets.k
    completions = [[*tokenizer.encode(ANSWERS[i % 3]), 2] for i in range(9)]
    rng = np.random.default_rng(5)
    n_tokens = sum(map(len, completions))
    values = np.where(rng.random(n_tokens) < 0.1, 0.0, 10 ** rng.uniform(-6, 1, n_tokens)).astype(np.float32)
    order = np.argsort(values, kind="stable")
    bucket = np.empty(n_tokens, np.int64)
    bucket[order] = k - np.arange(n_tokens) * k // n_tokens
    cuts = np.cumsum([0, *map(len, completions)])
    columns = {
        "id": [f"ex{i}" for i in range(9)],
        "input_ids": [[7, 8, *ids] for ids in completions],
        "prompt_length": [2] * 9,
        "difficulty_nats": [values[a:b].tolist() for a, b in itertools.pairwise(cuts)],
        "bucket": [bucket[a:b].tolist() for a, b in itertools.pairwise(cuts)],
    }
    bins = 10 ** np.linspace(-6, 1.01, 57)
    per_bucket = [values[bucket == b] for b in range(1, k + 1)]
    histogram = {
        "bin_edges_nats": bins.tolist(),
        "counts": [np.histogram(v[v >= bins[0]], bins)[0].tolist() for v in per_bucket],
        "n_below": [int((v < bins[0]).sum()) for v in per_bucket],
    }
    edges = {
        "k": k,
        "metric": story.config.buckets.metric,
        "n_tokens": n_tokens,
        "edges_nats": [float(per_bucket[b].max()) for b in reversed(range(1, k))],
        "bucket_sizes": [len(v) for v in per_bucket],
        "n_zero": int((values == 0).sum()),
    }
    return Tale(
        Outcome({"n_in": 9, "n_out": 9, "n_tokens": n_tokens}),
        {"buckets-00000": {"buckets.parquet": Rows(BUCKETS, columns)}},
        {"edges.json": json.dumps(edges), "histogram.json": json.dumps(histogram)},
    )


def _tokens(story: Story) -> Tale:
    columns = _buckets(story).units["buckets-00000"]["buckets.parquet"]
    assert isinstance(columns, Rows)
    kept = {name: columns.columns[name] for name in TOKENS.schema.names}
    return Tale(Outcome({"n_in": 9, "n_out": 9}), {"tokens-00000": {"tokens.parquet": Rows(TOKENS, kept)}})


def _train(story: Story) -> Tale:
    seed = story.params["seed"]
    rng = np.random.default_rng([seed, len(story.params["variant"])])
    rows = []
    for step in range(1, 301):
        loss = story.world.loss * math.exp(-step / 90) + 0.6 + 0.08 * rng.standard_normal()
        rows.append(
            {"step": step, "kind": "train", "loss": loss, "lr": 1e-3, "grad_norm": 1.0, "seconds": step}
        )
        if step % 50 == 0:
            late = 0.62 + story.world.loss * math.exp(-step / 80)
            rows.append({"step": step, "kind": "eval", "loss": late})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    settings = story.config.train.variants[story.params["variant"]].result_fields()
    made_from = {role: artifact.content_digest for role, artifact in story.parents.items()}
    adapter = {"metrics.jsonl": text, "adapter.json": json.dumps([settings, made_from])}
    return Tale(Outcome({"n_in": 9, "n_out": 9}, seed=seed), {"adapter": adapter})


def _swept(story: Story) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """Each cell and its rows."""
    model, variant = story.params["model"], story.params["variant"]
    sweep, world = story.config.sweep, story.world
    points = itertools.product(sweep.caches(tuned=variant is not None), (None, *sweep.thresholds))
    for cache, threshold in points:
        method = variant or "untuned"
        made = _samples(world, model, method, _skill(story, method), threshold, SECONDS[cache])
        rows = world.edit(model, threshold, made)
        if rows is None:
            continue
        about = {"task": "demo", "cache": cache, "rule": sweep.rule, "threshold": threshold}
        yield about, [{**row, "cache": cache, "threshold": threshold} for row in rows]


def _chunks(cell: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Unit name → its rows: the samples at one token per forward lie in two units, others in one."""
    point = "one" if cell["threshold"] is None else cell["threshold"]
    middle = len(rows) * 2 // 3 if cell["threshold"] is None else len(rows)
    parts = [part for part in (rows[:middle], rows[middle:]) if part]
    return {f"demo-t{point}-{cell['cache']}/{i:04d}": list(part) for i, part in enumerate(parts)}


def _sweep(story: Story) -> Tale:
    units, summaries = {}, []
    for cell, rows in _swept(story):
        chunks = _chunks(cell, rows)
        for name, part in chunks.items():
            columns = {column: [row[column] for row in part] for column in SAMPLES.schema.names}
            units[name] = {"samples.parquet": Rows(SAMPLES, columns)}
        summaries.append({**cell, **_summary(rows), "units": list(chunks)})
    n = len(summaries) * story.world.n
    info = {"student": story.config.student.model}
    return Tale(Outcome({"n_in": n, "n_out": n}, info), units, {"cells.json": json.dumps(summaries)})


def _grades(story: Story) -> Tale:
    if "sweep" not in story.parents:
        return Tale(Outcome({"n_rollouts": 9, "n_right": 5}), files={"grades.txt": "of rollouts"})
    units, summaries = {}, []
    swept = json.loads(story.parents["sweep"].file("cells.json").read_text())
    for (cell, rows), row in zip(_swept(story), swept, strict=True):
        n_correct = sum(one["correct"] for one in rows)
        graders = {"words 1": {"n_correct": n_correct, "accuracy": n_correct / max(len(rows), 1)}}
        right = {**row, "n_correct": n_correct, "grader": "words 1", "graders": graders}
        line = story.world.summary({**right, "model": story.params["model"]})
        summaries.append(line)
        for name, part in _chunks(cell, rows).items():
            columns = {
                "sample_id": [one["sample_id"] for one in part],
                "grader": ["words"] * len(part),
                "verdict": [one.get("verdict", "right" if one["correct"] else "wrong") for one in part],
                "extracted": [one["answer"] for one in part],
                "gold": [one["gold"] for one in part],
            }
            for grader in line["graders"]:
                units[f"{name}/{grader.split()[0]}"] = {"grades.parquet": Rows(GRADES, columns)}
    return Tale(Outcome({"n_cells": len(summaries)}), units, {"cells.json": json.dumps(summaries)})


def _analysis(story: Story) -> Tale:
    """Made-up tables of every model that was swept at the middle point."""
    sweep, units = story.config.sweep, dict[str, Files]()
    threshold = point_of(sweep)
    train = story.config.train
    methods = {f"{name}-s{seed}": name for name in train.variants for seed in train.seeds}
    for role in story.parents:
        stage, _, model = role.partition("/")
        if stage != "sweep":
            continue
        method = methods.get(model, "untuned")
        made = _samples(story.world, model, method, _skill(story, method), threshold, 0.0)
        rows = story.world.edit(model, threshold, made)
        if rows is None:
            continue
        units[f"answers/demo/{model}"] = {"analysed.parquet": Rows(*analysed(model, rows))}
        if story.world.teacher:
            units[f"teacher/demo/{model}"] = {
                "trajectories.parquet": Rows(*trajectories(model, rows)),
                "difficulty.parquet": Rows(*difficulty(model, rows)),
            }
    info = {"rule": sweep.rule, "threshold": threshold, "cache": sweep.cache}
    info |= {"teacher": "teacher", "without_teacher": None}
    if not story.world.teacher:
        info |= {"teacher": None, "without_teacher": "this run has no teacher (no section scores)"}
    return Tale(Outcome({"n_answers": len(units) * story.world.n}, info), units)


def _skill(story: Story, method: str) -> float:
    """Accuracy at one token per forward, more or less, of a method of this run."""
    return story.world.skill[method] + (0.0 if method == "untuned" else story.world.effect(story.config))


def _samples(
    world: ReportWorld, model: str, method: str, skill: float, threshold: float | None, seconds: float
) -> list[Row]:
    """Rows whose outcome depends on the problem, the model and how parallel it decodes; no other chance."""
    steps = 10 if threshold is None else max(1, round(10 * threshold**1.5))
    rows = []
    bend = 1.0 + 0.2 * world.stamina[method]
    for i in range(world.n):
        steps = 20 if threshold is None else max(1, round(20 * threshold**bend) + i % 3)
        text = ANSWERS[i % 3]
        tpf = 20 / steps
        p = skill * 0.5 ** ((tpf - 1) / world.stamina[method])
        # a problem's luck is mostly its own, partly the model's
        luck = 0.75 * _unit(f"problem {i}") + 0.25 * _unit(f"{model} {threshold} {i}")
        correct = luck < p
        rows.append(
            {
                "sample_id": f"p{i:04d}",
                "prompt": f"Problem {i}: how many pens?",
                "text": text if correct else text.replace("answer is", "answer is not"),
                "gold": "36",
                "answer": "36" if correct else "35",
                "correct": correct,
                "finished": i % 20 != 0,
                "n_tokens": 20,
                "n_tokens_canvas": CANVAS,
                "n_tokens_text": 19,
                "n_forwards": steps,
                "seconds": seconds * steps,
                "token_ids": [5] * CANVAS,
                "reveal_step": [min(j, steps - 1) for j in range(CANVAS)],
                "confidence": [0.9] * CANVAS,
                "entropy": [0.3] * CANVAS,
            }
        )
    return rows


def _summary(rows: Sequence[Row]) -> Row:
    tokens, forwards = sum(row["n_tokens"] for row in rows), sum(row["n_forwards"] for row in rows)
    seconds = sum(row["seconds"] for row in rows)
    return {
        "n": len(rows),
        "tokens": tokens,
        "forwards": forwards,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "batch_sizes": [16],
        "workers": [1],
        "stop_at_end": True,
        "n_unfinished": sum(not row["finished"] for row in rows),
    }


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def report_in(root: Path) -> int:
    """Makes the report of the world in a folder; gives back the exit code."""
    ReportWorld(root).make_report()
    return 0
