"""Paths in settings and on the command line: `~` and `$NAME` are filled in or refused; errors say where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.stages import raw_config
from typer.testing import CliRunner

from flows.cli import app
from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.settings import load_config, parse_config

PLACES: dict[str, Any] = {
    "store": lambda config: config.store,
    "corpus.path": lambda config: config.corpus.path[0],
    "scores.model": lambda config: config.scores.model,
    "student.model": lambda config: config.student.model,
    "train.deepspeed": lambda config: config.train.deepspeed,
    "train.logging_dir": lambda config: config.train.logging_dir,
    "train.launch.hostfile": lambda config: config.train.launch.hostfile,
    "sweep.tasks.demo.path": lambda config: config.sweep.tasks["demo"].path[0],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    monkeypatch.delenv("NOWHERE", raising=False)
    return tmp_path


def load(home: Path, *overrides: str) -> TrimsConfig:
    path = home / "run.yaml"
    path.write_text(yaml.safe_dump(raw_config(home)))
    return load_config(path, overrides, env={})


@pytest.mark.parametrize("place", PLACES)
def test_every_path_setting_has_its_home_and_variables_filled_in(home: Path, place: str) -> None:
    for text, path in {
        "~/a": home / "home/a",
        "$HOME/a": home / "home/a",
        "${DATA}/a": home / "data/a",
        "a/b": Path("a/b"),
        "/a~b": Path("/a~b"),
    }.items():
        assert PLACES[place](load(home, f"{place}={text}")) == str(path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$NOWHERE/a", "$NOWHERE is not set in the environment"),
        ("~nobody-here/a", "~nobody-here: no such user"),
        ('"a\\0b"', "holds a zero byte"),
        ("a" * 300, "longer than a file's name can be"),
        ('" "', "is empty"),
    ],
)
def test_what_is_no_path_is_refused_by_name(home: Path, place: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(home, f"{place}={text}")
    assert place in str(caught.value) and message in str(caught.value)


def test_the_store_of_the_environment_and_the_config_s_own_path_are_filled_in(home: Path) -> None:
    load(home)
    (home / "data").mkdir()
    assert load_config("$DATA/../run.yaml", env={"TRIMS_STORE": "~/s"}).store == str(home / "home/s")


def test_a_relative_path_starts_at_the_working_folder_and_errors_name_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    where = f"none.jsonl (in {home / 'elsewhere'})"
    config = parse_config({**raw_config(home), "corpus": {"path": "none.jsonl"}})
    assert config.corpus.path is not None
    with pytest.raises(ConfigError) as caught:
        Digests(None).dataset(config.corpus.path)
    assert where in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_config("none.yaml")
    assert f"none.yaml (in {home / 'elsewhere'}): no such file" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        Digests(None).checkpoint("./none")
    assert f"none (in {home / 'elsewhere'}): no such folder" in str(caught.value)


def test_paths_on_the_command_line_that_no_shell_filled_in_are(home: Path) -> None:
    out = CliRunner().invoke(app, ["demo", "problems", "$DATA/a.jsonl", "--count", "1"])
    assert out.exit_code == 0 and (home / "data/a.jsonl").is_file()
    for words in (["ls", "~/none"], ["plan", "~/none.yaml"], ["generate", "~/none", "--prompt", "a"]):
        found = CliRunner().invoke(app, words)
        assert f"{home}/home/none" in found.output.replace("\n", "")
        assert found.exit_code in (2, 66)
    found = CliRunner().invoke(app, ["ls", "$NOWHERE/a"])
    assert "$NOWHERE is not set" in found.output and found.exit_code == 2
