"""The command that starts a process in a box of its own: bubblewrap's, with what Python needs, read-only.

Covered: no network but an empty loopback; a process tree of its own that ends as a whole; no file of the host
but Python's standard library, the C libraries and the code in `inside`, all read-only; nothing that can be
written to but /dev/null; no /proc; no variable of the environment; an identity that owns nothing. Not
covered: faults of the kernel; what the C libraries' folders hold (public packages of the system) can be read.
"""

from __future__ import annotations

import atexit
import os
import py_compile
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from trims_core.errors import SandboxError

_INSIDE: Final = Path(__file__).with_name("inside")
_CODE: Final = "/code"
ENVIRONMENT: Final = {"PYTHONHASHSEED": "0", "PYTHONPATH": _CODE, "LC_ALL": "C.UTF-8"}
"""All of it, so that nothing of ours is in it. Sets have one order, so that a verdict stays the same."""
_START: Final = "from inside.main import main; main()"
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 6, 7, 21
_FIRST_IDENTITY: Final = 2_000_000_000
_IDENTITIES: Final = 100_000_000


def boxed_command(info: int) -> list[str]:
    """Starts `inside.main` in a box. Raises: SandboxError: bubblewrap is not installed.

    Args:
        info: descriptor on which bubblewrap tells the process that it started.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "generated code is not run without a sandbox, and bubblewrap (bwrap) is not installed;"
            " run: sudo apt-get install bubblewrap (dnf, pacman, zypper: the same name)"
        )
    return [found, *_walls(), "--info-fd", str(info), "--", *bare_command()]


@cache
def _walls() -> tuple[str, ...]:
    """bubblewrap's options: what the box has, in the order in which it is mounted."""
    spaces = ["pid", "net", "ipc", "uts", *([] if is_privileged() else ["user"])]
    options = [*(f"--unshare-{space}" for space in spaces), "--die-with-parent", "--new-session"]
    if is_privileged():  # to become somebody else at once, see `identity`
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    seen = {path: path for path in _needed()} | {str(_bytecode()): _CODE}
    for outside, path in seen.items():
        # else the folders above a file are root's alone
        options += ["--dir", str(Path(path).parent), "--ro-bind", outside, path]
    for folder in _packages():
        options += ["--tmpfs", folder, "--remount-ro", folder]
    options += ["--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null"]
    return (*options, "--remount-ro", "/", "--chdir", "/")


def bare_environment() -> dict[str, str]:
    """That of a process without a box."""
    return {**ENVIRONMENT, "PYTHONPATH": str(_bytecode())}


@cache
def _bytecode() -> Path:
    """A folder with `inside`, compiled: a box could not keep what it compiles, and would do it every time."""
    folder = Path(tempfile.mkdtemp(prefix="trims-sandbox-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for source in _INSIDE.glob("*.py"):
        py_compile.compile(
            str(source), str(folder / "inside" / f"{source.stem}.pyc"), source.name, doraise=True
        )
    return folder


def bare_command() -> list[str]:
    """Starts `inside.main` without a box."""
    return [_python(), "-P", "-s", "-S", "-B", "-c", _START]


@cache
def is_privileged() -> bool:
    """Whether we may make namespaces as root and become others: limits then need another identity."""
    if os.geteuid() != 0:
        return False
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff")), 0)
    return all(held >> number & 1 for number in (_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN))


def identity(number: int) -> int | None:
    """A user and group id for the `number`-th program of this process, nobody's; None where we are not root.

    The kernel counts processes per user, and does not bound root's.
    """
    if not is_privileged():
        return None
    offset = os.getpid() * 4096 + number % 4096
    highest = min(_highest("uid"), _highest("gid"))
    if highest >= _FIRST_IDENTITY + _IDENTITIES:
        return _FIRST_IDENTITY + offset % _IDENTITIES
    return max(1, highest - 1 - offset % 10_000)  # in a container that maps few


def _highest(kind: str) -> int:
    ranges = Path(f"/proc/self/{kind}_map").read_text(encoding="ascii").splitlines()
    return max(int(first) + int(count) - 1 for first, _, count in (line.split() for line in ranges))


def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _needed() -> Iterator[str]:
    """What Python needs: its executable, its library, and the C libraries."""
    yield _python()
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    base |= {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
    needed = {sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")}
    if sys.base_prefix != "/usr":
        needed.add(str(Path(sys.base_prefix, "lib")))  # with a shared libpython
    many = [f"{root}/{sysconfig.get_config_var('MULTIARCH')}" for root in ("/lib", "/usr/lib")]
    needed.update(filter(os.path.isdir, many) if any(map(os.path.isdir, many)) else ("/lib", "/usr/lib"))
    needed.update(("/lib64", "/usr/lib64"), map(str, Path("/lib").glob("ld-*")))
    found = [Path(path) for path in sorted(needed) if Path(path).exists()]
    yield from (str(path) for path in found if not set(path.parents) & set(found))


def _packages() -> Iterator[str]:
    """Installed packages within these folders, which are hidden."""
    for folder in _needed():
        for within in ("", "python3*/"):
            for name in ("site-packages", "dist-packages"):
                yield from map(str, Path(folder).glob(within + name))
