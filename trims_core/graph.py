"""The nodes of a run: which artifacts a config asks for and which of them each is made from.

corpus ──► scores ──► aligned ──► buckets ──► train/<model> ──► sweep/<model> ──► grades/<model> ──► report
   └────────────────────┘                                       sweep/untuned ──► grades/untuned ─────┘

A model is `<variant>-s<seed>`, or `untuned`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trims_core.config import STAGES, StageName, TrimsConfig
from trims_core.errors import ConfigError, nearest_name
from trims_core.fingerprint import Json

UNTUNED = "untuned"


@dataclass(frozen=True)
class Node:
    """One artifact to make."""

    id: str
    """The stage's name, or `<stage>/<model>` for stages made once per model."""
    stage: StageName
    parents: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Role → node id."""
    params: Mapping[str, Json] = field(default_factory=dict, hash=False)


def build_graph(config: TrimsConfig) -> tuple[Node, ...]:
    """All nodes of a run, parents before children, always in the same order."""
    corpus = Node("corpus", "corpus")
    scores = Node("scores", "scores", {"corpus": "corpus"})
    aligned = Node("aligned", "aligned", {"corpus": "corpus", "scores": "scores"})
    buckets = Node("buckets", "buckets", {"aligned": "aligned"})
    trains, sweeps = [], []
    if config.sweep.untuned:
        params: dict[str, Json] = {"variant": None, "seed": None, "model": UNTUNED}
        sweeps.append(Node(f"sweep/{UNTUNED}", "sweep", {}, params))
    for variant in config.train.variants:
        for seed in dict.fromkeys(config.train.seeds):
            model = f"{variant}-s{seed}"
            params = {"variant": variant, "seed": seed}
            trains.append(Node(f"train/{model}", "train", {"buckets": "buckets"}, params))
            sweeps.append(
                Node(f"sweep/{model}", "sweep", {"train": f"train/{model}"}, {**params, "model": model})
            )
    grades = [
        Node(f"grades/{sweep.params['model']}", "grades", {"sweep": sweep.id}, sweep.params)
        for sweep in sweeps
    ]
    above = [corpus, scores, aligned, buckets, *trains, *sweeps, *grades]
    report = Node("report", "report", {node.id: node.id for node in above})
    return (*above, report)


def select(graph: Sequence[Node], until: str | None = None) -> tuple[Node, ...]:
    """The nodes to run up to and including a stage (all of its nodes), or up to one node; default: all.

    Raises:
        ConfigError: `until` names neither a stage nor a node.
    """
    if until is None:
        return tuple(graph)
    if until in STAGES:
        wanted = STAGES[: STAGES.index(until) + 1]
        return tuple(node for node in graph if node.stage in wanted)
    keep = {until, *ancestors(graph, node_named(graph, until).id)}
    return tuple(node for node in graph if node.id in keep)


def refreshed(graph: Sequence[Node], refresh: Collection[str]) -> frozenset[str]:
    """Ids of the nodes that stage names or node ids in `refresh` stand for.

    Raises:
        ConfigError: a word names no stage or node, or only nodes that are not run.
    """
    found: set[str] = set()
    for word in refresh:
        matches = {node.id for node in graph if word in (node.stage, node.id)}
        if not matches and word in STAGES:
            raise ConfigError(f"refresh {word}: this stage is not part of the run; widen --until or drop it")
        found |= matches or {node_named(graph, word).id}
    return frozenset(found)


def ancestors(graph: Sequence[Node], node_id: str) -> frozenset[str]:
    """Ids of everything a node is made from, directly or not."""
    by_id = {node.id: node for node in graph}
    found: set[str] = set()
    waiting = list(by_id[node_id].parents.values())
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting.extend(by_id[parent].parents.values())
    return frozenset(found)


def node_named(graph: Sequence[Node], node_id: str) -> Node:
    """The node of this id. Raises: ConfigError naming the nearest one."""
    for node in graph:
        if node.id == node_id:
            return node
    known = [*STAGES, *(node.id for node in graph if node.id not in STAGES)]
    raise ConfigError(f"{node_id}: no such stage or node; {nearest_name(node_id, known)}")
