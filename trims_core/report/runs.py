"""The runs that a report shows: one, or several side by side under labels.

Beside others a method is called `<label>:<method>`, after the first run that has it. A method whose sweeps
are the same in several runs (the untuned student, say) is shown once, under its plain name if all have it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trims_core.config import TrimsConfig
from trims_core.errors import ReportError
from trims_core.report.cells import Model, models_by_method

if TYPE_CHECKING:
    from trims_core.store import Artifact


@dataclass(frozen=True)
class Run:
    """Settings, and the artifacts by role that a report is made of."""

    config: TrimsConfig
    parents: Mapping[str, Artifact]
    label: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """Method → what it is called beside other runs' methods; those that are not in it by their own names."""
    left_out: frozenset[str] = frozenset()
    """Methods that an earlier run shows."""

    def called(self, method: str) -> str:
        """What a method is called, whichever run shows it."""
        return self.names.get(method, method)

    def name_of(self, method: str) -> str | None:
        """What a method is called; None where another run shows it."""
        return None if method in self.left_out else self.called(method)

    def methods(self) -> dict[str, list[Model]]:
        """Own name of each method → its models."""
        return models_by_method(self.config)

    def all_shown(self) -> list[Model]:
        """All models that this run shows, as they are called."""
        models = [model for models in self.methods().values() for model in models]
        return [shown for model in models if (shown := self.shown(model)) is not None]

    def shown(self, model: Model) -> Model | None:
        """A model as it is called; None where another run shows it."""
        name = self.name_of(model.method)
        if name is None or name == model.method:
            return None if name is None else model
        return Model(name + model.name.removeprefix(model.method), name, model.seed)


def side_by_side(runs: Sequence[Run]) -> list[Run]:
    """The runs with the names that their methods have beside each other; a single one as it is.

    Raises:
        ReportError: two runs bear one label.
    """
    if len(runs) == 1:
        return list(runs)
    labels = [run.label for run in runs]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ReportError(f"{', '.join(twice)}: the label of several runs; give each one of its own")
    made_of = [{name: _made_of(run, models) for name, models in run.methods().items()} for run in runs]
    names: dict[Hashable, str] = {}
    named = []
    for run, own in zip(runs, made_of, strict=True):
        left_out = set()
        for method, sweeps in own.items():
            if sweeps in names:
                left_out.add(method)
                continue
            in_all = all(sweeps in other.values() for other in made_of)
            names[sweeps] = method if in_all else f"{run.label}:{method}"
        called = {method: names[sweeps] for method, sweeps in own.items()}
        named.append(replace(run, names=called, left_out=frozenset(left_out)))
    return named


def pairs_between(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Every method of the further runs − the first run's method of that name, where these are two."""
    first, *further = runs
    pairs = (
        (run.called(method), first.called(method))
        for run in further
        for method in run.methods()
        if method in first.methods()
    )
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1]]


def renamed(runs: Iterable[tuple[Run, Iterable[Mapping[str, Any]]]], key: str) -> list[dict[str, Any]]:
    """Rows of all runs, each once; at `key` stands one of the run's methods."""
    rows: list[dict[str, Any]] = []
    for run, found in runs:
        for row in found:
            name = run.name_of(row[key])
            renewed = {**row, key: name}
            if name is not None and renewed not in rows:
                rows.append(renewed)
    return rows


def artifacts_of(runs: Sequence[Run]) -> list[tuple[str, Artifact]]:
    """Every artifact once: under its role where all runs have it, else `<label>:<role>` of the first one."""
    if len(runs) == 1:
        return list(runs[0].parents.items())
    owners: dict[Hashable, dict[str, tuple[str, Artifact]]] = {}
    for run in runs:
        for role, artifact in run.parents.items():
            key = (artifact.manifest.stage, artifact.fingerprint, artifact.content_digest)
            owners.setdefault(key, {}).setdefault(run.label, (role, artifact))
    found = []
    for by_label in owners.values():
        label, (role, artifact) = next(iter(by_label.items()))
        found.append((role if len(by_label) == len(runs) else f"{label}:{role}", artifact))
    return found


def _made_of(run: Run, models: Sequence[Model]) -> Hashable:
    """What methods have in common that are the same: their sweeps, by key and content, seed by seed. A model
    that was decoded again elsewhere with other answers is another one."""
    sweeps = [(model.seed, run.parents.get(f"sweep/{model.name}")) for model in models]
    if any(sweep is None for _, sweep in sweeps):
        return (run.label, models[0].method)
    return frozenset((seed, one.fingerprint, one.content_digest) for seed, one in sweeps if one is not None)
