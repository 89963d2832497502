"""The nodes of a run: which artifacts a config asks for and which of them each is made from.

corpus ──► scores ──► aligned ──► buckets ──► train/<model> ──► sweep/<model> ──► grades/<model> ──► report
   ├────────────────────┘                       │  │            sweep/untuned ──► grades/untuned ──┐    │
   └─► tokens ──────────────────────────────────┘  │                  of all models: ──► analysis ─┴────┘
         └─► rollouts/untuned ──► grades/rollouts ─┘

A model is `<variant>-s<seed>`, or `untuned`. Reinforcement has rounds,
    tokens ─► rollouts/<model>-r0 ─► grades/<model>-r0 ─► train/<model>-r0 ─► rollouts/<model>-r1 …
of which the last one's training is train/<model>; how many there are is in no key. What no variant needs is
not there: buckets and what they are made from only with a section scores and a variant that is trained on the
corpus' answers; rollouts and their grades only for variants that are trained on them; tokens for these, and
where there is no teacher; tokens/<privilege>, with prompts that show the right answer, beside tokens for
variants that read those too. The analysis is one node for all models, so that a teacher is started once; with
`analysis: null` there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from trims_core.config import STAGES, StageName, TrimsConfig
from trims_core.decoding_sections import RolloutsConfig
from trims_core.errors import ConfigError, nearest_name
from trims_core.fingerprint import Json
from trims_core.variants import RoundsVariant, VariantConfig

UNTUNED: Final = "untuned"
ROLLOUT_GRADES: Final = "grades/rollouts"
_NO_TEACHER: Final = (
    "this run has no such stage; it takes a section scores and a variant that is trained on the corpus'"
    " answers"
)
_WHY_ABSENT: Final[Mapping[str, str]] = {
    "scores": _NO_TEACHER,
    "aligned": _NO_TEACHER,
    "buckets": _NO_TEACHER,
    "tokens": "this run has no such stage; its variants are trained on buckets",
    "rollouts": "this run has no such stage; no variant is trained on the student's own answers",
    "analysis": "this run has no such stage; its section analysis is null",
}


@dataclass(frozen=True)
class Node:
    """One artifact to make."""

    id: str
    """The stage's name, or `<stage>/<model>` for stages made once per model."""
    stage: StageName
    parents: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Role → node id."""
    params: Mapping[str, Json] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Step:
    """A node and the settings that it is made by, among the nodes of one or of several configs."""

    id: str
    """The node's own, or that of one config among several."""
    config: TrimsConfig
    node: Node
    parents: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Role → step id."""


def build_graph(config: TrimsConfig) -> tuple[Node, ...]:
    """All nodes of a run, parents before children, always in the same order."""
    data = _data_nodes(config)
    trains, sweeps = [], []
    if config.sweep.untuned:
        params: dict[str, Json] = {"variant": None, "seed": None, "model": UNTUNED}
        sweeps.append(Node(f"sweep/{UNTUNED}", "sweep", {}, params))
    for name, variant in config.train.variants.items():
        for seed in dict.fromkeys(config.train.seeds):
            model = f"{name}-s{seed}"
            params = {"variant": name, "seed": seed}
            if isinstance(variant, RoundsVariant):
                trains += _rounds(variant, model, params)
            else:
                trains.append(Node(f"train/{model}", "train", _trained_on(config, variant), params))
            sweeps.append(
                Node(f"sweep/{model}", "sweep", {"train": f"train/{model}"}, {**params, "model": model})
            )
    grades = [
        Node(f"grades/{sweep.params['model']}", "grades", {"sweep": sweep.id}, sweep.params)
        for sweep in sweeps
    ]
    above = [*data, *trains, *sweeps, *grades]
    if config.analysis is not None:
        trained = [parent for sweep in sweeps for parent in sweep.parents.values()]
        read = [*trained, *(node.id for node in (*sweeps, *grades))]
        above.append(Node("analysis", "analysis", {node_id: node_id for node_id in read}))
    report = Node("report", "report", {node.id: node.id for node in above})
    return (*above, report)


def steps_of(config: TrimsConfig, graph: Sequence[Node]) -> tuple[Step, ...]:
    """A graph's nodes as steps under their own ids."""
    return tuple(Step(node.id, config, node, node.parents) for node in graph)


def _data_nodes(config: TrimsConfig) -> list[Node]:
    """What variants are trained on, and what it is made from."""
    nodes = [Node("corpus", "corpus")]
    has_teacher = config.scores is not None
    if has_teacher and config.needs("examples"):
        nodes += [
            Node("scores", "scores", {"corpus": "corpus"}),
            Node("aligned", "aligned", {"corpus": "corpus", "scores": "scores"}),
            Node("buckets", "buckets", {"aligned": "aligned"}),
        ]
    if config.needs("rollouts") or config.needs("rounds") or not has_teacher:
        nodes.append(Node("tokens", "tokens", {"corpus": "corpus"}))
    privileges = (one for variant in config.train.variants.values() for one in variant.privileges().values())
    for privilege in dict.fromkeys(privileges):
        nodes.append(Node(f"tokens/{privilege}", "tokens", {"corpus": "corpus"}, {"privilege": privilege}))
    if config.needs("rollouts"):
        rollouts = f"rollouts/{UNTUNED}"
        nodes.append(Node(rollouts, "rollouts", {"tokens": "tokens"}))
        nodes.append(Node(ROLLOUT_GRADES, "grades", {"corpus": "corpus", "rollouts": rollouts}))
    return nodes


def _rounds(variant: RoundsVariant, model: str, params: Mapping[str, Json]) -> list[Node]:
    """A round's rollouts are those of the student that the round before trained."""
    nodes: list[Node] = []
    before: dict[str, str] = {}
    for number in range(variant.rounds):
        name, own = f"{model}-r{number}", {**params, "round": number}
        rollouts, grades = f"rollouts/{name}", f"grades/{name}"
        train = f"train/{model if number == variant.rounds - 1 else name}"
        made_of = {"tokens": "tokens", "rollouts": rollouts, "grades": grades}
        nodes += [
            Node(rollouts, "rollouts", {"tokens": "tokens", **before}, own),
            Node(grades, "grades", {"corpus": "corpus", "rollouts": rollouts}, own),
            Node(train, "train", {**made_of, **before}, own),
        ]
        before = {"train": train}
    return nodes


def _trained_on(config: TrimsConfig, variant: VariantConfig) -> dict[str, str]:
    """Role → node id: all that are trained on the corpus' answers see the same examples."""
    if variant.needs == "rollouts":
        shown = {role: f"tokens/{privilege}" for role, privilege in variant.privileges().items()}
        return {"tokens": "tokens", "rollouts": f"rollouts/{UNTUNED}", "grades": ROLLOUT_GRADES, **shown}
    role = "tokens" if config.scores is None else "buckets"
    return {role: role}


def round_variant(config: TrimsConfig, node: Node) -> RoundsVariant:
    """The variant that a node of a round belongs to."""
    variant = config.train.variants[str(node.params["variant"])]
    assert isinstance(variant, RoundsVariant)
    return variant


def rollouts_of(config: TrimsConfig, node: Node) -> RolloutsConfig:
    """How a node's rollouts are made and judged: the section, or a round's variant's own."""
    return round_variant(config, node).rollouts if "round" in node.params else config.given_rollouts


def select(graph: Sequence[Node], until: str | None = None) -> tuple[Node, ...]:
    """The nodes to run for a stage (all of its nodes) or for one node: these and all they are made from.

    Default: all.

    Raises:
        ConfigError: `until` names neither a stage nor a node, or a stage that the run does not have.
    """
    if until is None:
        return tuple(graph)
    last = {node.id for node in graph if until in (node.stage, node.id)} or {node_named(graph, until).id}
    keep = last.union(*(ancestors(graph, node_id) for node_id in last))
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
    """The node of this id. Raises: ConfigError naming the nearest one, or what the run does not need."""
    for node in graph:
        if node.id == node_id:
            return node
    if node_id in STAGES and not any(node.stage == node_id for node in graph):
        raise ConfigError(f"{node_id}: {_WHY_ABSENT.get(node_id, 'this stage is not part of the run')}")
    known = [*STAGES, *(node.id for node in graph if node.id not in STAGES)]
    raise ConfigError(f"{node_id}: no such stage or node; {nearest_name(node_id, known)}")
