"""The stage `report`: one artifact with the page, the JSON that it is made of, tables and figures.

It has no units: all its files span the run, and writing them takes seconds. They follow from the parents and
the settings alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import UnitRecord

REPORT_VERSION: Final = 9

_STEPS: Final = 4


def inputs(config: TrimsConfig, digests: Digests) -> dict[str, str]:
    """The student's tokenizer, with which examples are cut into pieces."""
    return {"student_tokenizer": digests.tokenizer(config.student.model, config.student.revision)}


def finish(work: Work, _facts: None, _done: Mapping[str, UnitRecord]) -> Outcome:
    """Collects, draws and writes.

    Raises:
        ReportError: cells are missing or contradict each other; losses or histograms that cannot be right.
    """
    from trims_core.rendering import load_tokenizer
    from trims_core.report.files import write_all
    from trims_core.report.played import played_samples
    from trims_core.report.results import collect
    from trims_core.report.runs import Run

    config: TrimsConfig = work.settings
    work.progress(0, _STEPS, "loading the student's tokenizer")
    tokenizer = load_tokenizer(config.student.model, config.student.revision)
    results = collect(
        config,
        work.parents,
        tokenizer,
        partial=config.report.partial,
        progress=lambda note: work.progress(1, _STEPS, note),
    )
    work.progress(2, _STEPS, "samples for the player")
    samples = played_samples([Run(config, work.parents)], tokenizer)
    names = write_all(results, samples, work.folder, lambda note: work.progress(3, _STEPS, note))
    fault_point("report.before_record")
    work.progress(_STEPS, _STEPS, "")
    coverage = results["coverage"]
    return Outcome(
        counts={"n_in": coverage["cells_expected"], "n_out": coverage["cells_found"]},
        info={
            "page": "index.html",
            "figures": [name for name in names if name.startswith("figures/")],
            "caveats": results["caveats"],
        },
        card=(work.folder / "table.md").read_text(encoding="utf-8"),
        files=dict.fromkeys(names),
    )


@contextmanager
def _maker(*_: object) -> Iterator[Make]:
    raise NotImplementedError("report: has no units")
    yield


def _no_units(_work: Work, _facts: None) -> Sequence[Unit]:
    return ()


SPEC: Final = StageSpec(
    "report",
    REPORT_VERSION,
    settings=lambda config, _node: config,
    inputs=inputs,
    units=_no_units,
    maker=_maker,
    finish=finish,
)
