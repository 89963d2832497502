"""`trims ablate` and its flow: arms share what is the same, go on after a kill, end on one page.

Fake stages, a real server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import ablation_world, flow_stages
from fakes.ablation_world import made, make_all
from fakes.runner_world import install as install_processes
from fakes.runner_world import peak, spans
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from typer.testing import CliRunner

from flows.ablations import trims_ablations
from flows.cli import app
from flows.pipeline import run_steps
from trims_core.ablations import ablation_of
from trims_core.store import Store

_PROGRAM = (
    "import sys\n"
    "from pathlib import Path\n"
    "import pytest\n"
    "from fakes import ablation_world\n"
    "ablation_world.stand_in(ablation_world.ablation_world(Path({root!r})), pytest.MonkeyPatch())\n"
    "from flows.cli import app\n"
    "app(standalone_mode=False)\n"
    "print('PREFECT', 'prefect' in sys.modules)\n"
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a made-up run with two factors; its stages stand in for the real ones."""
    return ablation_world.install(tmp_path, monkeypatch)


def trims(*words: str | Path) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["ablate", *map(str, words)], env={"COLUMNS": "300"})
    return found.exit_code, found.output


def page_of(world: Path) -> Path:
    return world.parent / "store" / "compared" / "world" / "index.html"


@pytest.mark.usefixtures("prefect_api")
def test_the_flow_makes_every_arm_once_and_shows_table_and_picture(world: Path) -> None:
    state = trims_ablations(config=str(world), return_state=True)
    result = state.result()
    assert Path(result["page"]) == page_of(world)
    ablation = ablation_of(world)
    assert list(result["artifacts"]) == [step.id for step in ablation.steps]
    assert made["corpus"] == 1
    assert (made["buckets"], made["train"]) == (2, 6)
    results = json.loads((page_of(world).parent / "results.json").read_text())
    assert [row["label"] for row in results["ablations"]["rows"]] == [
        "base",
        "order=ascending",
        "k=2",
        "base",
    ]
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        found = {one.key: one for one in client.read_artifacts(flow_run_filter=wanted)}
    assert found["trims-world-ablations-demo"].type == "table"
    assert "order: ascending" in str(found["trims-world-ablations-demo"].data)
    figures = [path.stem for path in (page_of(world).parent / "figures").glob("*.png")]
    assert {"ablations-demo", "curve-demo"} <= set(figures)
    assert {found[f"trims-world-comparison-{name}"].type for name in figures} == {"image"}
    made.clear()
    again = trims_ablations(config=str(world))
    assert again == result
    assert not made


def test_the_plan_names_what_is_there_and_what_is_to_do_and_runs_nothing(world: Path) -> None:
    code, said = trims(world, "--plan")
    assert (code, "3 arms: 25 of 25 artifacts are to be made" in said) == (0, True), said
    assert "k=2/train/trims-s0" in said and "order=ascending/buckets" not in said
    assert (
        "waits for k=2/buckets, which" in said and "waits for order=ascending/train/trims-s0, which" in said
    )
    make_all(ablation_of(world, ["train.seeds=[0]"]))
    code, said = trims(world, "--plan", "--set", "train.seeds=[0]")
    assert "3 arms: 0 of 16 artifacts are to be made" in said
    assert not page_of(world).exists()


def test_wrong_arms_are_refused_together_before_anything_starts(world: Path) -> None:
    wrong = 'ablate.factors={"buckets.kk": [4], "train.variants.trims.rho": [2.0]}'
    code, said = trims(world, "--set", wrong)
    assert code == 2
    assert "buckets.kk: unknown key; did you mean 'k'?" in said
    assert "train.variants.trims.rho: Input should be less than or equal to 1" in said
    assert not made


def _command(world: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`trims ablate` in a process of its own, with a server of its own where it needs one."""
    root = Path(__file__).resolve().parents[2]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    paths = os.pathsep.join((str(root), str(root / "tests")))
    env = {**inherited, "HOME": str(world.parent), "PYTHONPATH": paths, "COLUMNS": "200", **env}
    words = [sys.executable, "-c", _PROGRAM.format(root=str(world.parent)), "ablate", str(world)]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.e2e
def test_after_a_kill_the_same_command_goes_on_and_then_needs_no_prefect(world: Path) -> None:
    killed = _command(world, TRIMS_FAULT="store.before_rename:kill:12")
    assert killed.returncode == -9, killed.stdout + killed.stderr
    store = Store(world.parent / "store")
    kept = {artifact.path: artifact.manifest.created_at for artifact in store.artifacts()}
    assert len(kept) == 11 and not page_of(world).exists()
    done = _command(world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"report: {page_of(world)}" in done.stdout
    now = {artifact.path: artifact.manifest.created_at for artifact in store.artifacts()}
    assert kept.items() <= now.items(), "what was finished is not made again"
    assert len(now) == 25
    first = page_of(world).parent / "results.json"
    before = first.read_bytes()
    again = _command(world)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "prefect server" not in again.stdout and "PREFECT False" in again.stdout
    assert first.read_bytes() == before


@pytest.mark.usefixtures("prefect_api")
def test_arms_are_made_side_by_side_by_a_runner_that_does_so(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = install_processes(tmp_path, monkeypatch)
    monkeypatch.setenv("SLOW_TRAIN_S", "6")  # processes may begin seconds apart
    factors = '{"train.variants.trims.order": ["random"], "train.variants.trims.rho": [0.1]}'
    aside = ["runner=processes", "resources.nodes=3", f"ablate.factors={factors}"]
    ablation = ablation_of(config, aside)

    @flow(persist_result=False)
    def arms() -> Any:
        return run_steps(ablation.steps)

    done = arms()
    assert set(done) == {step.id for step in ablation.steps}
    trained = [span for name, span in spans(begun).items() if name.startswith("train")]
    assert len(trained) == 3
    assert peak(trained) > 1
    assert len([name for name in spans(begun) if name.startswith("buckets")]) == flow_stages.stages.N_SHARDS
