"""What a run would do and why, without doing it.

Covered: every node's state from the store, the refresh list and the reject budget; for a miss, which config
field, input or parent differs from the newest artifact of the same node. Nothing heavy is imported and no
data is read that was read before on this host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from trims_core.config import TrimsConfig
from trims_core.errors import RejectBudgetError, StoreError
from trims_core.fingerprint import Json
from trims_core.graph import Node, ancestors, build_graph, node_named, refreshed, select
from trims_core.stage import StageSpec, check_budget, load_spec
from trims_core.store import Artifact, StageKey, Store

State: TypeAlias = Literal["hit", "miss", "unknown"]
_NAMED: Final = 3
_DAMAGED: Final = "damaged"
_OVER_BUDGET: Final = "over the reject budget"
_ABSENT: Final = "(not set)"


@dataclass(frozen=True)
class Difference:
    """One field of the key that is not what it was."""

    field: str
    """For people: `config scores.model`, `input source`, `parent buckets`, `stage version`."""
    before: Json
    now: Json

    def __str__(self) -> str:
        if self.field.startswith("config "):
            return f"{self.field} changed ({self.before!r} → {self.now!r})"
        return f"{self.field} changed"


@dataclass(frozen=True)
class PlanRow:
    """What a run would do with one node."""

    node: Node
    state: State
    """hit: taken from the store. miss: made. unknown: depends on what its parents turn out to be."""
    fingerprint: str | None
    why: str
    artifact: Artifact | None = None
    """Of a hit."""


@dataclass(frozen=True)
class Explanation:
    """Why a node is in its state."""

    node: Node
    state: State
    fingerprint: str | None
    why: str
    compared_with: Artifact | None
    """The newest artifact made for the same node under another key."""
    differences: tuple[Difference, ...]


def plan(
    store: Store,
    config: TrimsConfig,
    until: str | None = None,
    refresh: Collection[str] = (),
    specs: Mapping[str, StageSpec] | None = None,
) -> list[PlanRow]:
    """One row per node of the run, parents before children.

    Args:
        until: last stage or node; default: everything.
        refresh: stages or nodes to make although they exist.
    Raises:
        ConfigError: `until` or `refresh` names nothing, or an outside input cannot be read.
    """
    graph = select(build_graph(config), until)
    again = refreshed(graph, refresh)
    rows: dict[str, PlanRow] = {}
    for node in graph:
        rows[node.id] = _row(store, config, node, rows, node.id in again, specs)
    return list(rows.values())


def explain(
    store: Store, config: TrimsConfig, node: Node | str, specs: Mapping[str, StageSpec] | None = None
) -> Explanation:
    """Why a node is a hit or not: its key against the newest artifact of the same node, field by field."""
    graph = build_graph(config)
    wanted = node_named(graph, node) if isinstance(node, str) else node
    keep = ancestors(graph, wanted.id) | {wanted.id}
    rows: dict[str, PlanRow] = {}
    for one in graph:
        if one.id in keep:
            rows[one.id] = _row(store, config, one, rows, False, specs)
    row = rows[wanted.id]
    if row.state != "miss":
        return Explanation(wanted, row.state, row.fingerprint, row.why, None, ())
    key = _key(store, config, wanted, rows, specs)
    other = _nearest(store, config, wanted, key)
    found = () if other is None else tuple(differences(other.manifest.key(), key))
    return Explanation(wanted, row.state, row.fingerprint, row.why, other, found)


def differences(before: StageKey, now: StageKey) -> Iterator[Difference]:
    """The fields in which two keys of a stage differ."""
    if before.version != now.version:
        yield Difference("stage version", before.version, now.version)
    if before.schema_version != now.schema_version:
        yield Difference("table schema version", before.schema_version, now.schema_version)
    old, new = dict(_flat(before.config, before.stage)), dict(_flat(now.config, now.stage))
    yield from _changed("config", old, new)
    yield from _changed("input", before.inputs, now.inputs)
    yield from _changed("parent", before.parents, now.parents)


def _changed(kind: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[Difference]:
    for name in sorted({*old, *new}):
        before, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before != now:
            yield Difference(f"{kind} {name}", before, now)


def _flat(value: Json, name: str) -> Iterator[tuple[str, Json]]:
    """Dotted names of nested fields; lists and tuples compare as one value."""
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from _flat(value[key], f"{name}.{key}")
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def _row(
    store: Store,
    config: TrimsConfig,
    node: Node,
    rows: Mapping[str, PlanRow],
    refresh: bool,
    specs: Mapping[str, StageSpec] | None,
) -> PlanRow:
    waiting = [parent for parent in node.parents.values() if rows[parent].artifact is None]
    if waiting:
        return PlanRow(node, "unknown", None, _why_waiting(rows[waiting[0]]))
    key = _key(store, config, node, rows, specs)
    if refresh:
        return PlanRow(node, "miss", key.fingerprint, "asked for with --refresh")
    try:
        artifact = store.find(key)
        if artifact is not None:
            check_budget(config, artifact)
    except StoreError as error:
        return PlanRow(node, "miss", key.fingerprint, f"{_DAMAGED}: {error}")
    except RejectBudgetError as error:
        return PlanRow(node, "miss", key.fingerprint, f"{_OVER_BUDGET}: {error}")
    if artifact is None:
        return PlanRow(node, "miss", key.fingerprint, _why_missing(store, config, node, key))
    made = artifact.manifest
    why = f"made {made.created_at[:19].replace('T', ' ')} UTC in {made.seconds:.1f} s"
    return PlanRow(node, "hit", key.fingerprint, why, artifact)


def _key(
    store: Store,
    config: TrimsConfig,
    node: Node,
    rows: Mapping[str, PlanRow],
    specs: Mapping[str, StageSpec] | None,
) -> StageKey:
    opened = {role: rows[parent].artifact for role, parent in node.parents.items()}
    parents = {role: artifact for role, artifact in opened.items() if artifact is not None}
    return load_spec(node.stage, specs).key(config, node, parents, store.digests)


def _why_waiting(parent: PlanRow) -> str:
    stopped = parent.why.partition(":")[0]
    if stopped in (_DAMAGED, _OVER_BUDGET):
        return f"waits for {parent.node.id}, which is {stopped}"
    return f"waits for {parent.node.id}, which will be remade"


def _why_missing(store: Store, config: TrimsConfig, node: Node, key: StageKey) -> str:
    other = _nearest(store, config, node, key)
    if other is None:
        return "never made"
    found = [str(difference) for difference in differences(other.manifest.key(), key)]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


def _nearest(store: Store, config: TrimsConfig, node: Node, key: StageKey) -> Artifact | None:
    """The newest other artifact made for this node, preferably by a config of the same name."""
    found = [
        artifact
        for artifact in store.artifacts(node.stage)
        if artifact.manifest.node == node.id and artifact.fingerprint != key.fingerprint
    ]
    same_name = [artifact for artifact in found if artifact.manifest.full_config.get("name") == config.name]
    return next(iter(same_name or found), None)
