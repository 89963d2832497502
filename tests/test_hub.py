"""Hub inputs: digests of a commit's files, equal to a local copy's, whether the hub is there or not."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from fakes.hub import FakeHub

from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.hub import checkpoint_folder, commit_of, model_folder

MODEL = "models/org/model"
FILES = {
    "README.md": "about",
    ".gitattributes": "*.safetensors lfs",
    "config.json": "{}",
    "tokenizer.json": "[]",
    "chat_template.jinja": "{{ x }}",
    "model.safetensors": b"weights",
    "original/consolidated.bin": b"the same again",
}


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Where a store remembers digests."""
    return tmp_path / "store" / ".digests.json"


def digests_of(memory: Path | None, revision: str | None = None) -> tuple[str, str]:
    """Of a run of its own: checkpoint and tokenizer."""
    digests = Digests(memory)
    return digests.checkpoint("org/model", revision), digests.tokenizer("org/model", revision)


def files_asked(hub: FakeHub) -> set[str]:
    return {line.rpartition(" ")[2] for line in hub.asked if line.startswith("file")}


def test_a_hub_model_has_the_digests_of_a_local_copy_and_its_weights_are_not_fetched(
    hub: FakeHub, tmp_path: Path
) -> None:
    copy = hub.copy(MODEL, hub.commit(MODEL, FILES), tmp_path / "copy")
    local = Digests(None)
    assert digests_of(None) == (local.checkpoint(copy), local.tokenizer(copy))
    assert files_asked(hub) == {"config.json", "tokenizer.json", "chat_template.jinja"}


def test_a_commit_to_the_readme_renames_nothing(hub: FakeHub, memory: Path) -> None:
    hub.commit(MODEL, FILES)
    before = digests_of(memory)
    hub.commit(MODEL, {"README.md": "about it", "LICENSE": "mine", "figure.png": b"x"})
    assert digests_of(memory) == before


@pytest.mark.parametrize(
    ("name", "tokenizer_too"),
    [("model.safetensors", False), ("config.json", True), ("chat_template.jinja", True), ("vocab.txt", True)],
)
def test_a_commit_to_what_is_loaded_renames(
    hub: FakeHub, memory: Path, name: str, tokenizer_too: bool
) -> None:
    hub.commit(MODEL, FILES)
    before = digests_of(memory)
    hub.commit(MODEL, {name: "other"})
    after = digests_of(memory)
    assert [was != now for was, now in zip(before, after, strict=True)] == [True, tokenizer_too]


def test_a_full_commit_whose_digests_are_known_is_not_asked_for(hub: FakeHub, memory: Path) -> None:
    commit = hub.commit(MODEL, FILES)
    hub.commit(MODEL, {"config.json": "[1]"})
    known = digests_of(memory, commit)
    hub.asked.clear()
    assert digests_of(memory, commit) == known
    assert hub.asked == []
    assert digests_of(memory) != known


def test_one_run_asks_for_a_name_once(hub: FakeHub, memory: Path) -> None:
    hub.commit(MODEL, FILES)
    hub.after_info = lambda _repo: hub.commit(MODEL, {"config.json": str(len(hub.asked))})
    digests = Digests(memory)
    assert digests.checkpoint("org/model") == digests.checkpoint("org/model")
    assert digests.commit("model", "org/model") == digests.commit("model", "org/model")
    assert hub.asked.count(f"info {MODEL}") == 1


def test_a_hub_that_is_away_is_answered_from_what_it_said_last(
    hub: FakeHub, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.commit(MODEL, FILES)
    before = digests_of(memory)
    hub.go_away()
    shutil.rmtree(hub.cache)
    assert digests_of(memory) == before
    assert f"taking commit {commit[:12]}" in caplog.text
    with pytest.raises(ConfigError, match="revision other-branch"):
        digests_of(memory, "other-branch")
    hub.come_back()
    hub.commit(MODEL, {"config.json": "[1]"})
    assert digests_of(memory) != before


def test_a_store_that_never_asked_takes_the_commit_and_list_of_the_local_cache(
    hub: FakeHub, memory: Path
) -> None:
    hub.commit(MODEL, FILES)
    before = digests_of(None)
    hub.go_away()
    assert digests_of(memory) == before


def test_what_the_store_knows_goes_before_a_cache_that_others_moved(hub: FakeHub, memory: Path) -> None:
    commit = hub.commit(MODEL, FILES)
    before = digests_of(memory)
    (hub.cache / "models--org--model/refs/main").write_text("f" * 40)
    hub.go_away()
    assert commit_of("model", "org/model", None, known=commit) == commit
    assert digests_of(memory) == before


def test_offline_the_revision_asked_for_is_taken_and_another_one_refused(hub: FakeHub) -> None:
    old = hub.commit(MODEL, FILES, branch="v1")
    hub.commit(MODEL, FILES)
    new = hub.commit(MODEL, {"config.json": "[2]"})
    for revision in ("v1", "main"):
        checkpoint_folder("org/model", revision)
    online = [digests_of(None, revision) for revision in ("v1", "main", old, new)]
    hub.offline()
    hub.asked.clear()
    assert [digests_of(None, revision) for revision in ("v1", "main", old, new)] == online
    assert online[0] != online[1]
    assert checkpoint_folder("org/model", "v1").name == old
    assert checkpoint_folder("org/model", None).name == new
    for unknown in ("v2", "a" * 40):
        with pytest.raises(ConfigError, match=f"revision {unknown}.*HF_HUB_OFFLINE"):
            checkpoint_folder("org/model", unknown)
        with pytest.raises(ConfigError, match=f"revision {unknown}.*HF_HUB_OFFLINE"):
            digests_of(None, unknown)
    assert hub.asked == []


def test_a_cache_without_a_list_is_taken_to_be_whole_but_not_remembered(hub: FakeHub, memory: Path) -> None:
    commit = hub.commit(
        MODEL, {name: data for name, data in FILES.items() if name != "original/consolidated.bin"}
    )
    whole = digests_of(None)
    model_folder("org/model", None)
    repository = hub.cache / "models--org--model"
    shutil.rmtree(repository / "trees")
    hub.offline()
    assert digests_of(memory) == whole
    (repository / "snapshots" / commit / "tokenizer.json").unlink()
    assert digests_of(memory) != whole
    hub.offline(False)
    assert digests_of(memory) == whole


def test_files_that_are_not_in_the_cache_are_named_with_the_command_that_fetches_them(hub: FakeHub) -> None:
    commit = hub.commit(MODEL, FILES)
    known = digests_of(None)
    hub.offline()
    assert digests_of(None) == known, "the digest needs no weights"
    remedy = (
        f"model.safetensors of commit {commit} .* hf download org/model --repo-type model --revision {commit}"
    )
    with pytest.raises(ConfigError, match=remedy):
        checkpoint_folder("org/model", None)
    (hub.cache / "models--org--model/snapshots" / commit / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json of commit"):
        digests_of(None)


def test_an_engine_gets_safetensors_or_else_bin_files(hub: FakeHub) -> None:
    hub.commit(MODEL, {**FILES, "pytorch_model.bin": b"w", "modeling.py": "x = 1"})
    folder = model_folder("org/model", None)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors",
        "modeling.py",
    }
    hub.commit(MODEL, {"model.safetensors": None})
    assert (model_folder("org/model", None) / "pytorch_model.bin").is_file()


def test_names_that_look_like_patterns_are_names(hub: FakeHub, tmp_path: Path) -> None:
    commit = hub.commit(MODEL, {"config.json": "{}", "part[1].json": "one", "part1.json": "two"})
    digest = Digests(None).checkpoint("org/model")
    assert digest == Digests(None).checkpoint(hub.copy(MODEL, commit, tmp_path / "copy"))


def test_a_commit_without_files_to_load_says_so(hub: FakeHub) -> None:
    hub.commit(MODEL, {"README.md": "soon"})
    with pytest.raises(ConfigError, match="no file to use"):
        digests_of(None)


@pytest.mark.parametrize("revision", [None, "v9", "b" * 40])
def test_what_the_hub_does_not_know_is_a_setting_to_correct(hub: FakeHub, revision: str | None) -> None:
    if revision is not None:
        hub.commit(MODEL, FILES)
    with pytest.raises(
        ConfigError, match=r"org/model: neither a folder in .* nor a hub model.*Check the name"
    ):
        digests_of(None, revision)


def test_the_digest_is_over_names_and_sha256(hub: FakeHub) -> None:
    # golden: the canonical JSON of {name: sha256}, written out by hand
    hub.commit(MODEL, {"config.json": "{}", "model.safetensors": b"w"})
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in (("c", b"{}"), ("w", b"w"))}
    text = f'{{"config.json":"{sha256["c"]}","model.safetensors":"{sha256["w"]}"}}'
    assert digests_of(None)[0] == hashlib.sha256(text.encode()).hexdigest()


def test_the_memory_holds_commits_and_digests_as_text(hub: FakeHub, memory: Path) -> None:
    commit = hub.commit(MODEL, FILES)
    checkpoint, tokenizer = digests_of(memory)
    known = json.loads(memory.with_name(".hub.json").read_bytes())
    assert known["model org/model@main"] == commit
    assert {checkpoint, tokenizer} < set(known.values())
    memory.with_name(".hub.json").write_text("{torn")
    assert digests_of(memory) == (checkpoint, tokenizer)
