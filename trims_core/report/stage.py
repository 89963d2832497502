"""The stage `report`: one artifact with the page, its figures, results.json and table.md.

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

REPORT_VERSION: Final = 7

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
    from trims_core.report.figures import draw_all
    from trims_core.report.page import render_page
    from trims_core.report.results import collect, to_json
    from trims_core.report.tables import table_markdown

    config: TrimsConfig = work.settings
    folder = work.folder
    work.progress(0, _STEPS, "loading the student's tokenizer")
    results = collect(
        config,
        work.parents,
        load_tokenizer(config.student.model, config.student.revision),
        partial=config.report.partial,
        progress=lambda note: work.progress(1, _STEPS, note),
    )
    (folder / "results.json").write_bytes(to_json(results))
    markdown = table_markdown(results)
    (folder / "table.md").write_text(markdown, encoding="utf-8")
    names = draw_all(results, folder / "figures", lambda note: work.progress(2, _STEPS, note))
    work.progress(3, _STEPS, "writing the page")
    (folder / "index.html").write_text(render_page(results, folder / "figures"), encoding="utf-8")
    fault_point("report.before_record")
    figures = [f"figures/{name}" for name in names]
    work.progress(_STEPS, _STEPS, "")
    coverage = results["coverage"]
    return Outcome(
        counts={"n_in": coverage["cells_expected"], "n_out": coverage["cells_found"]},
        info={"page": "index.html", "figures": figures, "caveats": results["caveats"]},
        card=markdown,
        files=dict.fromkeys(["index.html", "results.json", "table.md", *figures]),
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
