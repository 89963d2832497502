"""Starting, watching and ending training processes; DeepSpeed with one and two ranks."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from fakes.training_runs import deepspeed_run, fork
from fakes.training_student import N_BUCKETS, curve, same_curves, tiny_spec, write_bucket_shards
from safetensors.torch import load_file

from trims_core import errors
from trims_core.config import LaunchConfig
from trims_core.errors import ConfigError, InterruptedRunError, LaunchError
from trims_core.fork_server import VARIABLE, ForkServer
from trims_core.processes import Child
from trims_core.schema import BUCKETS, read_table, write_table
from trims_core.training import launch as launching
from trims_core.training import warm
from trims_core.training.launch import Member, count_processes, training_environment
from trims_core.training.zero import ZERO2, deepspeed_settings
from trims_core.variants import TrimsVariant

ROOT = Path(__file__).resolve().parents[2]


def member(tmp_path, code, name="rank 0"):
    """A child that runs Python code in place of a training process."""
    return Member(name, Child([sys.executable, "-c", code], tmp_path / f"{name}.log", os.environ))


def plain_spec(tmp_path, world_size=1):
    return tiny_spec(tmp_path, world_size=world_size)


def watch(spec, members):
    """`_watch` and `_end` as run_training does; gives back what progress was told."""
    said = []
    try:
        launching._watch(spec, members, lambda *what: said.append(what))
    finally:
        launching._end(spec, members, 5.0)
    return said


def test_a_rank_that_dies_ends_the_others_and_its_log_is_quoted(tmp_path):
    spec = plain_spec(tmp_path, 2)
    members = [
        member(tmp_path, "import time; time.sleep(600)", "rank 0"),
        member(tmp_path, "print('no such device'); raise SystemExit(3)", "rank 1"),
    ]
    with pytest.raises(LaunchError, match=r"(?s)rank 1 ended with exit code 3.*no such device"):
        watch(spec, members)
    assert members[0].process.returncode == -signal.SIGKILL


def test_a_killed_rank_is_reported_with_its_signal(tmp_path):
    spec = plain_spec(tmp_path)
    with pytest.raises(LaunchError, match=r"killed by SIGKILL \(out of memory\?\)"):
        watch(spec, [member(tmp_path, "import os; os.kill(os.getpid(), 9)")])


@pytest.mark.parametrize("kind", ["TrainingDivergedError", "CheckpointError", "InputError", "DiskFullError"])
def test_what_a_process_said_comes_back_as_its_own_class(tmp_path, kind):
    spec = plain_spec(tmp_path)
    spec.paths.error(0).write_text(json.dumps({"class": kind, "message": "said so"}))
    with pytest.raises(getattr(errors, kind), match="said so"):
        watch(spec, [member(tmp_path, "raise SystemExit(1)")])


def test_processes_asked_from_outside_to_stop_are_an_interruption_not_a_failure(tmp_path):
    spec = plain_spec(tmp_path, 2)
    spec.paths.error(0).write_text(json.dumps({"class": "InterruptedRunError", "message": "saved"}))
    slow = "import time; time.sleep(0.5); raise SystemExit(143)"
    with pytest.raises(InterruptedRunError, match="saved"):
        watch(spec, [member(tmp_path, "raise SystemExit(143)"), member(tmp_path, slow, "rank 1")])


def test_an_interrupted_launch_asks_by_file_and_signal_and_waits(tmp_path):
    spec = plain_spec(tmp_path)
    polite = """
import signal, sys, time
def save(*_):
    print("saving", flush=True)
    time.sleep(0.3)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""
    child = member(tmp_path, polite)
    while "ready" not in child.process.log.read_text():
        time.sleep(0.02)
    launching._end(spec, [child], 30.0)
    assert spec.paths.stop.exists()
    assert child.process.returncode == 143
    assert "saving" in child.process.log.read_text()


def test_one_that_does_not_listen_is_killed_after_the_grace(tmp_path):
    spec = plain_spec(tmp_path)
    deaf = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    )
    child = member(tmp_path, deaf)
    while "ready" not in child.process.log.read_text():
        time.sleep(0.02)
    launching._end(spec, [child], 0.3)
    assert child.process.returncode == -signal.SIGKILL


def test_progress_is_passed_on_and_goes_on_while_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "_HEARTBEAT_S", 0.2)
    spec = plain_spec(tmp_path)
    code = f"""
import pathlib, time
time.sleep(0.6)
pathlib.Path({str(spec.paths.progress)!r}).write_text('{{"done": 3, "total": 9, "note": "here"}}')
time.sleep(0.5)
"""
    said = watch(spec, [member(tmp_path, code)])
    assert said[0] == (0, 0, "starting training processes")
    assert any(note.startswith("starting training processes (") for _, _, note in said)
    assert (3, 9, "here") in said


def test_the_environment_shares_the_cores_and_hides_an_outer_launcher(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("RANK", "5")
    n_cores = len(os.sched_getaffinity(0))
    one, two = (training_environment(plain_spec(tmp_path / str(n), n)) for n in (1, 2))
    assert one["OMP_NUM_THREADS"] == str(n_cores) and two["OMP_NUM_THREADS"] == str(max(1, n_cores // 2))
    assert one["DS_ACCELERATOR"] == "cpu" and "RANK" not in one
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert training_environment(plain_spec(tmp_path / "3"))["OMP_NUM_THREADS"] == "3"


def test_a_hostfile_gives_the_number_of_processes_or_an_error(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("# two machines\nnode1 slots=4\nnode2 slots=8  # big\n")
    assert count_processes(LaunchConfig(hostfile=str(hosts))) == 12
    assert count_processes(LaunchConfig(processes=3)) == 3
    hosts.write_text("node1\n")
    with pytest.raises(ConfigError, match="host slots=N"):
        count_processes(LaunchConfig(hostfile=str(hosts)))
    with pytest.raises(ConfigError, match="no such file"):
        count_processes(LaunchConfig(hostfile=str(tmp_path / "absent")))


def test_the_shipped_deepspeed_file_is_the_built_in_default(project_root):
    shipped = project_root / "configs" / "deepspeed" / "zero2.json"
    assert (
        json.loads(shipped.read_text())
        == ZERO2
        == deepspeed_settings(None)
        == deepspeed_settings(str(shipped))
    )
    assert "optimizer" not in ZERO2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not valid JSON"),
        ("[]", "JSON object"),
        ('{"zero_optimization": {"stage": 4}}', "stage 4"),
    ],
)
def test_unusable_deepspeed_files_are_configuration_errors(tmp_path, text, message):
    path = tmp_path / "ds.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        deepspeed_settings(str(path))


def test_a_compiler_that_fails_is_reported_with_its_output(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "ext"))
    monkeypatch.setattr(warm.sys, "executable", "/bin/false")
    with pytest.raises(LaunchError, match="compiling DeepSpeed's operator failed"):
        warm.ensure_warm(lambda note: None)


def test_a_compiled_operator_is_not_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / f"{warm.OPERATOR}.so").write_bytes(b"compiled")
    said = []
    assert warm.ensure_warm(said.append) == tmp_path / f"{warm.OPERATOR}.so"
    assert said == []


def same_adapters(left, right):
    """Whether two runs ended with the same weights up to rounding."""
    one, two = (load_file(spec.adapter / "adapter_model.safetensors") for spec in (left, right))
    for name in one.keys() | two.keys():
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)
    return bool(one)


@pytest.fixture(scope="module")
def reference_run(tmp_path_factory):
    """One DeepSpeed rank that accumulates four micro-batches of two sequences per step."""
    return deepspeed_run(tmp_path_factory.mktemp("reference"), 1, micro_batch_size=2)[0]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("n_ranks", "micro_batch"), [(2, 2), (1, 8)], ids=["2 ranks × 2", "all in one micro-batch"]
)
def test_deepspeed_gives_the_same_losses_gradients_and_adapter_however_the_batch_is_split(
    tmp_path, reference_run, n_ranks, micro_batch, monkeypatch, caplog
):
    spawn, server = fork, None
    if n_ranks == 2:  # as a run starts them
        spawn, server = launching._spawn, ForkServer(tmp_path / "server.log")
        monkeypatch.setenv(VARIABLE, server.address)
    other, _ = deepspeed_run(tmp_path, n_ranks, spawn=spawn, micro_batch_size=micro_batch)
    if server is not None:
        server.close()
        assert not [one for one in caplog.records if one.name == "trims_core.fork_server"], "forked"
    assert len(curve(reference_run)) == 7
    assert same_curves(reference_run, other, 1e-4, split=True)
    assert same_adapters(reference_run, other)


@pytest.mark.e2e
def test_partitioned_weights_change_nothing_and_a_killed_run_continues_with_them(
    tmp_path, project_root, reference_run, monkeypatch
):
    settings = json.loads((project_root / "configs" / "deepspeed" / "zero3.json").read_text())
    # by default tensors as small as these stay whole
    settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = tmp_path / "zero3.json"
    path.write_text(json.dumps(settings))
    options = {"micro_batch_size": 2, "save_steps": 2, "deepspeed": str(path)}
    monkeypatch.setenv("TRIMS_FAULT", "train.after_step:kill:3")
    with pytest.raises(LaunchError, match="SIGKILL"):
        deepspeed_run(tmp_path / "run", 2, **options)
    monkeypatch.delenv("TRIMS_FAULT")
    resumed, notes = deepspeed_run(tmp_path / "run", 2, **options)
    assert "continuing at step 2" in notes
    assert list(resumed.paths.checkpoints.glob("*/*/zero_pp_rank_1*model_states.pt"))
    assert same_curves(reference_run, resumed, 1e-4)
    assert same_adapters(reference_run, resumed)


@pytest.mark.e2e
def test_two_hosts_of_a_hostfile_give_the_same_adapter(tmp_path, reference_run, monkeypatch):
    """DeepSpeed's own launcher; its ssh and pdsh are stand-ins that run what they are given here."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ssh", "pdsh"):
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m fakes.remote_shell {name} "$@"\n')
        (tools / name).chmod(0o755)
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=1\n127.0.0.1 slots=1\n")
    monkeypatch.setenv("PATH", os.pathsep.join((str(tools), os.environ["PATH"])))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT / "tests"), str(ROOT))))
    spawn = launching._spawn
    spec, _ = deepspeed_run(tmp_path / "run", 2, str(hosts), spawn=spawn, micro_batch_size=2)
    log = (spec.paths.folder / "launcher.log").read_text()
    assert "node_rank=0" in log and "node_rank=1" in log
    assert same_curves(reference_run, spec, 1e-4, split=True)
    assert same_adapters(reference_run, spec)


def easy_but_for(folder, hard):
    """Bucket shards in which all tokens of examples that are not hard are in the last bucket: with p_high 0
    nothing of these is ever hidden."""
    for path in write_bucket_shards(folder):
        rows = read_table(path, BUCKETS).to_pydict()
        rows["bucket"] = [
            [1] * len(buckets) if name in hard else [N_BUCKETS] * len(buckets)
            for name, buckets in zip(rows["id"], rows["bucket"], strict=True)
        ]
        write_table(path, BUCKETS, rows)


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [2, 3])
def test_a_rank_without_anything_to_learn_from_takes_part(tmp_path, stage):
    """One example of 16 has masks: in every step one of two ranks, or both, have none."""
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage, **SPLIT_ALL[stage]}}))
    certain = TrimsVariant(rho=1.0, p_low=1.0, p_high=0.0, certainty=0.5, certainty_ramp=0.0)
    options = {"pads": "none", "micro_batch_size": 2, "deepspeed": str(path)}
    found = []
    for n_ranks in (1, 2):
        folder = tmp_path / str(n_ranks)

        # tiny_spec writes its shards anew: they are exchanged when the processes are about to start
        def spawn(*given, folder=folder):
            easy_but_for(folder / "buckets", {"example-001"})
            return fork(*given)

        changes = {"variant": certain}
        spec, _ = deepspeed_run(folder, n_ranks, spawn=spawn, spec_changes=changes, **options)
        found.append(spec)
    rows = [row for row in curve(found[1]) if row["kind"] == "train"]
    assert {row["loss"] > 0 for row in rows} == {True, False}
    assert {row["grad_norm"] > 0 for row in rows} == {True, False}
    assert same_curves(found[0], found[1], 1e-4, split=True)
    assert same_adapters(*found)


SPLIT_ALL = {2: {}, 3: {"stage3_param_persistence_threshold": 0}}
"""By default stage 3 leaves tensors as small as these whole."""
