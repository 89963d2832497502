"""Decoding on several CPU threads, each with a batch of its own.

A small model spends its time in small matrix products: two threads with a batch each use two cores almost
fully, where two threads inside each product mostly wait for each other. The prompts are dealt out before
anything runs, so the same arguments give the same batches and the same numbers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

from trims_core.decoding.engine import Decoded, DecodeSettings, decode
from trims_core.decoding.protocol import Denoiser

_LISTEN_S: Final = 0.2
_MAX_WORKERS: Final = 4
"""Beyond this the interpreter, which one thread holds at a time, becomes the limit."""


def default_workers(student: Denoiser) -> int:
    """Threads worth using for this student: 1 on a GPU, else torch's CPU threads, at most four."""
    if next(student.model.parameters()).device.type != "cpu":
        return 1
    return min(_MAX_WORKERS, torch.get_num_threads())


def decode_parallel(
    student: Denoiser,
    prompts: Sequence[Sequence[int]],
    settings: DecodeSettings,
    workers: int,
    on_step: Callable[[int, int], None] | None = None,
    numbers: Sequence[int] | None = None,
) -> list[Decoded]:
    """Like `decode`, by so many threads; `settings.batch_size` sequences in each thread's batch.

    `on_step` is called in the calling thread. An exception there (Ctrl-C included) or in a thread stops
    all of them after their current forward and is raised here.
    """
    workers = min(workers, len(prompts))
    numbers = range(len(prompts)) if numbers is None else numbers
    if workers <= 1:
        return decode(student, prompts, settings, on_step, numbers=numbers)
    settings.check()
    longest_first = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    shares = [longest_first[worker::workers] for worker in range(workers)]
    reports: queue.SimpleQueue[_Report] = queue.SimpleQueue()
    stop = threading.Event()
    with _threads_inside(max(1, torch.get_num_threads() // workers)) as n_inside:
        threads = [
            threading.Thread(
                target=_work,
                args=(worker, student, prompts, share, numbers, settings, n_inside, stop, reports),
                name=f"decode-{worker}",
                daemon=True,
            )
            for worker, share in enumerate(shares)
        ]
        for thread in threads:
            thread.start()
        try:
            results = _listen(reports, workers, len(prompts), on_step)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    decoded: dict[int, Decoded] = {}
    for worker, share in enumerate(shares):
        decoded.update(zip(share, results[worker], strict=True))
    return [decoded[place] for place in range(len(prompts))]


@dataclass(frozen=True)
class _Report:
    """A thread's news: sequences finished so far, and at its end the result or what went wrong."""

    worker: int
    n_done: int
    result: list[Decoded] | None = None
    error: BaseException | None = None


class _StoppedError(Exception):
    """Ends a thread whose result is not wanted any more."""


def _work(
    worker: int,
    student: Denoiser,
    prompts: Sequence[Sequence[int]],
    share: Sequence[int],
    numbers: Sequence[int],
    settings: DecodeSettings,
    n_inside: int,
    stop: threading.Event,
    reports: queue.SimpleQueue[_Report],
) -> None:
    def tell(n_done: int, _total: int) -> None:
        if stop.is_set():
            raise _StoppedError
        reports.put(_Report(worker, n_done))

    torch.set_num_threads(n_inside)
    try:
        mine = [prompts[place] for place in share]
        result = decode(student, mine, settings, tell, numbers=[numbers[place] for place in share])
    except _StoppedError:
        return
    except BaseException as error:  # noqa: BLE001 - carried to the calling thread and raised there
        reports.put(_Report(worker, 0, error=error))
        return
    reports.put(_Report(worker, len(share), result=result))


def _listen(
    reports: queue.SimpleQueue[_Report],
    workers: int,
    n_prompts: int,
    on_step: Callable[[int, int], None] | None,
) -> dict[int, list[Decoded]]:
    """The result of every thread; the short waits let signal handlers of the main thread run."""
    done = dict.fromkeys(range(workers), 0)
    results: dict[int, list[Decoded]] = {}
    while len(results) < workers:
        try:
            report = reports.get(timeout=_LISTEN_S)
        except queue.Empty:
            continue
        if report.error is not None:
            raise report.error
        done[report.worker] = report.n_done
        if report.result is not None:
            results[report.worker] = report.result
        elif on_step is not None:
            on_step(sum(done.values()), n_prompts)
    return results


@contextmanager
def _threads_inside(count: int) -> Iterator[int]:
    """Lets each thread use `count` cores inside an operation, and puts the process's number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)
