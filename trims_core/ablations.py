"""Ablations: the arms that a config's section `ablate` asks for, and the nodes that they share.

An arm is the config, the base, with some values changed and the ablated variant alone. Arms are one where all
that is made for them is the same, as their keys say, and so are nodes of different arms.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from trims_core.config import AblateConfig, TrimsConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests, Json
from trims_core.graph import Node, Step, build_graph, select
from trims_core.pinning import pinned
from trims_core.plan import PlanRow, plan
from trims_core.report.compared import FOLDER, write_comparison
from trims_core.report.runs import Run, side_by_side
from trims_core.settings import parse_config, raw_settings, with_values
from trims_core.stage import key_above, load_spec, open_made
from trims_core.store import Store

BASE: Final = "base"
_UNTIL: Final = "grades"
"""Arms are made so far; the rest is said of all of them side by side."""
_COMPARED_UNDER: Final = ("sweep", "report", "ablate", "corpus.system_prompt")
_VARIANTS: Final = "train.variants"
_NOT_IN_A_LABEL: Final = re.compile(r"[^\w.+/-]+")

Values = Mapping[str, Json]
"""Setting, in full → value."""


@dataclass(frozen=True)
class Arm:
    """The base, or the base with other values; it trains the ablated variant alone."""

    label: str
    config: TrimsConfig
    values: Values
    """Empty for the base."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """Node id → id of the step that makes it."""


@dataclass(frozen=True)
class Setting:
    """A row of the table: a value of a factor (in a grid, of each), and the arm that has it."""

    factor: str
    value: str
    label: str


@dataclass(frozen=True)
class Ablation:
    """What is made and compared."""

    file: str
    """The base's settings, as they were asked for."""
    method: str
    mode: str
    arms: tuple[Arm, ...]
    """The base first."""
    settings: tuple[Setting, ...]
    steps: tuple[Step, ...]
    """Every node of every arm once, parents before children; those of the base bear its nodes' ids."""

    @property
    def base(self) -> TrimsConfig:
        """The settings that arms change."""
        return self.arms[0].config


def ablation_of(
    path: str | Path, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> Ablation:
    """The ablation that a config file asks for.

    Args:
        overrides, given: as of `load_config`; they hold for all arms.

    Raises:
        ConfigError: there is no section `ablate`, or some arms cannot be made: every wrong factor and value
            with its place, and the nearest name of an unknown one.
    """
    raw = raw_settings(path, overrides, given=given)
    base = parse_config(raw, source=str(path))
    if base.ablate is None:
        raise ConfigError(f"{path}: no section ablate; expected one with factors (docs/ablations.md)")
    chosen, digests = base.ablate, Store(base.store).digests
    method = chosen.method or next(iter(base.train.variants))
    problems = [*_wrong_factors(chosen, method)]
    found = _Found(method, digests)
    found.add(base, {}, BASE)
    names = _short_names(list(chosen.factors))
    settings = []
    for values in [] if problems else _combinations(chosen):
        label = "+".join(f"{names[factor]}={_in_label(value)}" for factor, value in values.items())
        try:
            arm = found.add(parse_config(with_values(raw, values), source=label), values, label)
        except ConfigError as error:
            problems.append(str(error).removeprefix(f"{label}: "))
            continue
        settings.append(_setting(values, names, arm.label))
    settings = _with_base(settings, names, base)
    problems += [] if problems else _without_effect(settings)
    if problems:
        raise ConfigError(f"{path}: the arms cannot be made:" + "".join(f"\n  {line}" for line in problems))
    words = [shlex.quote(str(path)), *map(shlex.quote, overrides)]
    return Ablation(
        " --set ".join(words),
        method,
        chosen.mode,
        tuple(found.arms),
        tuple(settings),
        tuple(found.steps.values()),
    )


class _Found:
    """The arms and steps so far; what is added and there already is not added again."""

    def __init__(self, method: str, digests: Digests) -> None:
        self._method = method
        self._digests = digests
        self._by_keys: dict[frozenset[str], Arm] = {}
        self.steps: dict[str, Step] = {}
        """By the keys of their nodes."""

    @property
    def arms(self) -> list[Arm]:
        """In the order in which they were added."""
        return list(self._by_keys.values())

    def add(self, config: TrimsConfig, values: Values, label: str) -> Arm:
        """The arm of these settings, or the one for which the same is made. Raises: ConfigError: an input
        cannot be read, or labels are equal."""
        config = _alone(config, self._method)
        graph = _graph(config)
        config = pinned(config, self._digests, graph)
        keys = _keys(config, graph, self._digests)
        made = frozenset(keys.values())
        if made in self._by_keys:
            return self._by_keys[made]
        if any(arm.label == label for arm in self.arms):
            raise ConfigError(f"{label}: two arms are called so; values have to differ in letters or digits")
        for node in graph:
            parents = {role: self.steps[keys[parent]].id for role, parent in node.parents.items()}
            name = node.id if label == BASE else f"{label}/{node.id}"
            self.steps.setdefault(keys[node.id], Step(name, config, node, parents))
        steps = {node: self.steps[key].id for node, key in keys.items()}
        arm = self._by_keys[made] = Arm(label, config, dict(values), steps)
        return arm


def plan_of(ablation: Ablation) -> list[PlanRow]:
    """A row per step, under its id: what a run would do with it."""
    rows: dict[str, PlanRow] = {}
    for arm in ablation.arms:
        for row in plan(Store(arm.config.store), arm.config, _UNTIL):
            step, why = arm.steps[row.node.id], row.why
            for parent in row.node.parents.values():
                why = why.replace(f"waits for {parent},", f"waits for {arm.steps[parent]},")
            rows.setdefault(step, replace(row, node=replace(row.node, id=step), why=why))
    return [rows[step.id] for step in ablation.steps]


def write_ablation(ablation: Ablation, progress: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """The page that compares the arms, all of which are there, and its results.

    Raises:
        MissingArtifactError: something of an arm was never made.
    """
    runs = []
    for arm in ablation.arms:
        words = (shlex.quote(f"{name}={json.dumps(value)}") for name, value in arm.values.items())
        file = " --set ".join([ablation.file, *words])
        opened = open_made(Store(arm.config.store), arm.config, _graph(arm.config), file)
        runs.append(Run(arm.config, opened, arm.label))
    base, *others = dict.fromkeys(run.called(ablation.method) for run in side_by_side(runs))
    out = Path(ablation.base.store) / FOLDER / ablation.base.name
    results = write_comparison(
        runs,
        out,
        title=ablation.base.report.title or f"Ablations: {ablation.base.name}",
        pairs=[(other, base) for other in others],
        ablation=ablation,
        progress=progress,
    )
    return out / "index.html", results


def _graph(config: TrimsConfig) -> tuple[Node, ...]:
    return select(build_graph(config), _UNTIL)


def _keys(config: TrimsConfig, graph: Sequence[Node], digests: Digests) -> dict[str, str]:
    """Node id → its key, with the parents' keys in place of their contents, which nobody knows yet."""
    keys: dict[str, str] = {}
    for node in graph:
        above = {role: keys[parent] for role, parent in node.parents.items()}
        keys[node.id] = key_above(digests, load_spec(node.stage), config, node, above).fingerprint
    return keys


def _alone(config: TrimsConfig, method: str) -> TrimsConfig:
    """The settings with this variant alone, and without what names others."""
    train = config.train.model_copy(update={"variants": {method: config.train.variants[method]}})
    report = config.report.model_copy(update={"compare": None})
    return config.model_copy(update={"train": train, "report": report, "ablate": None})


def _wrong_factors(chosen: AblateConfig, method: str) -> Iterator[str]:
    """Factors that are no field of what arms may differ in."""
    for factor in chosen.factors:
        place = f"ablate.factors.{factor}"
        if any(factor == name or factor.startswith(f"{name}.") for name in _COMPARED_UNDER):
            yield f"{place}: arms are decoded, graded and shown alike; expected a setting of what is trained"
        own = f"{_VARIANTS}.{method}"
        if factor.startswith(_VARIANTS) and not factor.startswith(f"{own}."):
            yield f"{place}: every arm trains {method} alone; expected a field of {own}"


def _combinations(chosen: AblateConfig) -> Iterator[dict[str, Json]]:
    if chosen.mode == "grid":
        for values in itertools.product(*chosen.factors.values()):
            yield dict(zip(chosen.factors, values, strict=True))
        return
    for factor, listed in chosen.factors.items():
        yield from ({factor: value} for value in listed)


def _short_names(factors: Sequence[str]) -> dict[str, str]:
    """The last word of each setting, or as many as tell it from the others."""
    names = {}
    for factor in factors:
        words = factor.split(".")
        ends = [".".join(words[-n:]) for n in range(1, len(words) + 1)]
        names[factor] = next(
            (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in factors) == 1), factor
        )
    return names


def _setting(values: Values, names: Mapping[str, str], label: str) -> Setting:
    return Setting(
        ", ".join(names[factor] for factor in values), ", ".join(map(_text, values.values())), label
    )


def _with_base(settings: Sequence[Setting], names: Mapping[str, str], base: TrimsConfig) -> list[Setting]:
    """With a row of the base's own value where none of a factor's is the base's."""
    shown = base.model_dump(mode="json")
    own = {factor: _value_at(shown, factor) for factor in names}
    by_factor: dict[str, list[Setting]] = {}
    for one in settings:
        by_factor.setdefault(one.factor, []).append(one)
    out = []
    for factor, rows in by_factor.items():
        if all(one.label != BASE for one in rows):
            values = {long: own[long] for long, name in names.items() if name == factor} or own
            out.append(_setting(values, names, BASE))
        out += rows
    return out


def _value_at(shown: Any, factor: str) -> Json:
    for word in factor.split("."):
        shown = shown.get(word) if isinstance(shown, dict) else None
    return shown


def _without_effect(settings: Sequence[Setting]) -> Iterator[str]:
    """Factors of which no value is anything but the base."""
    others = Counter(one.factor for one in settings if one.label != BASE)
    for factor in dict.fromkeys(one.factor for one in settings):
        if not others[factor]:
            yield f"ablate.factors: no value of {factor} changes what is made; expected one that does"


def _in_label(value: Json) -> str:
    return _NOT_IN_A_LABEL.sub("-", _text(value)).strip("-")


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)
