"""Text of any encoding, from files, pipes and command lines: read, or refused in a message one can print."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fakes.stages import raw_config
from typer.testing import CliRunner

from flows import cli_generate
from flows.cli import app
from flows.embedded import configured_api_url
from trims_core.config import LaunchConfig
from trims_core.errors import ConfigError, CorpusError, InputError, TrimsError
from trims_core.generation import Assistant
from trims_core.settings import load_config
from trims_core.training.launch import count_processes
from trims_core.training.zero import ZERO2, deepspeed_settings


def read_config(path: Path) -> object:
    return load_config(path, env={}).name


def read_hosts(path: Path) -> object:
    return count_processes(LaunchConfig(hostfile=str(path)))


def read_profiles(path: Path) -> object:
    return configured_api_url({"PREFECT_PROFILES_PATH": str(path)})


READERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], str], object]] = {
    "config": (read_config, lambda folder: yaml.safe_dump(raw_config(folder)), "tiny"),
    "deepspeed": (lambda path: deepspeed_settings(str(path)), lambda _: json.dumps(ZERO2), ZERO2),
    "hostfile": (read_hosts, lambda _: "a slots=2\nb slots=1\n", 3),
    "profiles": (
        read_profiles,
        lambda _: 'active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://a/api"\n',
        "http://a/api",
    ),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, kind: str) -> None:
    read, text, value = READERS[kind]
    (tmp_path / "file").write_text(text(tmp_path), encoding="utf-8-sig")
    assert read(tmp_path / "file") == value


@pytest.mark.parametrize("kind", ["config", "deepspeed", "hostfile"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "file: a folder; expected .*Name the file itself"),
        ("name: é\n".encode("latin-1"), "file: not UTF-8 .byte 0xe9 in line 1.; expected"),
        ("name: é\n".encode("utf-16"), "file: UTF-16, or no text at all"),
        ("name: e\n".encode("utf-16-be"), "file: UTF-16, or no text at all"),
    ],
)
def test_a_file_that_is_no_utf_8_text_is_named_with_what_to_do(
    tmp_path: Path, kind: str, data: bytes | None, message: str
) -> None:
    path = tmp_path / "file"
    path.mkdir() if data is None else path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        READERS[kind][0](path)


def stdin(
    monkeypatch: pytest.MonkeyPatch, data: bytes, encoding: str = "utf-8", errors: str = "strict"
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding, errors))


def test_a_byte_order_mark_is_no_part_of_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "How many?\nTwo?\n".encode("utf-8-sig"))
    assert cli_generate._prompts(["-"]) == ["How many?\nTwo?"]
    stdin(monkeypatch, "é".encode("latin-1"), "latin-1")
    assert cli_generate._prompts(["-"]) == ["é"]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("data", ["ok\né".encode("latin-1"), "é".encode("utf-16")])
def test_standard_input_of_another_encoding_is_refused(
    monkeypatch: pytest.MonkeyPatch, data: bytes, errors: str
) -> None:
    stdin(monkeypatch, data, errors=errors)
    with pytest.raises(InputError, match=r"standard input, near line \d: not utf-8"):
        cli_generate._prompts(["-"])


@pytest.fixture(scope="module")
def student(project_root: Path) -> str:
    return str(project_root / "data" / "demo" / "student")


def test_a_mark_changes_no_answer_of_a_conversation(student: str) -> None:
    said = [
        CliRunner().invoke(app, ["chat", student, "--gen-length", "32"], input=mark + "Add 1 and 2.\n").stdout
        for mark in ("", "\ufeff")
    ]
    assert said[0] == said[1] != ""


def test_half_a_surrogate_pair_in_a_prompt_is_refused_in_words_that_can_be_written(student: str) -> None:
    assistant = Assistant.load(student)
    for asked in (
        {"prompt": "a\udce9"},
        {"prompt": "a", "system": "\ud800"},
        {"prompt": "a", "stop": ("\ud800",)},
    ):
        with pytest.raises(InputError, match=r"text '.*\\ud.*': holds half a surrogate pair") as caught:
            assistant.answer(**asked)  # type: ignore[arg-type]
        str(caught.value).encode()


def test_every_error_can_be_encoded() -> None:
    for kind in (TrimsError, CorpusError, ConfigError):
        assert str(kind("é \ud800")) == "é \\ud800"


def run(root: Path, *words: str, program: str = "from flows.cli import main; main()") -> bytes:
    """What a command writes to a standard output in Latin-1."""
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", program, *words], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_standard_output_in_latin_1_shows_what_it_lacks_as_escapes(
    tmp_path: Path, project_root: Path
) -> None:
    folder = tmp_path / "数é"
    said = run(project_root, "demo", "problems", str(folder / "a.jsonl"), "--count", "1")
    assert rf"{tmp_path}/\u6570".encode() + b"\xe9/a.jsonl" in said
    run(project_root, "--help")


def test_json_on_standard_output_in_latin_1_is_json(project_root: Path, student: str) -> None:
    said = run(project_root, "generate", student, "--json", "--prompt", "→ 😀?", "--gen-length", "32")
    assert json.loads(said)["prompt"] == "→ 😀?"
