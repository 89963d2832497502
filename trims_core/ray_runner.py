"""Nodes made on the hosts of a Ray cluster: each process of a node is a Ray task that runs it on its host.

The store and the paths of the config lie on a file system that all hosts share; Ray gives out places and GPUs
(`resources.<stage>.gpus` for each process). Covered: a host or a task that dies: its unit is taken over, and
a node whose first process died is worth a retry. Not covered: hosts without the shared store; training over
several hosts, which is DeepSpeed's (`train.launch.hostfile`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.util.queue import Empty, Queue

from trims_core import runner
from trims_core.errors import ProcessDiedError, TrimsError
from trims_core.node_process import Job, error_of
from trims_core.stage import Progress

_POLL_S: Final = 0.1


class RayTasks:
    """The processes of one node, each a Ray task. The first makes the artifact, the others help."""

    def __init__(self, shares: list[Job], logs: Path, grace_s: float) -> None:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, configure_logging=False)  # RAY_ADDRESS, or a cluster of this host
        self._node = shares[0].node
        self._grace_s = grace_s
        self._told = Queue()
        self._tasks = [
            _work.options(num_gpus=job.gpus).remote(
                replace(job, gpus=0), str(logs), grace_s, list(runner.MODULE), self._told
            )
            for job in shares
        ]

    def hear(self, progress: Progress) -> tuple[Any, ...] | None:
        """Pass on what the first one says; its result once it is there. Raises: its error."""
        ready, _ = ray.wait([self._tasks[0]], timeout=_POLL_S)
        while True:
            try:
                progress(*self._told.get_nowait())
            except Empty:
                break
        if not ready:
            return None
        try:
            kind, *what = ray.get(ready[0])
        except RayError as error:
            raise ProcessDiedError(
                f"{self._node}: its Ray task died; finished parts are kept, the same command goes on. {error}"
            ) from error
        if kind == "error":
            raise error_of(*what)
        return tuple(what)

    def close(self) -> None:
        """Ask what still runs to save and end."""
        for task in self._tasks:
            ray.cancel(task, force=False, recursive=True)
        ray.wait(self._tasks, num_returns=len(self._tasks), timeout=self._grace_s)
        self._told.shutdown()


@ray.remote(max_retries=0, num_cpus=1)
def _work(job: Job, logs: str, grace_s: float, module: Sequence[str], told: Queue) -> tuple[Any, ...]:
    """One process of a node on this host; Ray has given out the GPUs. Gives back what it said last."""
    runner.MODULE[:] = module
    workers = runner.Processes([job], Path(logs), grace_s, runner.environment())

    def tell(*what: Any) -> None:
        if job.share == 0:
            told.put(what)

    try:
        while (said := workers.hear(tell)) is None:
            pass
        return ("result", *said)
    except TrimsError as error:
        return ("error", type(error).__name__, str(error))
    finally:
        workers.close()
