"""A process that speaks over standard input and output, with a limit on every wait; nothing of it stays."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from trims_core.errors import SandboxError
from trims_core.sandbox import box
from trims_core.sandbox.inside.channel import Channel

_END_S: Final = 5.0
_POLL_S: Final = 0.002


class BoxedProcess:
    """A context: within it the process may run, after it all that it started is gone."""

    def __init__(self, command: Callable[[int], Sequence[str]] | None) -> None:
        """Start it.

        Args:
            command: gives bubblewrap's command line for a descriptor; None: without a box.
        """
        self._info, theirs = os.pipe()
        environment = box.ENVIRONMENT if command else box.bare_environment()
        try:
            self._process = subprocess.Popen(
                command(theirs) if command else box.bare_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=environment,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._info)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdin and self._process.stdout
        self._channel = _TimedChannel(self._process.stdout.fileno(), self._process.stdin.fileno())

    def limit(self, seconds: float) -> None:
        """From now on, sending and receiving raise TimeoutError after so long, all of it together."""
        self._channel.deadline = time.monotonic() + seconds

    def send(self, message: object) -> None:
        """Raises: as `Channel.send`, TimeoutError."""
        self._channel.send(message)

    def receive(self) -> Any:
        """Raises: as `Channel.receive`, TimeoutError."""
        return self._channel.receive()

    def last_words(self) -> str:
        """What it wrote on its standard error; ends it."""
        self._end()
        assert self._process.stderr
        return self._process.stderr.read().decode(errors="replace").strip()[-1000:]

    def __enter__(self) -> BoxedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            os.close(self._info)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream:
                    with suppress(OSError):
                        stream.close()

    def _end(self) -> None:
        """Kill the first process of the box, with which the kernel kills all others, and wait for its end."""
        first = self._first_pid() if self._process.poll() is None else None
        if first is not None:
            with suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + _END_S
        while first is not None and _runs(first):
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"process {first} of a sandbox still runs {_END_S:g} s after it was killed"
                )
            time.sleep(_POLL_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _first_pid(self) -> int | None:
        """The box' first process, as bubblewrap told it; None before it has, and without a box."""
        if not select.select([self._info], [], [], 0)[0]:
            return None
        told = os.read(self._info, 1 << 16)
        return int(json.loads(told)["child-pid"]) if told else None


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] not in "ZX"


class _TimedChannel(Channel):
    """Reads and writes no longer than until a deadline."""

    def __init__(self, reads: int, writes: int) -> None:
        super().__init__(reads, writes)
        self.deadline = 0.0
        os.set_blocking(writes, False)

    def read(self, length: int) -> bytes:
        self._wait(self._reads, select.POLLIN)
        return super().read(length)

    def write(self, data: memoryview) -> int:
        self._wait(self._writes, select.POLLOUT)
        return super().write(data)

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, 1e3 * (self.deadline - time.monotonic()))):
            raise TimeoutError
