"""Where nodes are made: in processes of their own on this host, or on the hosts of a Ray cluster.

A node is one process that makes its artifact and, where `resources.<stage>.processes` says so, others that
help with its units; each holds the GPU slots it asks for. What may touch a GPU never runs in the process that
asks. A process that dies leaves its finished units; the others take over the one it was at.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from trims_core.config import TrimsConfig
from trims_core.errors import InterruptedRunError, LaunchError, ProcessDiedError, TimeLimitError, TrimsError
from trims_core.fork_server import VARIABLE, ForkServer, python_child
from trims_core.graph import Node
from trims_core.node_process import Job, error_of
from trims_core.processes import environment_of_nodes, stop_all
from trims_core.slots import has_gpu
from trims_core.stage import Progress, Result, find_cached, interruptible, load_spec, node_key, run_node
from trims_core.store import Artifact, Store

logger = logging.getLogger(__name__)

MODULE: Final = ["trims_core.node_process"]
"""What the processes run."""
_MARGIN_S: Final = 10.0
_POLL_S: Final = 0.1
_stopped: Final = threading.Event()
_places = threading.BoundedSemaphore(1)
_server: ForkServer | None = None
_serving: Final = threading.Lock()


@contextmanager
def running(config: TrimsConfig) -> Iterator[None]:
    """Nodes can be made until the block ends; `stop` ends them earlier."""
    global _places, _server
    n = config.resources.nodes or max(1, len(os.sched_getaffinity(0)) // 2)
    _places = threading.BoundedSemaphore(n)
    _stopped.clear()
    try:
        yield
    finally:
        _stopped.set()
        with _serving:
            if _server is not None:
                _server.close()
            _server = None


def stop() -> None:
    """Let every node that this process waits for save and end; they raise InterruptedRunError."""
    _stopped.set()


def make(
    store: Store,
    config: TrimsConfig,
    node: Node,
    parents: Mapping[str, Artifact],
    *,
    since: str | None,
    progress: Progress,
) -> Result:
    """The artifact of a node, as `run_node` gives it, made where `config.runner` says.

    A stage that may use a GPU, and with another runner than `sequential` every one, has processes of its own.

    Raises:
        like `run_node`; ProcessDiedError: a process ended without a word; TimeLimitError: after
        `resources.<stage>.timeout_s`; InterruptedRunError: after `stop`. Finished units are kept.
    """
    spec = load_spec(node.stage)
    key = node_key(store, spec, config, node, parents)
    here = config.runner == "sequential" and not spec.apart
    if here:
        return run_node(store, config, node, parents, since=since, progress=progress)
    found = find_cached(store, spec, config, node, key, since)
    if found is not None:
        return found
    wanted = config.resources.of(node.stage)
    references = {role: artifact.ref() for role, artifact in parents.items()}
    job = Job(config.model_dump(mode="json"), node.id, references, since, gpus=wanted.gpus)
    n = 1 if config.runner == "sequential" else wanted.processes
    shares = [replace(job, share=share) for share in range(n)]
    with _place(), interruptible(node.id):
        began = time.monotonic()
        forked = spec.apart and config.resources.fork
        with closing(_workers(config, shares, store.logs(key), forked=forked)) as workers:
            while (said := workers.hear(progress)) is None:
                _check_stopped(node.id)
                if wanted.timeout_s is not None and time.monotonic() - began > wanted.timeout_s:
                    raise TimeLimitError(
                        f"{node.id}: not done after {wanted.timeout_s:g} s; finished parts are kept. Raise"
                        f" resources.{node.stage}.timeout_s, or run the same command again to go on"
                    )
    how, path, seconds = said
    return Result(store.open(path), how, seconds)


def grace_s(config: TrimsConfig) -> float:
    """How long a node's processes may take to save and end: a training the longest."""
    return config.train.launch.grace_s + _MARGIN_S


class Workers(Protocol):
    """What makes one node."""

    def hear(self, progress: Progress) -> tuple[Any, ...] | None:
        """Pass on what is said, for a moment; (how, path, seconds) once done. Raises: why it failed."""

    def close(self) -> None:
        """Let what still runs save and end."""


def _workers(config: TrimsConfig, shares: list[Job], logs: Path, *, forked: bool) -> Workers:
    if config.runner != "ray":
        return Processes(shares, logs, grace_s(config), environment(logs if forked else None))
    from trims_core.ray_runner import RayTasks

    return RayTasks(shares, logs, grace_s(config))


def environment(logs: Path | None = None) -> dict[str, str]:
    """Of processes here. The first that is to be forked starts the server, which lasts as long as the run.

    Args:
        logs: of a node whose processes are to be forked, where that is possible.
    """
    global _server
    env = environment_of_nodes()
    if logs is None or has_gpu() or not sys.platform.startswith("linux"):
        return env
    with _serving:
        if _server is None and not _stopped.is_set():
            try:
                _server = ForkServer(logs / "fork-server.log")
            except OSError as error:
                logger.warning("no fork server (%s); processes are started anew", error)
        return env if _server is None else {**env, VARIABLE: _server.address}


@contextmanager
def _place() -> Iterator[None]:
    """One of the places for nodes of this run."""
    while not _places.acquire(timeout=_POLL_S):
        _check_stopped("a node that waited for its turn")
    try:
        yield
    finally:
        _places.release()


def _check_stopped(about: str) -> None:
    if _stopped.is_set():
        raise InterruptedRunError(f"{about}: stopped; finished parts are kept, the same command continues")


class Processes:
    """The processes of one node on this host. The first makes the artifact, the others help."""

    def __init__(self, shares: list[Job], logs: Path, grace_s: float, env: Mapping[str, str]) -> None:
        self._grace_s = grace_s
        self._workers: list[Worker] = []
        try:
            for job in shares:
                self._workers.append(Worker(job, logs, grace_s, env))
        except BaseException:
            self.close()
            raise

    def hear(self, progress: Progress) -> tuple[Any, ...] | None:
        """Pass on what they say, for a moment; the result once it is there. Raises: the first one's error."""
        main, *helpers = self._workers
        ready, _, _ = select.select(
            [worker.ears for worker in self._workers if worker.talks], [], [], _POLL_S
        )
        for worker in self._workers:
            if worker.ears in ready:
                worker.hear(progress if worker is main else _nothing)
        for helper in helpers:
            if not helper.talks and helper.child.wait(self._grace_s) != 0:
                error = helper.error or helper.child.ending()
                logger.warning("a helper of %s: %s; the others go on with its unit", main.node, error)
                self._workers.remove(helper)
        if main.talks or main.child.wait(self._grace_s) is None:
            return None
        if main.result is not None:
            return main.result
        raise main.failure()

    def close(self) -> None:
        """Ask what still runs to save and end, then kill it."""
        stop_all([worker.child for worker in self._workers], self._grace_s)
        for worker in self._workers:
            worker.close()


class Worker:
    """One process and what it has said."""

    def __init__(self, job: Job, logs: Path, grace_s: float, env: Mapping[str, str]) -> None:
        self.node = job.node
        self.talks = True
        self.result: tuple[Any, ...] | None = None
        self.error: TrimsError | None = None
        self._heard = b""
        name = f"worker-{job.share}"
        path = logs / f"{name}.json"
        job.write(path)
        self.ears, mouth = os.pipe()
        try:
            command = [*MODULE, str(path), str(mouth)]
            self.child = python_child(command, logs / f"{name}.log", env, grace_s=grace_s, pass_fds=(mouth,))
        finally:
            os.close(mouth)

    def hear(self, progress: Progress) -> None:
        """Read what is there and act on whole lines."""
        data = os.read(self.ears, 1 << 16)
        self.talks = bool(data)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            kind, *what = json.loads(line)
            if kind == "progress":
                progress(*what)
            elif kind == "log":
                logging.getLogger(what[1]).log(what[0], "%s", what[2])
            elif kind == "result":
                self.result = tuple(what)
            else:
                self.error = error_of(*what)

    def failure(self) -> TrimsError:
        """Why there is no result. One that was killed is worth a retry, one that broke is not."""
        code = self.child.returncode
        kind = ProcessDiedError if code is None or code < 0 else LaunchError
        return self.error or kind(
            f"{self.node}: its process {self.child.ending()}; finished parts are kept, the same command"
            f" continues. {self.child.last_words()}"
        )

    def close(self) -> None:
        """Close the ear."""
        os.close(self.ears)


def _nothing(_done: int, _total: int, _note: str) -> None:
    return None
