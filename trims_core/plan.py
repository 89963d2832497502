"""What a run would do and why, without doing it.

Covered: every node's state from the store, the refresh list and the reject budget; for a miss, which config
field, input or parent differs from the newest artifact of the same node. Nothing heavy is imported and no
data is read that was read before on this host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from trims_core.config import TrimsConfig
from trims_core.errors import IncompleteArtifactError, InputError, StoreError, TeacherError
from trims_core.fingerprint import Json
from trims_core.graph import Node, build_graph, node_named, refreshed, select
from trims_core.pinning import pinned
from trims_core.stage import StageSpec, Unit, Work, check_gate, load_spec, node_key, unit_key
from trims_core.store import Artifact, StageKey, Store, UnitKey
from trims_core.store.artifact import read_unit

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
    units: UnitsThere | None = None
    """Of a miss whose units are known before its work begins."""


@dataclass(frozen=True)
class UnitsThere:
    """How many units of a node there are."""

    n_there: int
    n_all: int
    missing: tuple[Unit, ...] = ()

    def __str__(self) -> str:
        return f"{self.n_there} of {self.n_all} units are there"


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
    units: UnitsThere | None = None
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Why units are missing → their names: what in their keys is not as in the compared artifact's unit of
    the same name."""


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
    config = pinned(config, store.digests, graph)
    again = refreshed(graph, refresh)
    planner = _Planner(store, config, specs)
    return [planner.look_up(node, refresh=node.id in again) for node in graph]


def explain(
    store: Store, config: TrimsConfig, node: Node | str, specs: Mapping[str, StageSpec] | None = None
) -> Explanation:
    """Why a node is a hit or not: its key against the newest artifact of the same node, field by field."""
    graph = build_graph(config)
    wanted = node_named(graph, node) if isinstance(node, str) else node
    needed = select(graph, wanted.id)
    planner = _Planner(store, pinned(config, store.digests, needed), specs)
    rows = {one.id: planner.look_up(one) for one in needed}
    row = rows[wanted.id]
    if row.state != "miss":
        return Explanation(wanted, row.state, row.fingerprint, row.why, None, ())
    key = planner.key(wanted)
    other = planner.nearest(wanted, key)
    found = () if other is None else tuple(differences(other.manifest.key(), key))
    if other is not None and other.manifest.is_old:  # many fields of its key have other names
        found = tuple(one for one in found if _ABSENT not in (one.before, one.now))
    missing = {} if row.units is None else planner.why_units_are_missing(other, row.units.missing)
    return Explanation(wanted, row.state, row.fingerprint, row.why, other, found, row.units, missing)


def differences(before: StageKey, now: StageKey) -> Iterator[Difference]:
    """The fields in which two keys of a stage differ."""
    if before.version != now.version:
        yield Difference("stage version", before.version, now.version)
    if before.schema_version != now.schema_version:
        yield Difference("table schema version", before.schema_version, now.schema_version)
    old, new = dict(flat(before.config, before.stage)), dict(flat(now.config, now.stage))
    yield from _changed("config", old, new)
    yield from _changed("input", before.inputs, now.inputs)
    yield from _changed("parent", before.parents, now.parents)


def _changed(kind: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[Difference]:
    for name in sorted({*old, *new}):
        before, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before != now:
            yield Difference(f"{kind} {name}", before, now)


def flat(value: Json, name: str) -> Iterator[tuple[str, Json]]:
    """Dotted names of nested fields; lists and tuples compare as one value."""
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from flat(value[key], key if key == name else f"{name}.{key}")
    else:
        yield name, list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class _Planner:
    """Looks nodes up one after the other, parents before children."""

    store: Store
    config: TrimsConfig
    specs: Mapping[str, StageSpec] | None
    rows: dict[str, PlanRow] = field(default_factory=dict)
    """Of the nodes looked up so far, by id."""

    def look_up(self, node: Node, *, refresh: bool = False) -> PlanRow:
        """What a run would do with the node."""
        row = self.rows[node.id] = self._row(node, refresh)
        return row

    def key(self, node: Node) -> StageKey:
        """The key of a node whose parents are all there."""
        return node_key(self.store, self._spec(node), self.config, node, self._parents(node))

    def nearest(self, node: Node, key: StageKey) -> Artifact | None:
        """The newest other artifact made for this node, if there are such by this version and by a config of
        the same name."""
        found = [
            artifact
            for artifact in self.store.artifacts(node.stage)
            if artifact.manifest.node == node.id and artifact.fingerprint != key.fingerprint
        ]
        found = [artifact for artifact in found if not artifact.manifest.is_old] or found
        name = self.config.name
        same_name = [artifact for artifact in found if artifact.manifest.full_config.get("name") == name]
        return next(iter(same_name or found), None)

    def why_units_are_missing(
        self, other: Artifact | None, missing: Sequence[Unit]
    ) -> dict[str, tuple[str, ...]]:
        """Reason → names of units; what differs from the unit of that name in the other artifact."""
        if other is None:
            return {"never made": tuple(unit.name for unit in missing)} if missing else {}
        spec = load_spec(other.manifest.stage, self.specs)
        before = {unit.name: unit for unit in other.manifest.units}
        found: dict[str, list[str]] = {}
        for unit in missing:
            why = "no such unit before"
            if unit.name in before:
                old = _unit_key_of(other, before[unit.name].fingerprint)
                why = "removed or damaged" if old is None else _changes(old, unit_key(spec, unit))
            found.setdefault(why, []).append(unit.name)
        return {why: tuple(names) for why, names in found.items()}

    def _row(self, node: Node, refresh: bool) -> PlanRow:
        waiting = [parent for parent in node.parents.values() if self.rows[parent].artifact is None]
        if waiting:
            return PlanRow(node, "unknown", None, _why_waiting(self.rows[waiting[0]]))
        key = self.key(node)
        if refresh:
            return PlanRow(node, "miss", key.fingerprint, "asked for with --refresh")
        try:
            artifact = self.store.find(key)
            if artifact is not None:
                check_gate(self._spec(node), self.config, node, artifact)
        except StoreError as error:
            return PlanRow(node, "miss", key.fingerprint, f"{_DAMAGED}: {error}")
        except TeacherError as error:  # what the scores' gate raises
            return PlanRow(node, "miss", key.fingerprint, f"{_OVER_BUDGET}: {error}")
        if artifact is None:
            units = self._units_there(node, key)
            why = self._why_missing(node, key)
            return PlanRow(node, "miss", key.fingerprint, f"{why}; {units}" if units else why, None, units)
        made = artifact.manifest
        why = f"made {made.created_at[:19].replace('T', ' ')} UTC in {made.seconds:.1f} s"
        return PlanRow(node, "hit", key.fingerprint, why, artifact)

    def _spec(self, node: Node) -> StageSpec:
        return load_spec(node.stage, self.specs)

    def _parents(self, node: Node) -> dict[str, Artifact]:
        opened = {role: self.rows[parent].artifact for role, parent in node.parents.items()}
        return {role: artifact for role, artifact in opened.items() if artifact is not None}

    def _units_there(self, node: Node, key: StageKey) -> UnitsThere | None:
        """None where the units are known only once the work has begun (corpus, buckets), or not at all."""
        spec = self._spec(node)
        if spec.begin is not None:
            return None
        settings = spec.settings(self.config, node)
        work = Work(node.id, settings, key.inputs, self._parents(node), lambda *_: None)
        try:
            units = spec.units(work, None)
        except InputError:
            return None  # the run says what is wrong with the parents
        missing = tuple(unit for unit in units if self.store.units.find(unit_key(spec, unit)) is None)
        return UnitsThere(len(units) - len(missing), len(units), missing) if units else None

    def _why_missing(self, node: Node, key: StageKey) -> str:
        other = self.nearest(node, key)
        if other is None:
            return "never made"
        if other.manifest.is_old:
            return f"only one of version 0.1 is there ({other.fingerprint[:12]})"
        found = [str(difference) for difference in differences(other.manifest.key(), key)]
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return ", ".join(found[:_NAMED]) + more


def _unit_key_of(artifact: Artifact, fingerprint: str) -> UnitKey | None:
    (ref,) = (unit for unit in artifact.units if unit.fingerprint == fingerprint)
    try:
        return read_unit(artifact.unit_folder(ref)).key
    except IncompleteArtifactError:
        return None


def _changes(before: UnitKey, now: UnitKey) -> str:
    """What differs between two units' keys, in a few words."""
    old, new = dict(flat(before.settings, before.stage)), dict(flat(now.settings, now.stage))
    found = [*_changed("config", old, new), *_changed("input", before.inputs, now.inputs)]
    texts = [str(one) for one in found[:_NAMED]]
    texts += ["stage version changed"] if before.version != now.version else []
    return ", ".join(texts) or "removed or damaged"


def _why_waiting(parent: PlanRow) -> str:
    stopped = parent.why.partition(":")[0]
    if stopped in (_DAMAGED, _OVER_BUDGET):
        return f"waits for {parent.node.id}, which is {stopped}"
    return f"waits for {parent.node.id}, which will be remade"
