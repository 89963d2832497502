"""Canonical JSON and content digests: what a stage's result depends on, as text.

Covered: bytes of files, folders, checkpoints, tokenizers and data sets, here or on the hub: a local copy of a
hub input has its digest, and a commit that changes only a README has the digest of the one before. Digests of
local files are remembered by (inode, ctime, mtime, size), those of hub inputs by commit, so that planning a
cached run reads no data and asks for no files. Not covered: rot that leaves a file's times alone
(`trims verify --deep` re-hashes).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from trims_core.errors import ConfigError
from trims_core.hub import TOKENIZER_FILES, Kind, Listing, commit_of, fetch, files_of, matches
from trims_core.paths import located

logger = logging.getLogger(__name__)

Json: TypeAlias = Any
"""A value that JSON can hold: None, bool, int, float, str, list or dict with string keys."""

_NOT_LOADED: Final = ("*.md", "*.png", "*.svg", "*.jsonl", "*.log", "LICENSE*", ".*")
"""Files of a checkpoint, and folders in it, that no loader reads."""
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


class Digests:
    """Content digests of outside inputs: files, folders, checkpoints, tokenizers and data sets.

    Commits and digests of hub inputs are remembered in a file beside `cache_file`.
    """

    def __init__(self, cache_file: Path | None) -> None:
        self._files = FileDigests(cache_file)
        self._hub_file = None if cache_file is None else cache_file.with_name(".hub.json")
        self._hub: dict[str, str] = {}
        """What was asked for or recalled since this object was made."""

    def file(self, path: str | Path) -> str:
        """Hex sha256 of one file. Raises: ConfigError where it cannot be read."""
        digest = self._file(Path(path))
        self._files.save()
        return digest

    def tree(self, folder: str | Path, patterns: Sequence[str] = ("*",)) -> str:
        """Hex digest over the sorted relative names and contents of a folder's files.

        Args:
            patterns: shell patterns a relative name must match (one of them).
        """
        digest = self._tree(Path(folder), patterns, ())
        self._files.save()
        return digest

    def checkpoint(self, model: str | Path, revision: str | None = None) -> str:
        """Hex digest over the names and contents of the files that loaders may read.

        Of a hub model the hub's own sha256 where it has one (weights), so that no weights are fetched for it.

        Raises:
            ConfigError: neither a folder nor a hub model that can be reached.
        """
        return self._model(model, revision, ("*",))

    def tokenizer(self, model: str | Path, revision: str | None = None) -> str:
        """Like `checkpoint`, over the tokenizer's files and config.json only."""
        return self._model(model, revision, TOKENIZER_FILES)

    def dataset(
        self,
        path: Sequence[str] | str | None,
        hub: str | None = None,
        hub_config: str | None = None,
        split: str = "train",
        revision: str | None = None,
    ) -> str:
        """Hex digest over the contents of data files in their order; of a hub data set those of one split.

        Raises:
            ConfigError: a file is missing, no source is given, or the hub does not give it.
        """
        if path is not None:
            names = (path,) if isinstance(path, str) else tuple(path)
            digest = sha256_json([self._file(Path(name)) for name in names])
            self._files.save()
            return digest
        if hub is None:
            raise ConfigError("a data set needs `path` (local files) or `hub` (a hub name); neither is set")
        commit = self.commit("dataset", hub, revision)

        def digest_of(listing: Listing) -> str:
            from trims_core.hub_data import HubData

            data = HubData(hub, hub_config, split, commit)
            contents = self._contents("dataset", hub, commit, listing, data.files)
            return sha256_json(contents if data.is_plain else [contents, data.parsing()])

        return self._of_commit("dataset", hub, commit, f"{hub_config} {split}", digest_of)

    def commit(self, kind: Kind, name: str, revision: str | None = None) -> str:
        """The full commit of a hub input's revision, asked for once; see `hub.commit_of`."""
        key = f"{kind} {name}@{revision or 'main'}"
        if key not in self._hub:
            commit = commit_of(kind, name, revision, _read_cache(self._hub_file).get(key))
            self._keep(key, commit, lasting=commit != revision)
        return self._hub[key]

    def _model(self, model: str | Path, revision: str | None, patterns: Sequence[str]) -> str:
        if Path(model).is_dir():
            digest = self._tree(Path(model), patterns, _NOT_LOADED)
            self._files.save()
            return digest
        name = str(model)
        commit = self.commit("model", name, revision)

        def digest_of(listing: Listing) -> str:
            covered = [file for file in listing.files if _covers(file, patterns, _NOT_LOADED)]
            if not covered:
                raise ConfigError(f"{name}@{commit}: no file to use there; expected {', '.join(patterns)}")
            contents = self._contents("model", name, commit, listing, covered)
            return sha256_json(dict(zip(covered, contents, strict=True)))

        rule = sha256_json([patterns, _NOT_LOADED])[:8]
        return self._of_commit("model", name, commit, rule, digest_of)

    def _of_commit(
        self, kind: Kind, name: str, commit: str, rule: str, digest_of: Callable[[Listing], str]
    ) -> str:
        """A digest over files of a commit, taken once: neither they nor the rule can change."""
        key = f"{kind} {name}@{commit} {rule}"
        if key not in self._hub:
            known = _read_cache(self._hub_file).get(key)
            if known is None:
                listing = files_of(kind, name, commit)
                self._keep(key, digest_of(listing), lasting=listing.is_whole)
            else:
                self._hub[key] = known
        return self._hub[key]

    def _contents(
        self, kind: Kind, name: str, commit: str, listing: Listing, files: Sequence[str]
    ) -> list[str]:
        """Hex sha256 of each; what the hub has none of is fetched and read."""
        small = [file for file in files if listing.files[file] is None]
        folder = fetch(kind, name, commit, small)
        contents = [listing.files[file] or self._file(folder / file) for file in files]
        self._files.save()
        return contents

    def _keep(self, key: str, value: str, *, lasting: bool = True) -> None:
        self._hub[key] = value
        known = _read_cache(self._hub_file)
        if lasting and self._hub_file is not None and known.get(key) != value:
            with suppress(OSError):  # a store that cannot be written: asked for again next time
                self._hub_file.parent.mkdir(parents=True, exist_ok=True)
                _replace_file(self._hub_file, canonical_json({**known, key: value}))

    def _file(self, path: Path) -> str:
        try:
            return self._files.sha256(path)
        except OSError as error:
            raise ConfigError(
                f"{located(path)}: cannot be read ({error.strerror}); expected a file. Correct the path"
            ) from error

    def _tree(self, folder: Path, patterns: Sequence[str], without: Sequence[str]) -> str:
        if not folder.is_dir():
            raise ConfigError(f"{located(folder)}: no such folder. Correct the path in the config")
        listing = {}
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not matches(name, without))
            for name in sorted(names):
                path = Path(parent, name)
                relative = path.relative_to(folder).as_posix()
                if _covers(relative, patterns, without):
                    listing[relative] = self._file(path)
        if not listing:
            raise ConfigError(f"{folder}: nothing to use in this folder; expected {', '.join(patterns)}")
        return sha256_json(listing)


def _covers(name: str, patterns: Sequence[str], without: Sequence[str]) -> bool:
    """Whether a file counts: its relative name matches, and no part of it is left out."""
    return matches(name, patterns) and not any(matches(part, without) for part in name.split("/"))
