"""The stage `report`: one artifact with the page, its figures, results.json and table.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.stage import Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey

REPORT_VERSION: Final = 4

_STEPS: Final = 4


def _key(config: TrimsConfig, node: Node, parents: Mapping[str, Artifact], digests: Digests) -> StageKey:
    """Every setting is shown in the report, so every result-changing one is in its key."""
    del node
    tokenizer = digests.tokenizer(config.student.model, config.student.revision)
    return stage_key(
        "report", REPORT_VERSION, config.result_fields(), parents, {"student_tokenizer": tokenizer}
    )


def _produce(work: Work) -> Outcome:
    """Collects, draws and writes; one unit, redone as a whole after a crash (it takes seconds)."""
    from trims_core.rendering import load_tokenizer
    from trims_core.report.figures import draw_all
    from trims_core.report.page import render_page
    from trims_core.report.results import collect, to_json
    from trims_core.report.tables import table_markdown

    config, folder = work.config, work.staging.path
    work.progress(0, _STEPS, "loading the student's tokenizer")
    tokenizer = load_tokenizer(config.student.model, config.student.revision)
    results = collect(
        config,
        work.parents,
        tokenizer,
        partial=config.report.partial,
        progress=lambda note: work.progress(1, _STEPS, note),
    )
    (folder / "results.json").write_bytes(to_json(results))
    markdown = table_markdown(results)
    (folder / "table.md").write_text(markdown, encoding="utf-8")
    names = draw_all(results, folder / "figures", lambda note: work.progress(2, _STEPS, note))
    work.progress(3, _STEPS, "writing the page")
    (folder / "index.html").write_text(render_page(results, folder / "figures"), encoding="utf-8")
    figures = [f"figures/{name}" for name in names]
    fault_point("report.before_record")
    work.staging.record("report", dict.fromkeys(["index.html", "results.json", "table.md", *figures]))
    work.progress(_STEPS, _STEPS, "")
    coverage = results["coverage"]
    counts = {"n_in": coverage["cells_expected"], "n_out": coverage["cells_found"]}
    return Outcome(
        counts, {"page": "index.html", "figures": figures, "caveats": results["caveats"]}, markdown
    )


SPEC: Final = StageSpec("report", REPORT_VERSION, _key, _produce)
