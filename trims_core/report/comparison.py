"""What the cells say about methods: curves, accuracy at equal parallelism, differences with two intervals.

A method is `untuned` or a variant of the training settings; its models are its seeds. The headline is the
mean accuracy over the tokens per forward that all methods share; accuracy at some levels, at one token per
forward, and AUP follow. Differences pair problems and equal seeds: seed s of both methods shares the order of
the data, so the variance of the paired differences is right whether that makes them move together or not (it
costs degrees of freedom against seeds that are known to be independent). A method that is not trained has no
seeds to vary and stands against every seed of the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from trims_core.curves import wilson_interval
from trims_core.errors import ReportError, nearest_name
from trims_core.graph import UNTUNED
from trims_core.points import parallelism_order
from trims_core.report.cells import Cell
from trims_core.report.intervals import NO_BOUNDS, Estimate, Interval, estimate, rounded
from trims_core.report.levels import Levels
from trims_core.report.multiplicity import holm, mcnemar
from trims_core.report.resampling import Bools, Floats, Resampled, common_seeds, difference, right_at_one
from trims_core.report.runs import Run
from trims_core.report.verdicts import verdict

Pair = tuple[str, str]


def methods_of(run: Run) -> list[dict[str, Any]]:
    """Name, kind, method and settings of everything that a run compares, in the order of the settings,
    `untuned` first. Kinds: untuned, baseline (what other methods are measured against), trained."""
    methods: list[dict[str, Any]] = []
    config = run.config
    if config.sweep.untuned and (name := run.name_of(UNTUNED)):
        methods.append({"name": name, "kind": "untuned", "method": None, "seeds": [], "settings": {}})
    for own, variant in config.train.variants.items():
        if (name := run.name_of(own)) is None:
            continue
        methods.append(
            {
                "name": name,
                "kind": "baseline" if variant.baseline else "trained",
                "method": variant.method,
                "seeds": list(config.train.seeds),
                "settings": variant.result_fields(),
            }
        )
    return methods


def pairs_to_compare(methods: Sequence[Mapping[str, Any]], asked: Sequence[Pair] | None = None) -> list[Pair]:
    """Which differences are reported: those asked for, in their order, each once.

    By default each variant − each baseline; of one method's variants that differ in one setting the first −
    the other; each variant − untuned.
    """
    if asked is not None:
        return list(dict.fromkeys(asked))
    of_kind = {
        kind: [m["name"] for m in methods if m["kind"] == kind] for kind in ("untuned", "baseline", "trained")
    }
    pairs = list(itertools.product(of_kind["trained"], of_kind["baseline"]))
    pairs += [
        (one["name"], other["name"])
        for one, other in itertools.combinations(methods, 2)
        if one["method"] == other["method"] and _n_differences(one["settings"], other["settings"]) == 1
    ]
    pairs += list(itertools.product(of_kind["baseline"] + of_kind["trained"], of_kind["untuned"]))
    return pairs


def check_pairs(pairs: Sequence[Pair], methods: Sequence[Mapping[str, Any]]) -> None:
    """Raises ReportError for a name that no method has."""
    known = [method["name"] for method in methods]
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        if name not in known:
            raise ReportError(f"pairs: no method {name!r} on this page; {nearest_name(name, known)}")


def _n_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one.get(name) != other.get(name) for name in {**one, **other})


def points_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One method's curve with one cache: per threshold the mean over seeds with a Wilson 95 % interval, and
    each seed, from the least parallel point to the most parallel.

    The interval is that of one run with the seeds' mean number of right answers: n is the number of
    problems, because the seeds answer the same ones.
    """
    points = []
    thresholds = sorted({c.threshold for c in cells}, key=partial(parallelism_order, cells[0].rule))
    for threshold in thresholds:
        group = [cell for cell in cells if cell.threshold == threshold]
        low, high = wilson_interval(float(np.mean([cell.n_correct for cell in group])), group[0].n)
        points.append(
            {
                "threshold": threshold,
                "tpf": rounded(np.mean([cell.tpf for cell in group])),
                "accuracy": rounded(np.mean([cell.n_correct / cell.n for cell in group])),
                "tokens_per_second": rounded(np.mean([cell.tokens_per_second for cell in group])),
                "forwards_per_answer": rounded(np.mean([cell.forwards_per_answer for cell in group])),
                "low": rounded(low),
                "high": rounded(high),
                "n": group[0].n,
                "n_seeds": len(group),
                "seeds": [
                    {
                        "seed": cell.seed,
                        "tpf": rounded(cell.tpf),
                        "accuracy": rounded(cell.n_correct / cell.n),
                        "tokens_per_second": rounded(cell.tokens_per_second),
                        "forwards_per_answer": rounded(cell.forwards_per_answer),
                    }
                    for cell in group
                ],
            }
        )
    return points


@dataclass(frozen=True)
class Headline:
    """What is told of a method or a difference of two; None where cells are missing or no range is shared."""

    mean: Estimate | None
    at_level: tuple[Estimate, ...]
    at_forwards: tuple[Estimate, ...]
    one: Estimate | None
    aup: Estimate

    def row(self, levels: Levels) -> dict[str, Any]:
        """For results.json."""
        at = [{"tpf": tpf, **one.row()} for tpf, one in zip(levels.tpf, self.at_level, strict=True)]
        equal = zip(levels.forwards, self.at_forwards, strict=True)
        return {
            "mean_over_range": None if self.mean is None else self.mean.row(),
            "at_level": at,
            "at_forwards": [{"forwards": number, **one.row()} for number, one in equal],
            "one_token_per_forward": None if self.one is None else self.one.row(),
            "aup": self.aup.row(),
        }


def headline(method: Resampled, within: Interval = NO_BOUNDS) -> Headline:
    """The numbers with their intervals. Args: within: ends that an accuracy cannot pass."""
    seeds = method.seeds

    def each(values_RSX: Floats) -> tuple[Estimate, ...]:
        return tuple(estimate(values_RS, seeds, within=within) for values_RS in np.moveaxis(values_RSX, 2, 0))

    return Headline(
        mean=None if method.mean_RS is None else estimate(method.mean_RS, seeds, within=within),
        at_level=each(method.at_level_RSL),
        at_forwards=each(method.at_forwards_RSF),
        one=None if method.one_RS is None else estimate(method.one_RS, seeds, within=within),
        aup=estimate(method.aup_RS, seeds),
    )


def numbers_of(method: Resampled, levels: Levels) -> dict[str, Any]:
    """One method's numbers, for results.json."""
    seeds = [seed for seed in method.seeds if seed is not None]
    return {"seeds": seeds, **headline(method, within=(0.0, 1.0)).row(levels)}


def compare_all(
    pairs: Sequence[Pair], task: str, methods: Mapping[str, Resampled], levels: Levels, n: int
) -> list[dict[str, Any]]:
    """The differences a − b of all pairs on one task, with adjusted p-values and a verdict each.

    Args:
        methods: by name, over the same problems.
        n: problems.
    """
    found = adjusted([headline(difference(methods[a], methods[b])) for a, b in pairs])
    tests = _mcnemar_tests([right_at_one(methods[a], methods[b]) for a, b in pairs])
    out = []
    for (a, b), each, test in zip(pairs, found, tests, strict=True):
        seeds = [seed for seed in common_seeds(methods[a].seeds, methods[b].seeds) if seed is not None]
        row = {"a": a, "b": b, "n": n, "seeds": seeds, **each.row(levels), "mcnemar": test}
        row["verdict"], row["sentence"] = verdict(row, task, levels)
        out.append(row)
    return out


def adjusted(table: Sequence[Headline]) -> list[Headline]:
    """The same differences with Holm's p-values: one family of the means, levels and equal forwards of all.

    One token per forward is McNemar's, which is a table of its own; AUP leads nothing, so it is not tested.
    """
    judged = [
        one for each in table for one in (each.mean, *each.at_level, *each.at_forwards) if one is not None
    ]
    p_holm = iter(holm([one.p for one in judged if one.p is not None]))

    def with_p(one: Estimate) -> Estimate:
        return one if one.p is None else replace(one, p_holm=next(p_holm))

    return [
        replace(
            each,
            mean=None if each.mean is None else with_p(each.mean),
            at_level=tuple(with_p(one) for one in each.at_level),
            at_forwards=tuple(with_p(one) for one in each.at_forwards),
        )
        for each in table
    ]


def _mcnemar_tests(pairs: Sequence[tuple[Bools, Bools] | None]) -> list[dict[str, Any] | None]:
    """McNemar's test of every pair, with Holm's p-values over the pairs that have one."""
    tests = [None if both is None else mcnemar(*both) for both in pairs]
    p_holm = iter(holm([test["p"] for test in tests if test is not None]))
    return [
        None
        if test is None
        else {
            **test,
            "p_by_seed": [rounded(p) for p in test["p_by_seed"]],
            "p": rounded(test["p"]),
            "p_holm": rounded(next(p_holm)),
        }
        for test in tests
    ]
