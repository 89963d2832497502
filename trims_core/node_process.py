"""A node made in a process of its own: `python -m trims_core.node_process JOB.json FD`.

The job file holds the whole request; nothing else is asked of the starter. On descriptor FD the process says,
one JSON object a line: `log` (level, logger, text), `progress` (done, total, note), and at its end `result`
(how, path, seconds) or `error` (class, message). What it prints goes to its log file.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from trims_core import errors, slots
from trims_core.errors import TrimsError
from trims_core.fingerprint import Json
from trims_core.graph import build_graph, node_named
from trims_core.settings import parse_config
from trims_core.stage import StageSpec, help_node, interruptible, run_node
from trims_core.store import ArtifactRef, Store

_PROGRESS_EVERY_S: Final = 0.25


@dataclass(frozen=True)
class Job:
    """One process's part in making a node."""

    config: Mapping[str, Json]
    """The whole resolved configuration."""
    node: str
    parents: Mapping[str, ArtifactRef]
    since: str | None = None
    """What is older is made again."""
    share: int = 0
    """0: make the artifact. Others help: they make units that nobody makes yet, and end."""
    gpus: int = 0
    """Slots of this host to hold; 0: leave CUDA_VISIBLE_DEVICES as it is."""

    def write(self, path: Path) -> None:
        """As a file for the process."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Teller:
    """The process's voice."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8")
        self._progress_at = -_PROGRESS_EVERY_S

    def say(self, kind: str, *what: Json) -> None:
        """One line; a starter that is gone is none of our business."""
        try:
            self._file.write(json.dumps([kind, *what]) + "\n")
        except (BrokenPipeError, ValueError):
            return

    def progress(self, done: int, total: int, note: str) -> None:
        """Seldom enough not to matter."""
        now = time.monotonic()
        if done == total or now - self._progress_at >= _PROGRESS_EVERY_S:
            self._progress_at = now
            self.say("progress", done, total, note)


class _Handler(logging.Handler):
    def __init__(self, teller: Teller) -> None:
        super().__init__(logging.INFO)
        self._teller = teller

    def emit(self, record: logging.LogRecord) -> None:
        self._teller.say("log", record.levelno, record.name, record.getMessage())


def main(arguments: Sequence[str], specs: Mapping[str, StageSpec] | None = None) -> int:
    """Do the job; gives back the exit code."""
    job, teller = Job(**json.loads(Path(arguments[0]).read_bytes())), Teller(int(arguments[1]))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("trims_core").addHandler(_Handler(teller))
    try:
        with interruptible(job.node):
            return _do(job, teller, specs)
    except TrimsError as error:
        teller.say("error", type(error).__name__, str(error))
        return error.exit_code


def _do(job: Job, teller: Teller, specs: Mapping[str, StageSpec] | None) -> int:
    config = parse_config(dict(job.config))
    devices = slots.devices_of_host(config.resources.slots) if job.gpus else ()
    with slots.hold(job.gpus, devices, lambda text: teller.say("progress", 0, 0, text)) as mine:
        if mine:
            os.environ[slots.DEVICES_VARIABLE] = ",".join(mine)
        store = Store(config.store)
        node = node_named(build_graph(config), job.node)
        parents = {role: store.open(ref) for role, ref in job.parents.items()}
        if job.share:
            help_node(store, config, node, parents, job.share, since=job.since, specs=specs)
            teller.say("result", "helped", "", 0.0)
            return 0
        result = run_node(
            store,
            config,
            node,
            parents,
            since=job.since,
            progress=teller.progress,
            specs=specs,
        )
    teller.say("result", result.how, str(result.artifact.path), result.seconds)
    return 0


def error_of(name: str, message: str) -> TrimsError:
    """The error that a process told of, of its own class."""
    known: Any = getattr(errors, name, TrimsError)
    found: TrimsError = known(message)
    return found


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking PyTorch down in order costs seconds and does nothing for us
