"""The Hugging Face hub: the commit a revision stands for, the files of a commit, and their local copies.

Nothing is loaded from the hub by name. Files of one commit are fetched into the hub's local cache and read
from that folder: no loader can take another commit, none needs the network once they are there, and a hub
input is loaded as a local copy of it is.

Covered: HF_HUB_OFFLINE; a hub that does not answer, or refuses. Not covered: files of the cache that somebody
changed; a cache without a list of a commit's files (one that was filled file by file, or by an older
huggingface_hub) while the hub is away: it is taken to be whole.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from trims_core.errors import ConfigError
from trims_core.paths import located

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["model", "dataset"]

TOKENIZER_FILES: Final = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "*.model",
    "*.tiktoken",
    "chat_template.*",
    "additional_chat_templates/*",
)
"""All that a tokenizer is made from (patterns of names, as everywhere here); config.json names its class."""
CHECKPOINT_FILES: Final = (*TOKENIZER_FILES, "*.json", "*.jinja", "*.txt", "*.safetensors")
PROGRAM_FILES: Final = ("*.py", "generation_config.json")
"""What a copy of a checkpoint carries along for other tools."""
_MODEL_FILES: Final = (*CHECKPOINT_FILES, "*.py")

_NAME: Final = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_COMMIT: Final = re.compile(r"^[0-9a-f]{40}$")
_TIMEOUT_S: Final = 15.0
_LIST_FORMAT: Final = 1


class Listing(NamedTuple):
    """The files of a commit."""

    files: Mapping[str, str | None]
    """Name → hex sha256; None for small files, of which the hub keeps none."""
    is_whole: bool
    """False where only the files in the local cache are known."""


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of some shell patterns; `*` stands for `/` too."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_on_hub(kind: Kind, name: str) -> bool:
    """Whether an input is looked for on the hub: a name such as org/name, of a model no folder here."""
    return _NAME.match(name) is not None and not (kind == "model" and Path(name).is_dir())


def checkpoint_folder(model: str, revision: str | None, files: Sequence[str] = CHECKPOINT_FILES) -> Path:
    """The folder itself, or the local copy of a hub model's commit with these files.

    Nothing that a repository brings along is ever run.

    Raises:
        ConfigError: neither a folder nor a hub model that could be fetched.
    """
    if Path(model).is_dir():
        return Path(model)
    return local_copy("model", model, commit_of("model", model, revision), files)


def model_folder(model: str, revision: str | None) -> Path:
    """Like `checkpoint_folder`, with all that an engine loads a causal language model from.

    Weights are safetensors, or else .bin files.
    """
    folder = checkpoint_folder(model, revision, _MODEL_FILES)
    if tensor_files(folder):
        return folder
    return checkpoint_folder(model, revision, (*_MODEL_FILES, "*.bin"))


def tensor_files(folder: Path) -> list[Path]:
    """The safetensors files in a checkpoint folder, sorted."""
    return sorted(folder.glob("*.safetensors"))


def commit_of(kind: Kind, name: str, revision: str | None, known: str | None = None) -> str:
    """The full commit that a revision (default: main) stands for.

    A full commit is itself. Otherwise what the hub says; while it is away `known`, or else the commit in the
    local cache. With HF_HUB_OFFLINE the one in the cache, or else `known`.

    Args:
        known: what it was when it was last asked for.

    Raises:
        ConfigError: no name of the hub, or none of these knows the revision.
    """
    from huggingface_hub import HfApi, constants

    if not _NAME.match(name):
        raise ConfigError(
            f"{located(name)}: no such folder, and not a hub name such as org/name. Correct the config"
        )
    if revision is not None and _COMMIT.match(revision):
        return revision
    cached = _folder(kind, name) / "refs" / (revision or "main")
    in_cache = cached.read_text().strip() if cached.is_file() else None
    if constants.HF_HUB_OFFLINE:
        if in_cache or known:
            return str(in_cache or known)
        raise _unknown(kind, name, revision, "HF_HUB_OFFLINE is set")
    try:
        commit = HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=_TIMEOUT_S).sha
        if commit is not None:
            if commit != in_cache:
                _note(cached, commit)
            return str(commit)
        why: object = "the hub names no commit"
    except _failures() as error:
        why = error
    before = known or in_cache
    if before is None:
        raise _unknown(kind, name, revision, why)
    logger.warning("%s: taking commit %s, which it was last (%s)", name, before[:12], why)
    return before


def files_of(kind: Kind, name: str, commit: str) -> Listing:
    """The files of a commit: what the local cache knows of it, else what the hub says.

    Raises:
        ConfigError: neither knows them.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    listed = _cached_list(kind, name, commit)
    if listed is not None:
        return Listing(listed, is_whole=True)
    try:
        entries = HfApi().list_repo_tree(name, recursive=True, revision=commit, repo_type=kind)
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
        return Listing({file.path: file.lfs.sha256 if file.lfs else None for file in files}, is_whole=True)
    except _failures() as error:
        snapshot = _folder(kind, name) / "snapshots" / commit
        there = sorted(
            path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()
        )
        if not there:
            raise _unknown(kind, name, commit, error) from error
        logger.info("%s: taking the %d files of commit %s that the cache has", name, len(there), commit[:12])
        return Listing(dict.fromkeys(there), is_whole=False)


def local_copy(kind: Kind, name: str, commit: str, patterns: Sequence[str]) -> Path:
    """The folder of a commit in the local cache; all its files that match these patterns are there.

    Raises:
        ConfigError: one is neither there nor to be had.
    """
    listed = files_of(kind, name, commit).files
    return fetch(kind, name, commit, [file for file in listed if matches(file, patterns)])


def fetch(kind: Kind, name: str, commit: str, files: Sequence[str]) -> Path:
    """Like `local_copy`, for files by their names; those that are there are not asked for."""
    from huggingface_hub import snapshot_download

    folder = _folder(kind, name) / "snapshots" / commit
    missing = [file for file in files if not (folder / file).is_file()]
    if not missing:
        return folder
    why: object = "the cache has another list of its files"
    try:
        exactly = [glob.escape(file) for file in missing]
        snapshot_download(name, repo_type=kind, revision=commit, allow_patterns=exactly)
    except _failures() as error:
        why = error
    missing = [file for file in missing if not (folder / file).is_file()]
    if missing:
        raise ConfigError(
            f"{name}: {missing[0]} of commit {commit} is not in the local cache, and cannot be fetched"
            f" ({_first_line(why)}). Connect, or fill the cache elsewhere:"
            f" hf download {name} --repo-type {kind} --revision {commit}"
        )
    return folder


def _note(ref: Path, commit: str) -> None:
    """Keep what the hub said where its own tools look while it is away."""
    with suppress(OSError):  # a cache that cannot be written
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
        fresh.write_text(commit)
        fresh.replace(ref)


def _folder(kind: Kind, name: str) -> Path:
    """Of a repository in the local cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"{kind}s--{name.replace('/', '--')}"


def _cached_list(kind: Kind, name: str, commit: str) -> dict[str, str | None] | None:
    """The list of a commit's files that every download keeps beside them; None where it is not there."""
    path = _folder(kind, name) / "trees" / f"{commit}.json"
    try:
        found = json.loads(path.read_bytes())
        if found["format_version"] != _LIST_FORMAT:
            return None
        return {file: entry.get("lfs_sha256") for file, entry in found["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _failures() -> tuple[type[Exception], ...]:
    """What a hub raises that is away, refuses, or does not know the name."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    return (OSError, ValueError, HTTPError)


def _unknown(kind: Kind, name: str, revision: str | None, why: object) -> ConfigError:
    return ConfigError(
        f"{name}: neither a folder in {Path.cwd()} nor a hub {kind} that could be fetched (revision"
        f" {revision or 'main'}: {_first_line(why)}). Check the name, the network and HF_HUB_OFFLINE, or set"
        " the path of a local copy"
    )


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
