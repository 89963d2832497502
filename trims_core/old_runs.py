"""What version 0.1 left of a run, for those who read it: `trims export` and bench/contrasts.py.

No run takes it for its own: today's keys are others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from trims_core.config import TrimsConfig
from trims_core.graph import Node
from trims_core.plan import Difference, flat
from trims_core.store import Artifact, Store

_PLACES: Final = {"corpus": ("path", "hub"), "scores": ("model",), "student": ("model", "revision")}
"""Where inputs lie: not part of a key, but another place may well be another input."""
_NAMED: Final = 3


@dataclass(frozen=True)
class OldResult:
    """An artifact of version 0.1 that was made for a node."""

    artifact: Artifact
    differs: tuple[Difference, ...]
    """Settings with another value then. Those that only one of the versions knows are not compared."""

    def __str__(self) -> str:
        made = self.artifact.manifest
        more = f" and {len(self.differs) - _NAMED} more" if len(self.differs) > _NAMED else ""
        others = f" with other settings ({', '.join(map(str, self.differs[:_NAMED]))}{more})"
        return f"{made.stage}/{made.fingerprint[:12]}, made by version 0.1{others if self.differs else ''}"


def old_results(store: Store, config: TrimsConfig, node: Node) -> list[OldResult]:
    """Those of a node and a config's name, newest first."""
    return [
        OldResult(artifact, tuple(_differences(artifact, config, node)))
        for artifact in store.artifacts(node.stage)
        if artifact.manifest.is_old
        and artifact.manifest.node == node.id
        and artifact.manifest.full_config.get("name") == config.name
    ]


def _differences(artifact: Artifact, config: TrimsConfig, node: Node) -> Iterator[Difference]:
    sections: Any = artifact.manifest.full_config
    for section, fields in _settings(config, node).items():
        before = dict(flat(sections.get(section, {}), section))
        for name, now in flat(fields, section):
            if name in before and before[name] != now:
                yield Difference(f"config {name}", before[name], now)


def _settings(config: TrimsConfig, node: Node) -> dict[str, dict[str, Any]]:
    """All that a node's result may depend on, by section; other variants and seeds are left out."""
    fields: dict[str, Any] = config.result_fields()
    del fields["name"], fields["report"], fields["train"]["seeds"]
    if node.stage == "train":
        del fields["sweep"]
    variants = fields["train"].pop("variants")
    own = node.params["variant"]
    if own is not None:
        fields["train"]["variants"] = {own: variants[own]}
    stated = config.model_dump(mode="json")
    for section, names in _PLACES.items():
        if stated[section] is None:
            continue
        fields[section] |= {name: stated[section][name] for name in names}
    return fields
