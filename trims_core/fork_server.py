"""Processes that begin with PyTorch and transformers imported: forks of one that has, and does nothing else.

    python -m trims_core.fork_server DESCRIPTOR MODULE…

Importing them takes seconds of a core, and a run of many short nodes starts many processes. The address of a
`ForkServer`, a socket, goes into the environment of processes, and `python_child` forks where it finds it.
A connection is one process: the request goes one way with the descriptors it names, pid and exit code the
other, and its closing ends the process and its group, as `trims_core.tether` does.

    server ── fork ──> guardian ── fork ──> the process, which leads its session and group
                       waits for its end and for the connection's

A fork has the environment, folder and descriptors that were asked for, and the server's affinity, limits,
umask and niceness; variables that libraries read while they are imported are the server's, too, but for
OMP_NUM_THREADS.

Covered (Linux 5.3 or later): as `trims_core.processes`. The server's own death ends none of the processes;
who asks one that is gone starts an ordinary one. Not covered: a host with a GPU, whose driver does not live
through a fork once it is in use.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import runpy
import secrets
import select
import signal
import socket
import struct
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from trims_core.processes import Child, environment_of_nodes
from trims_core.tether import tie_to

logger = logging.getLogger(__name__)

VARIABLE: Final = "TRIMS_FORK_SERVER"
"""Names the server's socket: an abstract one, which has no file to leave behind."""
IMPORTED: Final = (
    "deepspeed",
    "peft",
    "transformers.tokenization_utils_tokenizers",
    "trims_core.analysis.making",
    "trims_core.decoding.runner",
    "trims_core.graph",
    "trims_core.rollouts.stage",
    "trims_core.students.loading",
    "trims_core.sweep.stage",
    "trims_core.training.engine",
    "trims_core.training.loop",
    "trims_core.training.spec",
    "trims_core.training.stage",
    "trims_core.training.trainable",
)
_REQUEST_BYTES: Final = 1 << 20
_IMPORTING_S: Final = 120.0
"""How long a request waits for the server; after that the process is started anew."""
_FDS: Final = 16


class ForkServer:
    """A server of this process, which ends with it."""

    def __init__(self, log: Path, imported: Sequence[str] = IMPORTED) -> None:
        """Start it; requests wait until it has imported the modules. Raises: OSError: it cannot be."""
        self.address = f"trims-fork-server-{secrets.token_hex(16)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(f"\0{self.address}")
            listener.listen(64)
            command = [sys.executable, "-m", "trims_core.fork_server", str(listener.fileno()), *imported]
            env = {**environment_of_nodes(), "DS_ACCELERATOR": "cpu"}
            self._child = Child(command, log, env, pass_fds=[listener.fileno()])

    def close(self) -> None:
        """End it; what it has forked goes on."""
        self._child.kill()


class ForkedChild(Child):
    """A Python module run by a fork of the server."""

    def __init__(
        self,
        address: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        *,
        grace_s: float,
        pass_fds: Collection[int],
    ) -> None:
        """Start it. Raises: OSError: the server is gone."""
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        request = {"command": list(command), "env": dict(env), "cwd": str(Path.cwd()), "grace_s": grace_s}
        message = json.dumps({**request, "fds": list(pass_fds)}).encode()
        self._code: int | None = None
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._line.settimeout(_IMPORTING_S)
            self._line.connect(f"\0{address}")
            with log.open("ab") as output:
                socket.send_fds(self._line, [message], [output.fileno(), *pass_fds])
            pid = self._line.recv(32)
            if not pid:
                raise ConnectionError("it has ended")
            self._pid = int(pid)
            self._line.settimeout(None)
        except BaseException:
            self._line.close()
            raise

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self.wait(0.0)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        if self.returncode is None:
            self._say(b"terminate")

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None if it still runs after so long."""
        if self._code is None and select.select([self._line], [], [], seconds)[0]:
            try:
                code = self._line.recv(32)
            except ConnectionResetError:  # it ended before it was told what we said last; its code comes next
                code = self._line.recv(32)
            self._code = int(code or -signal.SIGKILL)
            if not code:  # its guardian was killed, and it with it
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)
        return self._code

    def kill(self) -> None:
        """End it and whatever is in its group at once."""
        if self.returncode is None:
            self._say(b"kill")
            select.select([self._line], [], [])
            self.wait(0.0)
        self._line.close()

    def _say(self, word: bytes) -> None:
        with suppress(OSError):  # it has just ended
            self._line.send(word)


def python_child(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    *,
    grace_s: float = 0.0,
    pass_fds: Collection[int] = (),
) -> Child:
    """`python -m COMMAND…`: forked where `env` names a server, else started as usual; the rest as `Child`."""
    address = env.get(VARIABLE)
    if address is not None:
        try:
            return ForkedChild(address, command, log, env, grace_s=grace_s, pass_fds=pass_fds)
        except OSError as error:
            logger.warning("no process from the fork server (%s); it is started anew", error)
    return Child([sys.executable, "-m", *command], log, env, grace_s=grace_s, pass_fds=pass_fds)


def serve(listener: socket.socket) -> dict[str, Any]:
    """Fork whenever asked. Comes back in the processes that were asked for, with the request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guardians are not waited for
    while True:
        line, _ = listener.accept()
        if _uid(line) == os.getuid() and os.fork() == 0:
            listener.close()
            return _guard(line)
        line.close()


def _uid(line: socket.socket) -> int:
    """Whose process asks."""
    credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def _guard(line: socket.socket) -> dict[str, Any]:
    """The guardian's life. Comes back in the process that it guards."""
    os.setsid()  # the end of the server's group is not its own
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, fds, *_ = socket.recv_fds(line, _REQUEST_BYTES, _FDS)
    if not message:
        os._exit(0)
    request: dict[str, Any] = json.loads(message)
    guardian = os.getpid()
    pid = os.fork()
    if pid:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # whoever ends every process ends none that is saving
        for fd in fds:
            os.close(fd)
        ended = os.pidfd_open(pid)
        line.send(str(pid).encode())
        _watch(line, pid, ended, float(request["grace_s"]))
    line.close()
    _become(request, fds, guardian)
    return request


def _watch(line: socket.socket, pid: int, ended: int, grace_s: float) -> NoReturn:
    """Until the process ends: do what is said, and end it when nobody is there to say anything.

    Args:
        ended: readable once it has ended; its number stays taken until we wait for it.
    """
    was_asked, said = False, b"terminate"
    while said == b"terminate":
        if ended in select.select([ended, line.fileno()], [], [])[0]:
            break
        said = line.recv(32)
        if said == b"terminate":
            os.kill(pid, signal.SIGTERM)
            was_asked = True
        elif (
            not said and grace_s
        ):  # who asked for it is gone; it is told so once, a second time would hurry it
            if not was_asked:
                _signal_all(pid, signal.SIGTERM)
            select.select([ended], [], [], grace_s)
    _signal_all(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):
        line.send(str(code).encode())
    os._exit(0)


def _signal_all(pid: int, number: int) -> None:
    """To a process, which may not lead its group yet, and to all that is in its group."""
    os.kill(pid, number)
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _become(request: Mapping[str, Any], fds: Sequence[int], guardian: int) -> None:
    """Take on the session, descriptors, environment and threads of a process of its own."""
    os.setsid()
    tie_to(guardian, signal.SIGKILL)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    free = max([*fds, *request["fds"], 2]) + 1
    high = [os.dup2(fd, free + place) for place, fd in enumerate(fds)]  # out of the way of the wanted numbers
    for fd in fds:
        os.close(fd)
    for number in (1, 2):
        os.dup2(high[0], number)
    for fd, number in zip(high[1:], request["fds"], strict=True):
        os.dup2(fd, number)
    for fd in high:
        os.close(fd)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    given = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in given if folder and folder not in sys.path]
    if "torch" in sys.modules and (n_threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        sys.modules["torch"].set_num_threads(
            int(n_threads)
        )  # read when the library was loaded, by the server


def main(descriptor: int, imported: Sequence[str]) -> None:
    """Import, serve; in a process that was asked for, be its module."""
    for name in imported:
        importlib.import_module(name)
    gc.freeze()  # collections in the forks leave the pages alone that they share
    with socket.socket(fileno=descriptor) as listener:
        module, *arguments = serve(listener)["command"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
