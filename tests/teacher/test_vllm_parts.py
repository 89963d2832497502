"""The parts of the vLLM teacher that need no engine: settings, environment, reading its answers, its ties."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.hub import FakeHub

from trims_core.config import ScoresConfig
from trims_core.errors import TeacherError, TeacherUnavailableError
from trims_core.processes import Child
from trims_core.teacher import vllm_teacher
from trims_core.teacher.devices import has_cuda
from trims_core.teacher.limits import Limits
from trims_core.teacher.protocol import Request
from trims_core.teacher.vllm_child import score_rows, target_nll
from trims_core.teacher.vllm_teacher import VllmTeacher, child_environment, engine_arguments

ROWS = [(f"r{i}", [1, 2, 3 + i], 2) for i in range(7)]


@dataclass
class Flat:
    """vLLM's flat log-probabilities: nothing for the first place, then one token per place."""

    token_ids: list[int]
    logprobs: list[float]

    @property
    def start_indices(self) -> list[int]:
        return [0, *range(len(self.token_ids))]

    def __len__(self) -> int:
        return len(self.token_ids) + 1


def fake_generate(bad: set[int]) -> Any:
    calls: list[int] = []

    def generate(prompts: Sequence[dict[str, list[int]]]) -> list[Any]:
        calls.append(len(prompts))
        if any(prompt["prompt_token_ids"][-1] in bad for prompt in prompts):
            raise ValueError("too long")
        ids = [prompt["prompt_token_ids"] for prompt in prompts]
        return [SimpleNamespace(prompt_logprobs=Flat(row[1:], [-0.5] * (len(row) - 1))) for row in ids]

    generate.calls = calls  # type: ignore[attr-defined]
    return generate


def test_one_bad_row_does_not_lose_its_batch() -> None:
    answers = list(score_rows(fake_generate({5}), (ValueError,), ROWS))
    assert sorted(answer[1] for answer in answers) == [f"r{i}" for i in range(7)]
    assert [answer[1:] for answer in answers if answer[0] == "refused"] == [("r2", "too long")]
    assert all(answer[2] == [0.5] for answer in answers if answer[0] == "scored")


def test_a_good_batch_is_one_call() -> None:
    generate = fake_generate(set())
    list(score_rows(generate, (ValueError,), ROWS))
    assert generate.calls == [7]


def test_other_failures_of_the_engine_are_not_taken_for_bad_rows() -> None:
    with pytest.raises(ValueError, match="too long"):
        list(score_rows(fake_generate({5}), (KeyError,), ROWS))


def test_targets_are_read_at_their_places() -> None:
    assert target_nll(Flat([7, 8, 9], [-1.0, -2.0, -3.0]), [6, 7, 8, 9], 2) == [2.0, 3.0]
    plain = [None, *({token: SimpleNamespace(logprob=-token)} for token in (7, 8, 9))]
    assert target_nll(plain, [6, 7, 8, 9], 2) == [8, 9]


def test_an_answer_about_other_tokens_is_refused() -> None:
    with pytest.raises(LookupError, match="token 8 came back for 5"):
        target_nll(Flat([7, 8], [-1.0, -2.0]), [6, 7, 5], 1)
    with pytest.raises(LookupError, match="2 places came back for 3 tokens"):
        target_nll(Flat([7], [-1.0]), [6, 7, 5], 1)


def test_the_engine_gets_room_for_the_longest_row_and_one_token() -> None:
    config = ScoresConfig(model="org/name", options={"max_num_seqs": 7})
    folder = Path("teacher")
    arguments = engine_arguments(folder, config, Limits(4096, 1000, 128), 300, on_gpu=False)
    assert arguments["max_model_len"] == 301
    assert arguments["max_num_seqs"] == 7, "options win"
    assert arguments["kv_cache_memory_bytes"] == 64 << 20
    assert not arguments["enable_prefix_caching"]
    big = engine_arguments(folder, config, Limits(4096, 1000, 1 << 16), 4096, on_gpu=False)
    assert big["kv_cache_memory_bytes"] >= 2 * 4096 * (1 << 16) * 4


def test_on_a_gpu_memory_is_left_for_prompt_log_probabilities() -> None:
    arguments = engine_arguments(Path(), ScoresConfig(model="org/name"), Limits(), 300, on_gpu=True)
    assert arguments["gpu_memory_utilization"] == 0.7
    assert arguments["max_num_batched_tokens"] == 4096
    assert "kv_cache_memory_bytes" not in arguments


def test_the_cpu_environment_is_set_only_without_a_gpu() -> None:
    base = {"OMP_NUM_THREADS": "3", "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": "/x"}
    cpu = child_environment(base, on_gpu=False)
    assert cpu["OMP_NUM_THREADS"] == "3"
    assert cpu["TORCH_COMPILE_DISABLE"] == cpu["HF_HUB_OFFLINE"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in cpu
    assert cpu["PYTHONPATH"].endswith(":/x")
    gpu = child_environment(base, on_gpu=True)
    assert "TORCH_COMPILE_DISABLE" not in gpu
    assert gpu["HF_HUB_OFFLINE"] == "1", "the model is in a folder here"


def test_hidden_devices_are_no_devices() -> None:
    assert not has_cuda({"CUDA_VISIBLE_DEVICES": ""})
    assert not has_cuda({"CUDA_VISIBLE_DEVICES": "-1"})


CHILDREN = {
    # stand-ins for `python -m trims_core.teacher.vllm_child`; the arguments are those of the real one
    "dies": "import sys; print('out of cards'); sys.exit(3)",
    "silent": "import time; time.sleep(60)",
    "refuses": (
        "import sys; from multiprocessing.connection import Connection\n"
        "c = Connection(int(sys.argv[1])); c.recv(); c.send(('failed', 'ValueError: no such dtype'))"
    ),
    "hangs_scoring": (
        "import sys, time; from multiprocessing.connection import Connection\n"
        "c = Connection(int(sys.argv[1])); c.recv(); print('busy', flush=True)\n"
        "c.send(('ready', {'version': '0'})); c.recv(); c.send(('scored', '0', [0.5])); time.sleep(600)"
    ),
    "reads_nothing": (
        "import sys, time; from multiprocessing.connection import Connection\n"
        "c = Connection(int(sys.argv[1])); c.recv(); print('busy', flush=True)\n"
        "c.send(('ready', {'version': '0'})); time.sleep(600)"
    ),
    "tells_the_model": (
        "import sys; from multiprocessing.connection import Connection\n"
        "c = Connection(int(sys.argv[1])); c.send(('failed', c.recv()[1]['model']))"
    ),
    "dies_scoring": (
        "import os, sys; from multiprocessing.connection import Connection\n"
        "c = Connection(int(sys.argv[1])); c.recv(); c.send(('ready', {'version': '0'}))\n"
        "c.recv(); c.send(('scored', 'a', [0.5])); os.kill(os.getpid(), 9)"
    ),
}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes a VllmTeacher whose child is one of CHILDREN."""

    def make(kind: str, **scores: Any) -> VllmTeacher:
        def child(command: list[str], *where: Any, **how: Any) -> Child:
            return Child([sys.executable, "-c", CHILDREN[kind], *command[3:]], *where, **how)

        monkeypatch.setattr(vllm_teacher, "Child", child)
        monkeypatch.setattr(vllm_teacher, "_BEAT_S", 0.05)
        return VllmTeacher(ScoresConfig(**{"model": str(tmp_path), **scores}), Limits(), tmp_path)

    return make


def quiet(_note: str) -> None:
    return None


def test_a_child_that_dies_at_the_start_is_retryable_and_shows_its_log(stand_in: Any) -> None:
    teacher = stand_in("dies")
    with pytest.raises(TeacherUnavailableError, match=r"exit code 3(.|\n)*out of cards") as caught:
        teacher.start(10, quiet)
    teacher.close()
    assert caught.value.retryable


def test_a_child_that_refuses_its_settings_is_not_retryable(stand_in: Any) -> None:
    teacher = stand_in("refuses")
    with pytest.raises(TeacherError, match="no such dtype") as caught:
        teacher.start(10, quiet)
    teacher.close()
    assert not caught.value.retryable


def test_a_hub_teacher_is_loaded_from_the_folder_of_its_commit(stand_in: Any, hub: FakeHub) -> None:
    commit = hub.commit("models/org/teacher", {"config.json": "{}", "model.safetensors": b"w"})
    hub.commit("models/org/teacher", {"model.safetensors": b"v"})
    teacher = stand_in("tells_the_model", model="org/teacher", revision=commit)
    folder = hub.cache.resolve() / "models--org--teacher" / "snapshots" / commit
    with pytest.raises(TeacherError, match=f"does not start: {folder}"):
        teacher.start(10, quiet)
    teacher.close()
    assert (folder / "model.safetensors").read_bytes() == b"w"


def test_a_child_that_never_gets_ready_is_given_up_and_ended(stand_in: Any) -> None:
    teacher = stand_in("silent", start_timeout_s=0.2)
    beats: list[str] = []
    with pytest.raises(TeacherUnavailableError, match="start_timeout_s"):
        teacher.start(10, beats.append)
    pid = teacher._process.pid
    teacher.close()
    assert beats
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("kind", ["hangs_scoring", "reads_nothing"])
def test_an_engine_that_stops_answering_is_given_up(stand_in: Any, kind: str) -> None:
    teacher = stand_in(kind, reply_timeout_s=0.3)
    teacher.start(10, quiet)
    rows = [Request(str(n), [1] * 2000, [2]) for n in range(300)]
    with pytest.raises(TeacherUnavailableError, match=r"scores.reply_timeout_s(.|\n)*busy"):
        list(teacher.score(rows, quiet))
    pid = teacher._process.pid
    teacher.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_replies_before_the_death_of_the_child_count(stand_in: Any) -> None:
    teacher = stand_in("dies_scoring")
    teacher.start(10, quiet)
    replies = teacher.score([Request("a", [1], [2]), Request("b", [1], [2])], quiet)
    assert next(replies).id == "a"
    with pytest.raises(TeacherUnavailableError, match=r"SIGKILL.*out of memory"):
        next(replies)
    teacher.close()
