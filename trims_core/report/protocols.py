"""Under which protocol and on which machine a task's cells were made, and what may not stand beside what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from trims_core.config import TrimsConfig
from trims_core.errors import ReportError
from trims_core.report.cells import Cell, describe

_COMPARED: Final = ("device", "dtype", "torch", "cuda")


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
    """profile, departures from it, its source, what is not known of it, the problems it is published on."""
    chosen = config.sweep.tasks[task]
    protocol = chosen.protocol
    if protocol is None:
        return {"profile": None, "departures": []}
    return {
        "profile": chosen.profile,
        "departures": config.sweep.departures(task),
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
