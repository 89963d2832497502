"""Running one node: cached, made, gated, interrupted; and the stage command."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import stages
from fakes.stages import SPECS, tiny_config

from trims_core.config import STAGES, TrimsConfig
from trims_core.errors import ConfigError, InterruptedRunError, MissingArtifactError, RejectBudgetError
from trims_core.graph import build_graph, node_named
from trims_core.stage import (
    STAGE_MODULES,
    Outcome,
    Result,
    StageSpec,
    Work,
    interruptible,
    main,
    open_parents,
    run_node,
    stage_key,
)
from trims_core.store import Store


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    stages.calls.clear()


def make(config: TrimsConfig, node_id: str, refresh: bool = False, spec: StageSpec | None = None) -> Result:
    """The artifact of a node whose parents exist."""
    specs = {**SPECS, spec.name: spec} if spec else SPECS
    store, node = Store(config.store), node_named(build_graph(config), node_id)
    return run_node(
        store, config, node, open_parents(store, config, node, specs), refresh=refresh, specs=specs
    )


def make_all(config: TrimsConfig) -> dict[str, str]:
    """How each node of the whole pipeline came about."""
    return {node.id: make(config, node.id).how for node in build_graph(config)}


def with_bad_rows(root: Path, n_bad: int, **scores: object) -> TrimsConfig:
    """A corpus in which the fake teacher rejects some rows."""
    config = tiny_config(root, scores=scores)
    names = [f"bad{i}" if i < n_bad else f"a{i}" for i in range(12)]
    (root / "source.jsonl").write_text("".join(f'{{"id": "{name}"}}\n' for name in names))
    return config


def test_everything_is_made_once_and_then_cached(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    assert set(make_all(config).values()) == {"made"}
    stages.calls.clear()
    assert set(make_all(config).values()) == {"cached"}
    assert stages.calls == []


def test_changing_k_redoes_buckets_and_what_hangs_on_them_and_nothing_else(tmp_path: Path) -> None:
    make_all(tiny_config(tmp_path))
    how = make_all(tiny_config(tmp_path, buckets={"k": 4}))
    cached = [name for name, came in how.items() if came == "cached"]
    assert cached == ["corpus", "scores", "sweep/untuned"]


def test_children_of_a_refresh_with_equal_bytes_stay_fresh(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    assert make(config, "scores", refresh=True).how == "made"
    assert set(make_all(config).values()) == {"cached"}


def test_children_of_a_refresh_with_other_bytes_are_made_again(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)

    def other(work: Work) -> Outcome:
        (work.staging.path / "result.json").write_text("other")
        work.staging.record("result", {"result.json": None})
        return Outcome({})

    make(config, "buckets", refresh=True, spec=replace(SPECS["buckets"], produce=other))
    how = make_all(config)
    assert {name for name, came in how.items() if came == "made"} == {
        "train/trims-s0",
        "sweep/trims-s0",
        "report",
    }


def test_a_parent_that_is_replaced_during_the_work_stops_the_commit(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    for name in ("corpus", "scores"):
        make(config, name)

    def other(work: Work) -> Outcome:
        SPECS["scores"].produce(work)
        (work.staging.path / "more.txt").write_text("more")
        work.staging.record("more", {"more.txt": None})
        return Outcome({})

    def slow(work: Work) -> Outcome:
        make(config, "scores", refresh=True, spec=replace(SPECS["scores"], produce=other))
        return SPECS["buckets"].produce(work)

    with pytest.raises(MissingArtifactError, match="replaced by other content meanwhile"):
        make(config, "buckets", spec=replace(SPECS["buckets"], produce=slow))
    assert Store(config.store).folders("buckets") == []


def test_a_raised_stage_version_makes_the_stage_again(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make_all(config)
    key = SPECS["scores"].key
    newer = replace(SPECS["scores"], version=2, key=lambda *args: replace(key(*args), version=2))
    assert make(config, "scores", spec=newer).how == "made"


def test_the_manifest_says_what_and_how(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    manifest = make(config, "scores").artifact.manifest
    corpus = Store(config.store).artifacts("corpus")[0]
    assert manifest.counts == {"n_in": 12, "n_out": 12, "n_rejected": 0}
    assert manifest.info == {"teacher": "fake"}
    assert manifest.config["model"] == "none"
    assert "batch_size" not in manifest.config
    assert manifest.full_config["scores"]["batch_size"] == config.scores.batch_size
    assert manifest.parents == {"corpus": corpus.parent_ref()}
    assert {"python", "numpy", "pyarrow"} <= set(manifest.versions)
    assert manifest.created_at.endswith("+00:00")


def test_rejects_over_the_budget_are_refused_with_their_ids_and_a_remedy(tmp_path: Path) -> None:
    config = with_bad_rows(tmp_path, 2)
    make(config, "corpus")
    with pytest.raises(RejectBudgetError, match=r"2 of 12 rows.*bad0, bad1.*max_rejected_fraction=0\.167"):
        make(config, "scores")
    assert Store(config.store).folders("scores") == []


def test_raising_the_budget_continues_without_scoring_again(tmp_path: Path) -> None:
    config = with_bad_rows(tmp_path, 2)
    make(config, "corpus")
    with pytest.raises(RejectBudgetError):
        make(config, "scores")
    stages.calls.clear()
    assert make(with_bad_rows(tmp_path, 2, max_rejected_fraction=0.167), "scores").how == "made"
    assert stages.calls == []


def test_lowering_the_budget_refuses_the_cached_artifact(tmp_path: Path) -> None:
    generous = with_bad_rows(tmp_path, 12, max_rejected_fraction=1.0)
    for name in ("corpus", "scores"):
        make(generous, name)
    strict = with_bad_rows(tmp_path, 12, max_rejected_fraction=0.5)
    with pytest.raises(RejectBudgetError, match=r"bad9, …\)"):
        make(strict, "scores")
    with pytest.raises(RejectBudgetError):
        make(strict, "buckets")
    assert make(generous, "scores").how == "cached"


def test_ctrl_c_becomes_a_named_error_and_keeps_finished_units(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")

    def interrupted(work: Work) -> Outcome:
        SPECS["scores"].produce(work)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the signal was not noticed")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRunError, match="SIGINT"):
        make(config, "scores", spec=replace(SPECS["scores"], produce=interrupted))
    assert signal.getsignal(signal.SIGINT) is before
    stages.calls.clear()
    assert make(config, "scores").how == "made"
    assert stages.calls == []


def test_a_second_signal_does_not_break_the_clean_up() -> None:
    cleaned = []
    with pytest.raises(InterruptedRunError), interruptible("work"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append("done")
    assert cleaned == ["done"]


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with interruptible("work"):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_missing_parent_names_the_command_that_makes_it(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    make(config, "corpus")
    with pytest.raises(MissingArtifactError, match="trims run CONFIG --until scores"):
        make(config, "buckets")


def test_a_failed_stage_leaves_no_artifact_and_its_error_unchanged(tmp_path: Path) -> None:
    def broken(work: Work) -> Outcome:
        raise KeyError("mine")

    config = tiny_config(tmp_path)
    with pytest.raises(KeyError, match="mine"):
        make(config, "corpus", spec=replace(SPECS["corpus"], produce=broken))
    assert Store(config.store).folders() == []


def test_a_key_counts_config_parents_and_inputs(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    corpus = make(config, "corpus").artifact
    key = stage_key("scores", 3, {"model": "m"}, {"corpus": corpus}, {"teacher": "local:1"})
    assert key.parents == {"corpus": corpus.content_digest}
    assert len(key.fingerprint) == 64


def test_every_stage_has_a_module() -> None:
    assert tuple(STAGE_MODULES) == STAGES


def test_the_command_ends_with_the_errors_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["corpus", "--config", str(tmp_path / "none.yaml")], specs=SPECS) == ConfigError.exit_code
    assert "no such file" in caplog.text


def test_the_command_makes_one_of_several_nodes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    from fakes.stage_cli import write_config

    path = str(write_config(tmp_path))
    two = ["--config", path, "--set", "train.seeds=[0, 1]"]
    for name in ("corpus", "scores", "buckets"):
        assert main([name, *two], specs=SPECS) == 0
    assert main(["train", *two], specs=SPECS) == ConfigError.exit_code
    assert "expected one of train/trims-s0, train/trims-s1" in caplog.text
    assert main(["train", *two, "--node", "train/trims-s1"], specs=SPECS) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("made train/trims-s1 ")
