"""A report as a server gives it: its page, and what the player shows of every problem, made when it is asked.

The page of a report holds a few problems, so that it stays small; a served one reads the others from the
store.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from trims_core.config import TrimsConfig
from trims_core.errors import ReportError
from trims_core.report.page import render_page
from trims_core.report.player import Decoded, samples_to_json
from trims_core.report.results import RESULTS_VERSION

if TYPE_CHECKING:
    from trims_core.store import Artifact


class Reply(NamedTuple):
    """What an address gives."""

    kind: str
    body: bytes


class ServedReport:
    """Replies to `/`, `/samples/<task>.json` (all problems and their verdicts) and
    `/samples/<task>/<problem>.json`.

    Args:
        results: what results.json holds. samples: what samples.json holds.
        tasks: what can be played.
    """

    def __init__(
        self, results: Mapping[str, Any], samples: Mapping[str, Any], tasks: Mapping[str, Decoded]
    ) -> None:
        self._results, self._samples, self._tasks = results, samples, tasks
        self._lock = threading.Lock()
        """A tokenizer serves one thread at a time."""
        self._verdicts: dict[str, bytes] = {}

    @cached_property
    def page(self) -> bytes:
        """The page that may ask for samples."""
        return render_page(self._results, self._samples, served=True).encode()

    def reply(self, path: str) -> Reply | None:
        """What an address without its query gives; None where there is nothing."""
        match [unquote(part) for part in path.split("/")[1:]]:
            case [""]:
                return Reply("text/html; charset=utf-8", self.page)
            case ["samples", name] if (task := _stem(name)) in self._tasks:
                return self._json(self._list(task))
            case ["samples", task, name] if task in self._tasks and _stem(name) in self._tasks[task].ids:
                with self._lock:
                    (problem,) = self._tasks[task].problems([_stem(name)])
                return self._json(samples_to_json(problem))
        return None

    def _list(self, task: str) -> bytes:
        with self._lock:
            if task not in self._verdicts:
                self._verdicts[task] = samples_to_json(self._tasks[task].verdicts())
            return self._verdicts[task]

    @staticmethod
    def _json(body: bytes) -> Reply:
        return Reply("application/json", body)


def _stem(name: str) -> str:
    return name.removesuffix(".json") if name.endswith(".json") else ""


def open_report(config: TrimsConfig, report: Artifact, parents: Mapping[str, Artifact]) -> ServedReport:
    """The report of these settings, ready to be served.

    Args:
        parents: the artifacts that it was made from, by role.

    Raises:
        ReportError: another version of this program made it.
    """
    from trims_core.rendering import load_tokenizer
    from trims_core.report.played import played_tasks
    from trims_core.report.runs import Run

    results, samples = (
        json.loads(report.file(name).read_bytes()) if name in report.manifest.entries else {}
        for name in ("results.json", "samples.json")
    )
    if results.get("results_version") != RESULTS_VERSION or not samples:
        raise ReportError(
            f"{report.path}: results of version {results.get('results_version')}; expected {RESULTS_VERSION}."
            " Make the report again with --refresh report, or open its page without --serve"
        )
    tokenizer = load_tokenizer(config.student.model, config.student.revision)
    tasks = played_tasks([Run(config, parents)], tokenizer)
    return ServedReport(results, samples, tasks)
