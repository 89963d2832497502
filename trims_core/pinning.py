"""The settings of a run with its hub inputs at fixed commits.

A revision such as `main` is resolved once, when a run begins, and replaced by the full commit: keys are made
from that commit's files, and loaders take the revision from the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from trims_core.benchmarks import get_benchmark
from trims_core.config import CorpusConfig, ScoresConfig, StageName, StudentConfig, TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.hub import Kind, is_on_hub
from trims_core.sweep_sections import TaskConfig

READERS: Final[Mapping[str, frozenset[StageName]]] = {
    "corpus": frozenset({"corpus"}),
    "scores": frozenset({"scores", "analysis"}),
    "student": frozenset({"aligned", "tokens", "rollouts", "train", "sweep", "analysis", "report"}),
    "tasks": frozenset({"sweep", "grades", "analysis"}),
}
"""What in the settings names hub inputs → stages that read it."""

_S = TypeVar("_S", CorpusConfig, ScoresConfig, StudentConfig, TaskConfig)


def pinned(config: TrimsConfig, digests: Digests, nodes: Iterable[Node]) -> TrimsConfig:
    """The settings with a full commit as the revision of every hub input that one of these nodes reads.

    Settings that are pinned already stay as they are, and nothing is asked for.

    Raises:
        ConfigError: a revision that neither the hub, its local cache nor the store knows.
    """

    def at_commit(section: _S, kind: Kind, name: str | None, revision: str | None) -> _S:
        if name is None or not is_on_hub(kind, name):
            return section
        return section.model_copy(update={"revision": digests.commit(kind, name, revision)})

    def task_at_commit(task: TaskConfig) -> TaskConfig:
        source = get_benchmark(task.benchmark_name).source(task)
        return at_commit(task, "dataset", source.hub, source.revision)

    stages = {node.stage for node in nodes}
    read = {name for name, readers in READERS.items() if not readers.isdisjoint(stages)}
    corpus, scores, student, sweep = config.corpus, config.scores, config.student, config.sweep
    if "corpus" in read and corpus.path is None:
        corpus = at_commit(corpus, "dataset", corpus.hub, corpus.revision)
    if "scores" in read and scores is not None:
        scores = at_commit(scores, "model", scores.model, scores.revision)
    if "student" in read:
        student = at_commit(student, "model", student.model, student.revision)
    if "tasks" in read:
        tasks = {name: task_at_commit(task) for name, task in sweep.tasks.items()}
        sweep = sweep.model_copy(update={"tasks": tasks})
    changed = {"corpus": corpus, "scores": scores, "student": student, "sweep": sweep}
    return config.model_copy(update=changed)
