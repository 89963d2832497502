"""Several runs on one page, in a folder of its own that takes its place as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.errors import ReportError
from trims_core.report.comparison import Pair
from trims_core.report.runs import Run
from trims_core.store.artifact import ATTEMPTS_NAME, RETIRED_NAME
from trims_core.store.attempts import attempt_at, inode, retired_folders
from trims_core.store.durable import disk_errors, fsync_file, fsync_folder, fsync_tree, make_folders

if TYPE_CHECKING:
    from trims_core.ablations import Ablation

FOLDER: Final = "compared"
"""Below a store."""


def write_comparison(
    runs: Sequence[Run],
    out: Path,
    *,
    title: str,
    pairs: Sequence[Pair] | None = None,
    ablation: Ablation | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The results on the page that was written.

    Args:
        runs: at least two, with labels.
        out: what an earlier comparison left there is replaced.
        pairs: differences a − b, by the names that methods have on the page.

    Raises:
        ReportError: `out` is something else; the runs cannot be compared; a pair names no method.
    """
    from trims_core.rendering import load_tokenizer
    from trims_core.report.ablations import ablation_results
    from trims_core.report.files import write_all
    from trims_core.report.played import played_samples
    from trims_core.report.results import collect_runs

    check_replaceable(out)
    progress("loading the student's tokenizer")
    student, report = runs[0].config.student, runs[0].config.report
    tokenizer = load_tokenizer(student.model, student.revision)
    results = collect_runs(
        runs,
        tokenizer,
        title=title,
        pairs=pairs,
        partial=report.partial,
        progress=progress,
    )
    if ablation is not None:
        results["ablations"] = ablation_results(ablation, results)
    progress("samples for the player")
    samples = played_samples(runs, tokenizer)
    with _replacing(out) as folder:
        for name in write_all(results, samples, folder, progress):
            fsync_file(folder / name)
        fault_point("report.before_compared")
    return results


def check_replaceable(out: Path) -> None:
    """Raises ReportError where something lies that no comparison wrote: its results.json tells no runs."""
    if not out.exists():
        return
    try:
        found = json.loads((out / "results.json").read_bytes())
        is_ours = bool(found.get("runs"))
    except (OSError, ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        raise ReportError(
            f"{out}: is something else than a comparison; expected a new name, or a folder that an earlier"
            " comparison made. Give another one with --out"
        )


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder to write in, which is `out` after the block; whoever looks finds the old one or the new."""
    make_folders(out.parent)
    with disk_errors(out.parent), attempt_at(out, out.parent, replaces=inode(out)) as attempt:
        attempt.empty()
        yield attempt.path
        fsync_tree(attempt.path)
        attempt.put(lambda: None)
        fsync_folder(out.parent)
    for replaced in retired_folders(out):
        shutil.rmtree(replaced)
    for left in (out.parent / ATTEMPTS_NAME, out.parent / RETIRED_NAME):
        with suppress(OSError):  # another comparison is at work there
            left.rmdir()
