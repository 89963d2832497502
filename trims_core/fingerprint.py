"""Canonical JSON and content digests: what a stage's result depends on, as text.

Covered: bytes of local files, folders, checkpoints and tokenizers; commits of hub models and data sets.
Digests of local files are remembered by (inode, ctime, mtime, size), so that planning a cached run reads no
data. Not covered: rot that leaves a file's times alone (`trims verify --deep` re-hashes).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from trims_core.errors import ConfigError

logger = logging.getLogger(__name__)

Json: TypeAlias = Any
"""A value that JSON can hold: None, bool, int, float, str, list or dict with string keys."""

TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "added_tokens.json",
    "config.json",
)
_NOT_LOADED: Final = ("*.md", "*.png", "*.svg", "*.jsonl", "*.log", "LICENSE*", ".*")
"""Files of a checkpoint folder that no loader reads."""
_HUB_NAME: Final = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_COMMIT: Final = re.compile(r"^[0-9a-f]{40}$")
_HUB_TIMEOUT_S: Final = 15.0
_CHUNK_BYTES: Final = 1 << 20
_UNSETTLED_NS: Final = 20_000_000
"""A file may change again within one tick of the file system's clock; younger digests are not remembered."""
_MAX_REMEMBERED: Final = 50_000


def canonical_json(obj: Json) -> bytes:
    """One byte string per value: sorted keys, no spaces, floats by repr, UTF-8.

    Raises:
        ValueError: NaN or infinity. TypeError: a value or key that JSON does not have.
    """
    text = json.dumps(_plain(obj), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_json(obj: Json) -> str:
    """Hex sha256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(obj)).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return _sha256_of(file)


def _sha256_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _plain(obj: Json) -> Json:
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} is {type(key).__name__}; canonical JSON has string keys only")
        return {key: _plain(value) for key, value in obj.items()}
    if isinstance(obj, str):
        return obj
    if isinstance(obj, Sequence) and not isinstance(obj, bytes | bytearray):
        return [_plain(value) for value in obj]
    if isinstance(obj, float) and not math.isfinite(obj):
        raise ValueError(f"{obj!r} has no canonical JSON; expected a finite number")
    return obj


class FileDigests:
    """sha256 of files, each read once per content: remembered by (inode, ctime, mtime, size).

    ctime tells what mtime may hide (a copy that keeps times, one that is renamed into place); the device is
    left out, as its number differs between containers. The memory is one JSON file, replaced atomically;
    processes that save at the same time merge what they know, and a lost entry costs one more reading.
    Without a `cache_file`, or where it cannot be written, the memory lasts as long as the object. Safe to
    use from several threads.
    """

    def __init__(self, cache_file: Path | None) -> None:
        self._cache_file = cache_file
        self._lock = threading.Lock()
        self._known: dict[str, str] = _read_cache(cache_file)
        self._fresh: dict[str, str] = {}

    def sha256(self, path: Path) -> str:
        """Hex sha256 of the file, read only where the memory has no entry."""
        return self.recall(path.stat()) or self.read(path)

    def read(self, path: Path) -> str:
        """Hex sha256 of the file, read in any case; remembered unless it changed while it was read."""
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            digest = _sha256_of(file)
            after = os.fstat(file.fileno())
        if _stat_key(before) == _stat_key(after):
            self._remember(after, digest)
        return digest

    def recall(self, stat: os.stat_result) -> str | None:
        """What this content's digest was, or None where it was never read."""
        return self._known.get(_stat_key(stat))

    def _remember(self, stat: os.stat_result, digest: str) -> None:
        """Keep a digest, unless the file is so young that it may still change unnoticed."""
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < _UNSETTLED_NS:
            return
        with self._lock:
            key = _stat_key(stat)
            if self._known.get(key) != digest:
                self._known[key] = self._fresh[key] = digest

    def save(self) -> None:
        """Write what is new to the cache file; where that is not allowed, keep it in memory only."""
        with self._lock:
            if self._cache_file is None or not self._fresh:
                return
            merged = {**_read_cache(self._cache_file), **self._fresh}
            kept = dict(list(merged.items())[-_MAX_REMEMBERED:])
            try:
                self._cache_file.parent.mkdir(parents=True, exist_ok=True)
                _replace_file(self._cache_file, canonical_json(kept))
            except OSError as error:
                logger.debug("digests are not remembered in %s: %s", self._cache_file, error)
                return
            self._fresh = {}


def _stat_key(stat: os.stat_result) -> str:
    return f"{stat.st_ino}:{stat.st_ctime_ns}:{stat.st_mtime_ns}:{stat.st_size}"


def _read_cache(path: Path | None) -> dict[str, str]:
    """Remembered digests; empty where there are none or the file was torn (they are then taken anew)."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _replace_file(path: Path, data: bytes) -> None:
    """Atomically, with the permissions that the umask gives: a store may belong to a group."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.{time.time_ns()}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def pinned(identity: str, revision: str | None) -> str | None:
    """The commit that a hub input was resolved to for its key, so that loaders load exactly that; the
    revision as it is for local inputs.

    Args:
        identity: what `Digests.checkpoint`, `tokenizer` or `dataset` gave.
    """
    return identity.rpartition("@")[2] if identity.startswith("hub:") else revision


class Digests:
    """Content digests of outside inputs: files, folders, checkpoints, tokenizers and data sets."""

    def __init__(self, cache_file: Path | None) -> None:
        self._files = FileDigests(cache_file)
        self._commits: dict[str, str] = {}
        self._resolved = None if cache_file is None else cache_file.with_name(".commits.json")

    def file(self, path: str | Path) -> str:
        """Hex sha256 of one file. Raises: ConfigError where it cannot be read."""
        digest = self._file(Path(path))
        self._files.save()
        return digest

    def tree(self, folder: str | Path, patterns: Sequence[str] | None = None) -> str:
        """Hex digest over the sorted relative names and contents of a folder's files.

        Args:
            patterns: shell patterns a relative name must match (one of them); default: every file.
        """
        digest = self._tree(Path(folder), patterns, ())
        self._files.save()
        return digest

    def checkpoint(self, model: str | Path, revision: str | None = None) -> str:
        """`local:<hex>` for a folder (files that loaders read), `hub:<name>@<commit>` for a hub name.

        Raises:
            ConfigError: neither a folder nor a hub model that can be reached.
        """
        if Path(model).is_dir():
            digest = self._tree(Path(model), None, _NOT_LOADED)
            self._files.save()
            return f"local:{digest}"
        return f"hub:{model}@{self._commit('model', str(model), revision)}"

    def tokenizer(self, model: str | Path, revision: str | None = None) -> str:
        """Like `checkpoint`, over the tokenizer's files and config.json only."""
        if Path(model).is_dir():
            return f"local:{self.tree(model, TOKENIZER_FILES)}"
        return f"hub:{model}@{self._commit('model', str(model), revision)}"

    def dataset(
        self,
        path: Sequence[str] | str | None,
        hub: str | None = None,
        hub_config: str | None = None,
        split: str | None = None,
        revision: str | None = None,
    ) -> str:
        """Hex digest over local files in their order, or `hub:<name>/<config>/<split>@<commit>`.

        Raises:
            ConfigError: a file is missing, no source is given, or the hub cannot be reached.
        """
        if path is not None:
            names = (path,) if isinstance(path, str) else tuple(path)
            digest = sha256_json([self._file(Path(name)) for name in names])
            self._files.save()
            return digest
        if hub is None:
            raise ConfigError("a data set needs `path` (local files) or `hub` (a hub name); neither is set")
        return f"hub:{hub}/{hub_config or 'default'}/{split}@{self._commit('dataset', hub, revision)}"

    def _file(self, path: Path) -> str:
        try:
            return self._files.sha256(path)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}); expected a file. Correct the path in the config"
            ) from error

    def _tree(self, folder: Path, patterns: Sequence[str] | None, without: Sequence[str]) -> str:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder. Correct the path in the config")
        listing = {}
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not _matches(name, without))
            for name in sorted(names):
                path = Path(parent, name)
                relative = path.relative_to(folder).as_posix()
                if not _matches(name, without) and (patterns is None or _matches(relative, patterns)):
                    listing[relative] = self._file(path)
        if not listing:
            wanted = "any file" if patterns is None else ", ".join(patterns)
            raise ConfigError(f"{folder}: nothing to use in this folder; expected {wanted}")
        return sha256_json(listing)

    def _commit(self, kind: str, name: str, revision: str | None) -> str:
        if not _HUB_NAME.match(name):
            raise ConfigError(
                f"{name}: no such folder, and not a hub name such as org/name. Correct the config"
            )
        if revision is not None and _COMMIT.match(revision):
            return revision
        key = f"{kind}:{name}@{revision or 'main'}"
        if key not in self._commits:
            self._commits[key] = self._resolve(kind, name, revision, key)
        return self._commits[key]

    def _resolve(self, kind: str, name: str, revision: str | None, key: str) -> str:
        """What the hub says now; while it is away, what it said last. Loaders load exactly that commit."""
        known = _read_cache(self._resolved)
        try:
            commit = _hub_commit(kind, name, revision)
        except ConfigError as error:
            if key not in known:
                raise
            logger.warning("%s: taking commit %s, which it was last (%s)", name, known[key][:12], error)
            return known[key]
        if self._resolved is not None and known.get(key) != commit:
            with suppress(OSError):  # a store that cannot be written: resolved again next time
                self._resolved.parent.mkdir(parents=True, exist_ok=True)
                _replace_file(self._resolved, canonical_json({**known, key: commit}))
        return commit


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _hub_commit(kind: str, name: str, revision: str | None) -> str:
    """The commit a hub name stands for now; with HF_HUB_OFFLINE set, the one in the local hub cache."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    remedy = "Check the name and the connection, or set the path of a local copy"
    try:
        if constants.HF_HUB_OFFLINE:
            snapshot = snapshot_download(
                name, repo_type=kind, revision=revision, local_files_only=True, allow_patterns=["config.json"]
            )
            return Path(snapshot).name
        api = HfApi()
        ask = api.model_info if kind == "model" else api.dataset_info
        commit = ask(name, revision=revision, timeout=_HUB_TIMEOUT_S).sha
    except (OSError, HTTPError, ValueError) as error:
        where = "the local hub cache (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else "the hub"
        raise ConfigError(
            f"{name}: not a local folder, and {where} does not give {kind} {name!r}"
            f" (revision {revision or 'main'}): {error}. {remedy}"
        ) from error
    if commit is None:
        raise ConfigError(f"{name}: the hub names no commit for revision {revision or 'main'}. {remedy}")
    return str(commit)
