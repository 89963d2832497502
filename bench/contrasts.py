"""The report's tables of levels and differences for methods that live in several configs, as Markdown.

usage: python bench/contrasts.py CONFIG [CONFIG …] --pairs a:b [a:b …] [--levels TPF …] [--seeds-so-far]
           [--old]
For a study whose arms are spread over configs (other teachers, other students), also while it is still
running: finished grades and their sweeps are taken from each config's store, a method with a seed that is not
there yet is named and left out (with --seeds-so-far only that seed is). Nothing is made. A CONFIG may carry
settings: "configs/demo-study-controls.yaml name=unigram scores.teacher=unigram".

A name is a key of train.variants or `untuned`. Where two configs have it, it is one method if their grades of
a common seed are the same artifact; otherwise the name is the first config's, and the other is CONFIG/METHOD,
CONFIG being that config's `name`. Methods are compared on the problems they share. Resamples, and levels
without --levels, are those of the first config's report settings. With --old, what version 0.1 swept with the
same settings stands in for what is not there; the list of sources says so.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trims_core.config import TrimsConfig
from trims_core.errors import TrimsError, nearest_name
from trims_core.graph import Node
from trims_core.old_runs import old_results
from trims_core.plan import plan
from trims_core.report.caveats import levels_left_out
from trims_core.report.cells import Cell, Model, read_cells, same_problems
from trims_core.report.results import comparison_of
from trims_core.report.tables import MEANINGS_OF_INTERVALS, contrasts
from trims_core.settings import load_config
from trims_core.stage import StageSpec
from trims_core.store import Artifact, Store

Seed = int | None


@dataclass(frozen=True)
class Graded:
    """A model's sweep and its grades; one of version 0.1 is both."""

    sweep: Artifact
    grades: Artifact


@dataclass
class Arm:
    """A method and what is finished of its seeds."""

    config: str
    graded: dict[Seed, Graded] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def main() -> int:
    """0 unless the arguments are wrong, or what is there contradicts itself."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", type=shlex.split, metavar="CONFIG")
    parser.add_argument("--pairs", nargs="+", required=True, metavar="a:b")
    parser.add_argument("--levels", nargs="+", type=float, metavar="TPF")
    parser.add_argument("--seeds-so-far", action="store_true")
    parser.add_argument("--old", action="store_true")
    options = parser.parse_args()
    try:
        configs = [load_config(path, settings) for path, *settings in options.configs]
        told = {"seeds_so_far": options.seeds_so_far, "old": options.old}
        print(markdown(configs, options.pairs, options.levels, **told))
    except (TrimsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def markdown(
    configs: Sequence[TrimsConfig],
    pairs: Sequence[str],
    levels: Sequence[float] | None = None,
    *,
    seeds_so_far: bool = False,
    old: bool = False,
    specs: Mapping[str, StageSpec] | None = None,
) -> str:
    """The whole text. Raises: ValueError: a pair names no method, or the configs decode differently."""
    decoded = {(config.sweep.rule, config.sweep.cache) for config in configs}
    if len(decoded) > 1:
        raise ValueError(f"the configs decode differently ({sorted(decoded)}): expected one rule and cache")
    arms = merged([arms_of(config, specs, old=old) for config in configs])
    wanted = [_named(text, arms) for text in pairs]
    shown = {name: arms[name] for name in dict.fromkeys(name for pair in wanted for name in pair)}
    there = {name: arm for name, arm in shown.items() if arm.graded and (seeds_so_far or not arm.missing)}
    lines = [_source(name, arm, left_out=name not in there) for name, arm in shown.items()]
    report = configs[0].report
    if levels is not None:
        report = report.model_copy(update={"levels": tuple(levels)})
    cells = [
        cell
        for name, arm in there.items()
        for cell in _cells(name, arm)
        if cell.cache == configs[0].sweep.cache
    ]
    cells, reduced = same_problems(cells, partial=True)
    parts = ["\n".join(f"- {line}" for line in [*lines, *reduced])]
    for task in dict.fromkeys(cell.task for cell in cells):
        found = comparison_of(task, [cell for cell in cells if cell.task == task], wanted, report)
        says = [pair["sentence"] for pair in found["comparisons"]] + list(levels_left_out(task, found))
        parts.append(f"## {task}\n\n" + "\n".join(f"- {line}" for line in says))
        parts += [table.markdown() for table in contrasts(task, found)]
    return "\n\n".join([*parts, " ".join(MEANINGS_OF_INTERVALS)])


def arms_of(
    config: TrimsConfig, specs: Mapping[str, StageSpec] | None = None, *, old: bool = False
) -> dict[str, Arm]:
    """A config's methods with their finished grades, looked up as a run would.

    Args:
        old: take sweeps of version 0.1 with the same settings for what is not there.
    """
    arms: dict[str, Arm] = {}
    store = Store(config.store)
    rows = {row.node.id: row for row in plan(store, config, until="grades", specs=specs)}
    for row in rows.values():
        if row.node.stage != "grades":
            continue
        variant, seed = row.node.params["variant"], row.node.params["seed"]
        arm = arms.setdefault("untuned" if variant is None else str(variant), Arm(config.name))
        seed = None if seed is None else int(str(seed))
        sweep = rows[row.node.parents["sweep"]]
        if row.artifact is not None and sweep.artifact is not None:
            arm.graded[seed] = Graded(sweep.artifact, row.artifact)
        elif old and (before := _before(store, config, sweep.node)):
            arm.graded[seed] = Graded(before, before)
        else:
            first = row if sweep.artifact is not None else sweep
            arm.missing.append(f"{first.node.id} ({first.why})")
    return arms


def _before(store: Store, config: TrimsConfig, sweep: Node) -> Artifact | None:
    """The newest sweep of version 0.1 with these settings."""
    found = (one.artifact for one in old_results(store, config, sweep) if not one.differs)
    newest = next(found, None)
    return None if newest is None else store.open(newest.path)


def merged(found: Sequence[Mapping[str, Arm]]) -> dict[str, Arm]:
    """All configs' methods by name; another method of a name that is taken is called CONFIG/METHOD."""
    arms: dict[str, Arm] = {}
    for of_config in found:
        for name, arm in of_config.items():
            first = arms.get(name)
            if first is None:
                arms[name] = arm
            elif _same(first, arm):
                first.graded |= arm.graded
                first.missing += [text for text in arm.missing if text not in first.missing]
            else:
                arms[f"{arm.config}/{name}"] = arm
    return arms


def _same(one: Arm, other: Arm) -> bool:
    shared = one.graded.keys() & other.graded.keys()
    return bool(shared) and all(
        one.graded[seed].grades.fingerprint == other.graded[seed].grades.fingerprint for seed in shared
    )


def _named(text: str, arms: Mapping[str, Arm]) -> tuple[str, str]:
    a, colon, b = text.partition(":")
    for name in (a, b):
        if name not in arms or not colon or a == b:
            raise ValueError(f"--pairs {text}: expected two methods as a:b; {nearest_name(name, arms)}")
    return a, b


def _source(name: str, arm: Arm, *, left_out: bool) -> str:
    """Where a method comes from, and what is missing."""
    seeds = ", ".join(
        f"{'' if seed is None else f'seed {seed} '}{found.grades.fingerprint[:12]}"
        f"{' (version 0.1)' if found.grades.manifest.is_old else ''}"
        for seed, found in arm.graded.items()
    )
    missing = f"; not there: {'; '.join(arm.missing)}" if arm.missing else ""
    return f"{name} of {arm.config}{' (left out)' if left_out else ''}: {seeds or 'no grades'}{missing}"


def _cells(name: str, arm: Arm) -> list[Cell]:
    """A method's cells under the name it has here."""
    return [
        cell
        for seed, found in arm.graded.items()
        for cell in read_cells(_model(name, seed), found.sweep, found.grades)
    ]


def _model(name: str, seed: Seed) -> Model:
    if seed is None:
        return Model(name, None if name == "untuned" else name)
    return Model(f"{name}-s{seed}", name, seed)


if __name__ == "__main__":
    sys.exit(main())
