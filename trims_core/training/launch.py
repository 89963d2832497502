"""Training processes started, watched and ended by the process that wants the adapter.

One machine: the ranks are our direct children, with the environment variables that torchrun and DeepSpeed's
launcher set; that saves a launcher's start-up and a layer of signal handling. Several machines: DeepSpeed's
launcher with the given hostfile. In both cases: their logs go to files, their progress is passed on, they
are asked to save and end when we are interrupted, and they do not outlive us, kill -9 included.
Not covered: processes on other machines after a kill -9 here (the launcher's ssh connections end them).
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core import errors
from trims_core.config import LaunchConfig
from trims_core.errors import (
    CheckpointError,
    ConfigError,
    InterruptedRunError,
    LaunchError,
    ProcessDiedError,
    TrimsError,
)
from trims_core.fork_server import python_child
from trims_core.ports import reserved_port
from trims_core.processes import Child, stop_all
from trims_core.stage import Progress
from trims_core.text_files import text_of
from trims_core.training.checkpoint import check_world_size, find_complete_checkpoint
from trims_core.training.journal import read_progress
from trims_core.training.loggers import check_loggers
from trims_core.training.spec import TrainSpec
from trims_core.training.warm import compile_environment, ensure_warm, extensions_folder

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_HEARTBEAT_S: Final = 2.0
_INTERRUPTED: Final = InterruptedRunError.exit_code
_LAUNCHER_VARIABLES: Final = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


@dataclass(frozen=True)
class Member:
    """One child: a rank, or the launcher of all ranks."""

    name: str
    process: Child


def count_processes(launch: LaunchConfig) -> int:
    """Training processes in all. Raises: ConfigError for a hostfile that is absent or has no slots."""
    if launch.hostfile is None:
        return launch.processes
    path = Path(launch.hostfile)
    text = text_of(path, "train.launch.hostfile to name a file with lines `host slots=N`")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    slots = [re.fullmatch(r"\S+\s+slots=(\d+)", line) for line in lines if line]
    if not slots or not all(slots):
        raise ConfigError(f"train.launch.hostfile: {path}: expected lines `host slots=N`, found {lines[:3]}")
    return sum(int(match.group(1)) for match in slots if match)


def run_training(spec: TrainSpec, launch: LaunchConfig, progress: Progress) -> None:
    """Run a training to its end; afterwards the adapter and result.json exist.

    Raises:
        ConfigError: the package of a tracker in train.report_to is not installed; nothing was started.
        CheckpointError: the newest checkpoint belongs to another number of processes; nothing was started.
        TrainingDivergedError, InputError, …: what a training process said, as its own class.
        LaunchError: a process ended otherwise; with the end of its log.
    """
    check_loggers(spec.train.report_to)
    paths = spec.paths
    checkpoint = find_complete_checkpoint(paths.checkpoints)
    if checkpoint is not None:
        check_world_size(checkpoint, spec.world_size)
        progress(checkpoint.step, 0, f"continuing at step {checkpoint.step}")
    if spec.device == "cpu" and spec.engine == "deepspeed":
        ensure_warm(lambda note: progress(0, 0, note))
    for stale in (
        paths.stop,
        paths.progress,
        paths.result,
        *(paths.error(i) for i in range(spec.world_size)),
    ):
        stale.unlink(missing_ok=True)
    spec.write()
    with _rendezvous(launch) as port:
        members = _start(spec, launch, port)
        try:
            _watch(spec, members, progress)
        finally:
            _end(spec, members, launch.grace_s)
    if not paths.result.exists():
        raise LaunchError(f"training ended without {paths.result}; see {members[0].process.log}")


def training_environment(spec: TrainSpec) -> dict[str, str]:
    """Environment of the training processes.

    CPU ranks share the cores: without a limit two of them are fifteen times slower. An OMP_NUM_THREADS that
    is set already is respected.
    """
    env = compile_environment(extensions_folder())
    if spec.device != "cpu":
        env.pop("DS_ACCELERATOR")
    for name in _LAUNCHER_VARIABLES:
        env.pop(name, None)
    n_threads = max(1, len(os.sched_getaffinity(0)) // spec.world_size) if spec.device == "cpu" else 1
    return {
        "OMP_NUM_THREADS": str(n_threads),
        "TOKENIZERS_PARALLELISM": "false",
        **env,
    }


def _rendezvous(launch: LaunchConfig) -> AbstractContextManager[int]:
    """The port at which the processes meet, kept for them."""
    return nullcontext(launch.master_port) if launch.master_port else reserved_port()


def _start(spec: TrainSpec, launch: LaunchConfig, master_port: int) -> list[Member]:
    env = training_environment(spec)
    port = str(master_port)
    module = ["trims_core.training.run", str(spec.paths.spec)]
    if launch.hostfile is not None:
        launcher = ["--hostfile", launch.hostfile, "--master_port", port, "--no_local_rank", "--module"]
        log = spec.paths.folder / "launcher.log"
        return [_spawn("launcher", ["deepspeed.launcher.runner", *launcher, *module], env, log)]
    members = []
    try:
        for rank in range(spec.world_size):
            place = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(spec.world_size),
                "LOCAL_WORLD_SIZE": str(spec.world_size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            members.append(_spawn(f"rank {rank}", module, env | place, spec.paths.log(rank)))
    except BaseException:
        stop_all([member.process for member in members], grace_s=0.0)
        raise
    return members


def _spawn(name: str, module: Sequence[str], env: Mapping[str, str], log: Path) -> Member:
    return Member(name, python_child(module, log, env))


def _watch(spec: TrainSpec, members: Sequence[Member], progress: Progress) -> None:
    """Pass progress on until all members have ended well. Raises: what the first failing one said."""
    started = told = time.monotonic()
    last: tuple[int, int, str] | None = None
    while True:
        codes = [member.process.returncode for member in members]
        failed = [member for member, code in zip(members, codes, strict=True) if code not in (None, 0)]
        said = read_progress(spec.paths.progress) or (0, 0, "starting training processes")
        now = time.monotonic()
        if said != last:
            progress(*said)
            last, told = said, now
        elif now - told >= _HEARTBEAT_S:
            progress(said[0], said[1], f"{said[2]} ({now - started:.0f} s)")
            told = now
        if failed and all(code in (None, 0, _INTERRUPTED) for code in codes):
            failed = [] if None in codes else failed
        if failed:
            raise _failure(spec, failed[0])
        if None not in codes:
            return
        time.sleep(_POLL_S)


def _failure(spec: TrainSpec, member: Member) -> TrimsError:
    """What a process said before it ended, as an error of its own class; else the end of its log."""
    for rank in range(spec.world_size):
        path = spec.paths.error(rank)
        if path.exists():
            said = json.loads(path.read_bytes())
            known = getattr(errors, said["class"], CheckpointError)
            return known(said["message"])
    return ProcessDiedError(
        f"training {member.name} {member.process.ending()}; the same command continues from the last"
        f" checkpoint. {member.process.last_words()}"
    )


def _end(spec: TrainSpec, members: Sequence[Member], grace_s: float) -> None:
    """Ask what still runs to save and end, wait that long at most, then kill.

    Before their first step processes have no handler for SIGTERM and nothing to save: they end at once.
    """
    codes = [member.process.returncode for member in members]
    saves = None in codes and all(code in (None, 0, _INTERRUPTED) for code in codes)
    if saves:
        logger.info("asking training to save and end (at most %.0f s)", grace_s)
        spec.paths.stop.touch()  # what a launcher's ranks look at; it does not pass signals on
    children = [member.process for member in members]
    ranks = [member.process for member in members if member.name != "launcher"]
    stop_all(children, grace_s if saves else 0.0, ask=ranks)
