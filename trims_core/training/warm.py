"""DeepSpeed's compiled operator for CPU ranks, made once: `python -m trims_core.training.warm`.

On a CPU DeepSpeed compiles a shared-memory reduction at its first start (a minute or two, with g++ and
ninja). It is compiled here, into the virtual environment, and training processes only load the file:
PyTorch's own loader calls the compiler at every start, and waits for ever on the lock file of a process
that was killed while it compiled. Our lock is the kernel's, which a killed holder frees.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

import filelock

from trims_core.errors import LaunchError
from trims_core.processes import Child, environment_of_nodes

logger = logging.getLogger(__name__)

OPERATOR: Final = "deepspeed_shm_comm"
_HEARTBEAT_S: Final = 5.0
_COMPILE_TIMEOUT_S: Final = 1800.0


def extensions_folder() -> Path:
    """Where compiled operators lie: in the virtual environment, by versions; TORCH_EXTENSIONS_DIR wins."""
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(chosen)
    root = Path(sys.prefix)
    if not os.access(root, os.W_OK):
        root = Path.home() / ".cache"
    versions = "-".join(importlib.metadata.version(name) for name in ("deepspeed", "torch"))
    return root / "torch_extensions" / f"{versions}-py{platform.python_version()}-{platform.machine()}"


def compiled_operator() -> Path | None:
    """The compiled file, or None while it has not been made."""
    path = extensions_folder() / f"{OPERATOR}.so"
    return path if path.is_file() else None


def load_operator(path: Path) -> None:
    """Hand the compiled operator to DeepSpeed, in this process, without compiler and lock."""
    import torch  # noqa: F401  (the operator's libraries)
    from deepspeed.ops.op_builder.builder import OpBuilder

    spec = importlib.util.spec_from_file_location(OPERATOR, path)
    if spec is None or spec.loader is None:
        raise LaunchError(f"{path}: not a loadable module; remove its folder and run `make setup`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    OpBuilder._loaded_ops[OPERATOR] = module


def ensure_warm(say: Any = None) -> Path:
    """Path of the compiled operator; compiles it first if need be, in a child process.

    Args:
        say: called with a line of text every few seconds while compiling.
    Raises:
        LaunchError: no compiler, or compiling failed; with the end of its output.
    """
    tell = say or logger.info
    folder = extensions_folder()
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{OPERATOR}.lock")
    while compiled_operator() is None:
        try:
            with lock.acquire(timeout=_HEARTBEAT_S):
                if compiled_operator() is None:
                    _compile(folder, tell)
        except filelock.Timeout:
            tell("waiting for another process that compiles DeepSpeed's shared-memory operator")
    path = compiled_operator()
    assert path is not None
    return path


def _compile(folder: Path, tell: Any) -> None:
    """Compile under our lock: whatever lies in the build folder belongs to a dead process.

    The file gets its final name in one step, so that nobody loads half of it.
    """
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        raise LaunchError("DeepSpeed needs a C++ compiler once; install g++ (Debian: apt-get install g++)")
    build = folder / "build"
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir()
    log = folder / f"{OPERATOR}.log"
    start = time.monotonic()
    log.unlink(missing_ok=True)
    compiler = [sys.executable, "-m", "trims_core.training.warm", "--compile"]
    child = Child(compiler, log, compile_environment(build))
    try:
        while child.wait(_HEARTBEAT_S) is None:
            passed_s = time.monotonic() - start
            tell(f"compiling DeepSpeed's shared-memory operator (once; a minute or two): {passed_s:.0f} s")
            if passed_s > _COMPILE_TIMEOUT_S:
                raise LaunchError(f"compiling took longer than {_COMPILE_TIMEOUT_S:.0f} s; see {log}")
    finally:
        child.kill()
    made = build / OPERATOR / f"{OPERATOR}.so"
    if child.returncode == 0 and made.is_file():
        made.replace(folder / made.name)
        shutil.rmtree(build)
    else:
        raise LaunchError(f"compiling DeepSpeed's operator failed. {child.last_words()}")


def compile_environment(folder: Path) -> dict[str, str]:
    """Environment in which DeepSpeed finds ninja (beside this Python) and builds into `folder`."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **environment_of_nodes(),
        "DS_ACCELERATOR": "cpu",
        "TORCH_EXTENSIONS_DIR": str(folder),
        "PATH": search,
    }


def _compile_here() -> None:
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=True)


def main() -> int:
    """Compile if need be, saying so; gives back the exit code."""
    if sys.argv[1:] == ["--compile"]:
        _compile_here()
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        logger.info("DeepSpeed's operator is ready: %s", ensure_warm())
    except LaunchError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
