"""Under which protocol and on which machine a task's cells were made, and what may not stand beside what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from trims_core.config import TrimsConfig
from trims_core.errors import ReportError
from trims_core.published import points_of
from trims_core.report.cells import Cell, describe
from trims_core.report.runs import Run
from trims_core.report.text_table import DASH, TextTable

UNPROTECTED: Final = "without a sandbox"
"""In the names of graders that ran programs unprotected."""
_SPEEDS: Final = ("tokens_per_forward", "tokens_per_second")
_DECODED_BY: Final = (
    "rule",
    "cache",
    "multi_block_add",
    "dream_steps",
    "pipeline_add",
    "pipeline_activate",
    "gamma_min",
)
_COMPARED: Final = ("device", "dtype", "torch", "cuda")


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises ReportError where runs ask, decode or grade a task of one name differently.

    Of a task everything but its limit counts, and of the sweep everything but its points and further caches:
    cells of one task stand beside each other, and a page says once how they were made.
    """
    told = []
    for task in dict.fromkeys(task for run in runs for task in run.config.sweep.tasks):
        first, *others = (run for run in runs if task in run.config.sweep.tasks)
        expected = _asked_as(first, task)
        for run in others:
            found = _asked_as(run, task)
            differing = (
                f"{name} {expected[name]!r} in {first.label} and {found[name]!r} in {run.label}"
                for name in expected
                if expected[name] != found[name]
            )
            if text := "; ".join(differing):
                told.append(f"task {task}: {text}")
    if told:
        raise ReportError(
            "the runs cannot be compared:"
            + "".join(f"\n  {line}" for line in told)
            + "\nExpected the same of all; make them again with one protocol, or call tasks that differ by"
            " different names"
        )


def _asked_as(run: Run, task: str) -> dict[str, Any]:
    """All that a task's cells depend on beside the models, the points and how many problems there are."""
    sweep, chosen = run.config.sweep, run.config.sweep.tasks[task]
    graded = [artifact for role, artifact in run.parents.items() if role.startswith("grades/")]
    inputs = next((one.manifest.inputs for one in graded if f"grader.{task}" in one.manifest.inputs), {})
    return {
        "benchmark": chosen.benchmark_name,
        "profile": chosen.profile,
        "question column": chosen.question,
        "answer column": chosen.answer,
        "system prompt": None if chosen.profile else run.config.corpus.system_prompt,
        "digest of the problems": inputs.get(f"benchmark.{task}"),
        "graders": inputs.get(f"grader.{task}"),
        **{name: getattr(sweep, name) for name in _DECODED_BY},
        **sweep.decoding(task)._asdict(),
    }


def check_machines(cells: Sequence[Cell], *, mixed: bool) -> list[str]:
    """What was decoded on different machines, in different number formats or with different versions.

    Cells that do not say are left out: they were made before cells said so.

    Args:
        mixed: tell it instead of refusing.

    Raises:
        ReportError: cells of a task differ, and `mixed` is not set; names one cell of each kind.
    """
    told = []
    for task in dict.fromkeys(cell.task for cell in cells):
        firsts: dict[tuple[Any, ...], Cell] = {}
        for cell in (cell for cell in cells if cell.task == task):
            for machine in cell.about.get("machines", ()):
                firsts.setdefault(tuple(machine[name] for name in _COMPARED), cell)
        if len(firsts) < 2:
            continue
        kinds = "; ".join(
            f"{describe(cell.key, cell.rule)} with {_shown(kind)}" for kind, cell in firsts.items()
        )
        if not mixed:
            raise ReportError(
                f"task {task}: cells were decoded under different conditions ({kinds}); expected one machine,"
                " number format and version, which move accuracies by points. Decode them again in one place"
                " (--refresh sweep), or show them all the same, with a warning: --set report.mixed=true"
            )
        told.append(f"{task}: cells of different machines, number formats or versions are compared: {kinds}.")
    return told


def protocol_of(config: TrimsConfig, task: str) -> dict[str, Any]:
    """profile, departures from it, its source, what is not known of it, the problems it is published on, and
    what others published under it.

    Of the published points those alone that may stand beside this task's: of a profile that is followed, with
    the same cache. Another one is refused, not marked.
    """
    chosen = config.sweep.tasks[task]
    protocol = chosen.protocol
    if protocol is None:
        return {"profile": None, "departures": [], "published": []}
    departures = config.sweep.departures(task)
    is_followed = departures.keys() <= {"cache"}
    points = points_of(str(chosen.profile)) if is_followed else ()
    return {
        "profile": chosen.profile,
        "departures": list(departures.values()),
        "published": [point.model_dump() for point in points if point.cache == config.sweep.cache],
        "source": protocol.source,
        "unknown": protocol.unknown,
        "samples": protocol.samples,
    }


def protocol_text(found: Mapping[str, Any]) -> str:
    """For people: `Profile gsm8k@d3llm-cot0, but for gen_length 64 (profile: 256).`"""
    protocol = found["protocol"]
    if protocol["profile"] is None:
        return "No profile: prompt and decoding are this run's own, beside no published number."
    departs = f", but for {'; '.join(protocol['departures'])}" if protocol["departures"] else ""
    unknown = f" Not known of the published protocol: {protocol['unknown']}" if protocol["unknown"] else ""
    return f"Profile {protocol['profile']}{departs}.{unknown}"


def published_table(task: str, found: Mapping[str, Any]) -> TextTable | None:
    """What others published under the task's profile; None where nothing may stand beside it."""
    rows = [
        (
            f"{point['method']} ({point['model']})",
            f"{point['accuracy']:.1f}",
            *(DASH if point[name] is None else f"{point[name]:.2f}" for name in _SPEEDS),
            point["counting"] or "not stated",
            point["hardware"],
            point["source"] + (f"; {point['remark']}" if point["remark"] else ""),
        )
        for point in found["protocol"]["published"]
    ]
    if not rows:
        return None
    return TextTable(
        f"{task}: published under profile {found['protocol']['profile']} with cache {found['cache']},"
        " on other machines and by other programs",
        ("method", "accuracy, %", "tokens per forward", "tokens/s", "tokens counted", "hardware", "source"),
        tuple(rows),
    )


def warnings_of(results: Mapping[str, Any]) -> Iterator[str]:
    """What limits numbers by their protocol: departures, batching, several machines."""
    yield from results["mixed"]
    for task, found in results["tasks"].items():
        protocol = found["protocol"]
        if protocol["departures"]:
            yield (
                f"{task}: not profile {protocol['profile']} as published, and to be compared with nothing"
                f" published under it: {'; '.join(protocol['departures'])}."
            )
        if UNPROTECTED in str(found["grader"]):
            yield f"{task}: programs ran without a sandbox, where they can forge a verdict."
        for cell in found["cells"]:
            check = cell["check"]
            if check and check["n_changed"]:
                yield (
                    f"{task}: decoded one at a time, {check['n_changed']} of {check['n']} answers of"
                    f" {cell['model']} have other tokens than in batches of {cell['batch_size']}."
                )


def _shown(kind: tuple[Any, ...]) -> str:
    device, dtype, torch, cuda = kind
    return f"{device}, {dtype}, torch {torch}" + (f", CUDA {cuda}" if cuda else "")
