"""Canonical JSON and content digests."""

from __future__ import annotations

import hashlib
import os
import stat as stat_module
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core import fingerprint
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests, FileDigests, canonical_json, sha256_file, sha256_json

_TEXTS = st.text(max_size=4)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)


def _age() -> None:
    """Let what was written become old enough to be remembered: ctime cannot be set."""
    time.sleep(fingerprint._UNSETTLED_NS / 1e9 + 0.01)


def _spy_on_reading(monkeypatch: pytest.MonkeyPatch, at_end: Callable[[], None] = lambda: None) -> list[str]:
    """Names of the files that are hashed from now on; `at_end` runs once a file was read."""
    read: list[str] = []
    really = fingerprint._sha256_of

    def spied(file: BinaryIO) -> str:
        digest = really(file)
        read.append(Path(file.name).name)
        at_end()
        return digest

    monkeypatch.setattr(fingerprint, "_sha256_of", spied)
    return read


def test_canonical_json_is_the_known_text() -> None:
    # golden: written out by hand
    value = {"b": (1, 2.0, 0.1), "a": {"ü": None, "x": True}}
    assert canonical_json(value) == '{"a":{"x":true,"ü":null},"b":[1,2.0,0.1]}'.encode()


@given(st.dictionaries(_TEXTS, _VALUES, max_size=4))
def test_key_order_does_not_change_the_digest(value: dict[str, object]) -> None:
    assert sha256_json(value) == sha256_json(dict(reversed(value.items())))


def test_different_values_have_different_digests() -> None:
    values = [{}, [], "", 0, 0.5, None, False, "0", {"a": 1}, {"a": "1"}, {"a": [1]}, [["a", 1]]]
    assert len({sha256_json(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_numbers_without_json_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="canonical JSON"):
        canonical_json(value)


def test_keys_that_are_not_text_are_refused() -> None:
    with pytest.raises(TypeError, match="string keys only"):
        canonical_json({1: "a"})


def test_a_file_is_read_once_for_each_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _spy_on_reading(monkeypatch)
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    _age()
    first = FileDigests(tmp_path / "cache.json")
    before = first.sha256(path)
    first.sha256(path)
    first.save()
    assert FileDigests(tmp_path / "cache.json").sha256(path) == before
    assert read == ["a.bin"]
    path.write_bytes(b"two")
    assert FileDigests(tmp_path / "cache.json").sha256(path) != before


def test_a_file_written_a_moment_ago_is_not_trusted_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    digests = FileDigests(None)
    digests.sha256(path)
    assert digests.recall(path.stat()) is None
    _age()
    digests.sha256(path)
    assert digests.recall(path.stat()) is not None


def test_a_file_that_is_written_to_while_it_is_hashed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    _age()

    def write() -> None:
        with path.open("r+b") as file:
            file.write(b"new")
        os.utime(path, ns=(10**18, 10**18))

    os.utime(path, ns=(10**18, 10**18))
    _age()
    digests, before = FileDigests(None), path.stat()
    with monkeypatch.context() as patch:
        _spy_on_reading(patch, write)
        digests.sha256(path)
    assert digests.recall(before) is digests.recall(path.stat()) is None
    assert digests.sha256(path) == hashlib.sha256(b"new").hexdigest()


def test_a_file_that_is_replaced_while_it_is_hashed_does_not_get_the_old_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a.bin", tmp_path / "b.bin"
    path.write_bytes(b"old")
    other.write_bytes(b"new")
    _age()

    def replace() -> None:
        other.replace(path)
        _age()

    digests = FileDigests(None)
    with monkeypatch.context() as patch:
        _spy_on_reading(patch, replace)
        digests.sha256(path)
    assert digests.recall(path.stat()) is None
    assert digests.sha256(path) == hashlib.sha256(b"new").hexdigest()


def test_a_file_of_equal_size_under_the_old_mtime_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    _age()
    digests, stat = FileDigests(None), path.stat()
    digests.sha256(path)
    with path.open("r+b") as file:
        file.write(b"new")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert digests.sha256(path) == hashlib.sha256(b"new").hexdigest()


def test_the_number_of_the_device_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    _age()
    digests = FileDigests(None)
    digests.sha256(path)
    values = list(path.stat())
    values[stat_module.ST_DEV] += 1
    named = {name: getattr(path.stat(), name) for name in ("st_mtime_ns", "st_ctime_ns", "st_atime_ns")}
    assert digests.recall(os.stat_result(values, named)) is not None


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o077, 0o600)])
def test_the_memory_has_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    _age()
    before = os.umask(umask)
    try:
        digests = FileDigests(tmp_path / "cache.json")
        digests.sha256(path)
        digests.save()
    finally:
        os.umask(before)
    assert (tmp_path / "cache.json").stat().st_mode & 0o777 == mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "cache.json"]


def test_two_writers_of_the_cache_keep_each_others_entries(tmp_path: Path) -> None:
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    caches = [FileDigests(tmp_path / "cache.json") for _ in paths]
    for path, cache in zip(paths, caches, strict=True):
        path.write_text(path.name)
        _age()
        cache.sha256(path)
        cache.save()
    merged = FileDigests(tmp_path / "cache.json")
    assert [merged.recall(path.stat()) for path in paths] == [sha256_file(path) for path in paths]


def test_a_torn_cache_is_taken_anew(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text('{"1:2')
    path = tmp_path / "a.bin"
    path.write_text("x")
    assert FileDigests(tmp_path / "cache.json").sha256(path) == sha256_file(path)


def test_a_tree_depends_on_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "a.json").write_text("a")
        (tmp_path / name / "sub" / "b.json").write_text("b")
    digests = Digests(None)
    assert digests.tree(tmp_path / "one") == digests.tree(tmp_path / "two")
    (tmp_path / "two" / "a.json").rename(tmp_path / "two" / "c.json")
    assert digests.tree(tmp_path / "one") != digests.tree(tmp_path / "two")


def test_a_checkpoint_is_its_weights_and_settings_not_its_readme(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = Digests(None).checkpoint(tmp_path)
    (tmp_path / "README.md").write_text("about")
    assert Digests(None).checkpoint(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"other!!")
    assert Digests(None).checkpoint(tmp_path) != before


def test_a_tokenizer_does_not_depend_on_the_weights(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = Digests(None).tokenizer(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert Digests(None).tokenizer(tmp_path) == before
    (tmp_path / "tokenizer.json").write_text("[]")
    assert Digests(None).tokenizer(tmp_path) != before


@pytest.mark.parametrize(
    "name", ["tokenizer.model", "vocab.txt", "qwen.tiktoken", "additional_chat_templates/tools.jinja"]
)
def test_every_file_that_a_tokenizer_is_made_from_counts(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = Digests(None).tokenizer(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    assert Digests(None).tokenizer(tmp_path) != before


def test_a_hub_name_while_offline_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        Digests(None).checkpoint("org/surely-not-cached")


@pytest.mark.parametrize("model", ["data/demo/no-such-folder/x", "./teacher", "/no/where"])
def test_a_missing_folder_is_a_config_error(model: str) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        Digests(None).checkpoint(model)


def test_data_files_count_by_content_and_order(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", "a"), ("b.jsonl", "b"), ("copy.jsonl", "a")):
        (tmp_path / name).write_text(text)
    a, b, copy = (str(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "copy.jsonl"))
    digests = Digests(None)
    assert digests.dataset((a, b)) == digests.dataset((copy, b))
    assert digests.dataset((a, b)) != digests.dataset((b, a))
    assert digests.dataset((a,)) == digests.dataset(a)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.jsonl"):
        Digests(None).dataset((str(tmp_path / "nothing.jsonl"),))
    with pytest.raises(ConfigError, match="neither is set"):
        Digests(None).dataset(None)


def test_two_files_of_one_moment_and_size_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one")
    one = (tmp_path / "one").stat()
    moments = {name: getattr(one, name) for name in ("st_ctime_ns", "st_mtime_ns", "st_size")}
    time.sleep(0.05)  # a digest of a file that was just written is not remembered
    digests = FileDigests(None)
    assert digests.read(tmp_path / "one") == digests.recall(one)
    other = SimpleNamespace(st_ino=one.st_ino + 1, st_dev=one.st_dev, **moments)
    assert digests.recall(other) is None  # type: ignore[arg-type]
