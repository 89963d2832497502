"""Decoding on several CPU threads, each with a batch of its own.

A small model spends its time in small matrix products: two threads with a batch each use two cores almost
fully, where two threads inside each product mostly wait for each other. The prompts are dealt out before
anything runs, so the same arguments give the same batches and the same numbers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import torch

from trims_core.decoding.canvas import Decoded
from trims_core.decoding.engine import DecodeSettings, Names, decode
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
    names: Names | None = None,
) -> list[Decoded]:
    """Like `decode`, by so many threads; `settings.batch_size` sequences in each thread's batch.

    `on_step` is called in the calling thread. An exception there (Ctrl-C included) or in a thread stops
    all of them after their current forward and is raised here.
    """
    workers = min(workers, len(prompts))
    names = range(len(prompts)) if names is None else names
    if workers <= 1:
        return decode(student, prompts, settings, on_step, names=names)
    settings.check()
    longest_first = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    shares = [longest_first[worker::workers] for worker in range(workers)]
    news: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(worker: int, n_inside: int) -> list[Decoded]:
        def tell(n_done: int, _total: int) -> None:
            if stop.is_set():
                raise _StoppedError
            news.put((worker, n_done))

        torch.set_num_threads(n_inside)
        mine = [prompts[place] for place in shares[worker]]
        own: Any = [names[place] for place in shares[worker]]
        return decode(student, mine, settings, tell, names=own)

    n_inside = max(1, torch.get_num_threads() // workers)
    with _threads_inside(n_inside), ThreadPoolExecutor(workers, "decode") as pool:
        try:
            futures = [pool.submit(work, worker, n_inside) for worker in range(workers)]
            _listen(news, futures, len(prompts), on_step)
        finally:
            stop.set()
    decoded: dict[int, Decoded] = {}
    for share, future in zip(shares, futures, strict=True):
        decoded.update(zip(share, future.result(), strict=True))
    return [decoded[place] for place in range(len(prompts))]


class _StoppedError(Exception):
    """Ends a thread whose result is not wanted any more."""


def _listen(
    news: queue.SimpleQueue[tuple[int, int] | None],
    futures: Sequence[Future[list[Decoded]]],
    n_prompts: int,
    on_step: Callable[[int, int], None] | None,
) -> None:
    """Passes on how far the threads are until all have ended; raises what one of them raised.

    The short waits let signal handlers of the main thread run.

    Args:
        news: (thread, sequences finished so far).
    """
    for future in futures:
        future.add_done_callback(lambda _: news.put(None))
    done = [0] * len(futures)
    n_running = len(futures)
    while n_running:
        try:
            told = news.get(timeout=_LISTEN_S)
        except queue.Empty:
            continue
        if told is not None:
            worker, n_done = told
            done[worker] = n_done
            if on_step is not None:
                on_step(sum(done), n_prompts)
            continue
        n_running -= 1
        for future in futures:
            if future.done():
                future.result()


@contextmanager
def _threads_inside(count: int) -> Iterator[None]:
    """Lets each thread use `count` cores inside an operation, and puts the process's number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
