"""GPU slots of a host: one lock file per GPU, held by the process that computes on it.

The kernel frees a lock when its holder dies, so nothing has to be given back and no server is asked; runs,
deployments and users of one host share them. Who waits for several GPUs takes them as they become free, and
others wait behind him: nobody starves, and two waiters never hold half each. Covered: processes of one host
that name GPUs the same way. Not covered: GPUs that are named by index here and by UUID there; programs that
do not ask.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from trims_core.errors import ConfigError

DEVICES_VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
_GPU_NODES: Final = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files of which one exists where there is a GPU."""
_FOLDER_VARIABLE: Final = "TRIMS_SLOTS_FOLDER"
_POLL_S: Final = 0.1
_TELL_EVERY_S: Final = 10.0
_ANYBODY: Final = 0o666


def has_gpu() -> bool:
    """Whether this host seems to have a GPU; asks no driver."""
    return any(Path(node).exists() for node in _GPU_NODES)


def devices_of_host(slots: int | None = None) -> tuple[str, ...]:
    """Names of the GPUs that processes of this host may use, as CUDA_VISIBLE_DEVICES writes them.

    Args:
        slots: so many at most; without any GPU, so many places for processes that want one to themselves.
    """
    named = os.environ.get(DEVICES_VARIABLE)
    if named is not None:
        found = [name.strip() for name in named.split(",") if name.strip()]
    else:
        found = [str(n) for n in itertools.takewhile(lambda n: Path(f"/dev/nvidia{n}").exists(), range(64))]
    if slots is None:
        return tuple(found)
    return tuple(found[:slots]) if found else tuple(str(n) for n in range(slots))


@contextmanager
def hold(
    n: int, devices: Sequence[str], tell: Callable[[str], None] = lambda _text: None
) -> Iterator[tuple[str, ...]]:
    """`n` of the devices, nobody else's during the block; waits for them.

    Args:
        tell: called every few seconds with what is waited for.
    Raises:
        ConfigError: more than there are.
    """
    if n > len(devices):
        raise ConfigError(
            f"{n} GPU slots wanted, this host has {len(devices)} ({', '.join(devices) or 'no GPU is seen'});"
            " lower resources.<stage>.gpus, or set resources.slots or CUDA_VISIBLE_DEVICES"
        )
    with ExitStack() as held:
        if n == 0:
            yield ()
            return
        mine: list[str] = []
        with _waiting_for(_lock("queue"), "other processes wait for GPU slots", tell):
            since, told = time.monotonic(), time.monotonic()
            while len(mine) < n:
                for device in devices:
                    if len(mine) < n and device not in mine and _try(held, _lock(device)):
                        mine.append(device)
                if len(mine) < n:
                    if time.monotonic() - told >= _TELL_EVERY_S:
                        told = time.monotonic()
                        tell(f"waits for {n - len(mine)} of {n} GPU slots, {told - since:.0f} s")
                    time.sleep(_POLL_S)
        yield tuple(sorted(mine, key=list(devices).index))


@contextmanager
def _waiting_for(lock: FileLock, why: str, tell: Callable[[str], None]) -> Iterator[None]:
    while True:
        try:
            lock.acquire(timeout=_TELL_EVERY_S, poll_interval=_POLL_S)
            break
        except Timeout:
            tell(why)
    try:
        yield
    finally:
        lock.release()


def _try(held: ExitStack, lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    held.callback(lock.release)
    return True


def _lock(name: str) -> FileLock:
    folder = Path(os.environ.get(_FOLDER_VARIABLE) or Path(tempfile.gettempdir(), "trims-slots"))
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    return FileLock(
        folder / f"{name.replace('/', '_')}.lock", mode=_ANYBODY, thread_local=False, preserve_lock_file=True
    )
