"""The artifact store: find, make and check artifacts under one root folder.

Covered: one commit primitive (staging → fsync → manifest → one rename), one writer per fingerprint, hits
that are verified, replacement that keeps the old artifact. Not covered: roots other than a local (or
mounted) folder.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trims_core._faults import fault_point
from trims_core.errors import ConfigError, IncompleteArtifactError, MissingArtifactError
from trims_core.fingerprint import Digests, FileDigests
from trims_core.store.artifact import (
    CARD_NAME,
    LOGS_NAME,
    MANIFEST_NAME,
    UNITS_NAME,
    Artifact,
    ArtifactRef,
    Manifest,
    StageKey,
    read_manifest,
    read_unit,
)
from trims_core.store.attempts import Attempt, attempt_at, inode, retire, retired_folders
from trims_core.store.cleaning import (
    Removed,
    bytes_below,
    clean_leftovers,
    clean_unlisted,
    drop_locks,
    remove_artifact,
)
from trims_core.store.durable import (
    disk_errors,
    fsync_file,
    fsync_folder,
    fsync_tree,
    make_folders,
    write_atomically,
)
from trims_core.store.locking import lock_path, write_lock
from trims_core.store.units import Units
from trims_core.store.verify import (
    Problem,
    check,
    extra_problems,
    file_problems,
    is_superseded,
    place_problems,
    unit_problems,
)

logger = logging.getLogger(__name__)

_FINGERPRINT: Final = re.compile(r"^[0-9a-f]{64}$")
_REPLACED: Final = "was replaced by other content meanwhile; run the pipeline again"
_NOT_STAGES: Final = (UNITS_NAME, "latest", "announced", "compared")


@dataclass(frozen=True)
class Committed:
    """What a commit led to."""

    artifact: Artifact
    adopted: bool
    """Another writer was first; this one's work was dropped."""


class Store:
    """Artifacts under `<root>/<stage>/<fingerprint>/`."""

    def __init__(self, root: str | Path) -> None:
        if "://" in str(root):
            raise ConfigError(
                f"store: {root}: only local or mounted folders are supported; set `store` to a path"
            )
        self.root = Path(root).absolute()
        self._verified = FileDigests(self.root / f".verified-{os.uname().nodename}.json")
        self._digests = Digests(self.root / ".digests.json")
        self.units = Units(self.root, self._verified)

    @property
    def digests(self) -> Digests:
        """Digests of outside inputs, remembered in the store."""
        return self._digests

    def folder(self, key: StageKey) -> Path:
        """Where the artifact of a key lies or will lie."""
        return self.root / key.stage / key.fingerprint

    def logs(self, key: StageKey) -> Path:
        """Where processes that make an artifact leave their logs; kept beside it until `clean`."""
        return self.root / key.stage / LOGS_NAME / key.fingerprint

    def find(self, key: StageKey) -> Artifact | None:
        """The artifact of a key, verified; None where it was never made (by version 0.1 does not count), or
        units of it were refreshed since.

        Raises:
            IncompleteArtifactError, CorruptShardError: it is damaged; names the files and the remedy.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        artifact = self._read(folder)
        if artifact is None:
            logger.info("%s: units of it were refreshed since it was made", key.stage)
            return None
        return None if artifact.manifest.is_old else self._whole(artifact)

    def open(self, ref: ArtifactRef | Path | str) -> Artifact:
        """The artifact of a reference or folder, verified. Raises: like `find`; MissingArtifactError."""
        folder = Path(ref["path"]) if isinstance(ref, Mapping) else Path(ref)
        if not folder.is_dir():
            raise MissingArtifactError(f"{folder}: no such artifact; run the pipeline to make it")
        artifact = self._read(folder)
        if artifact is None:
            raise MissingArtifactError(f"{folder}: {_REPLACED}")
        self._whole(artifact)
        if isinstance(ref, Mapping) and artifact.content_digest != ref["content_digest"]:
            raise MissingArtifactError(f"{folder}: {_REPLACED}")
        return artifact

    def check(self, artifact: Artifact) -> None:
        """Raises IncompleteArtifactError or CorruptShardError unless an opened artifact is still whole."""
        current = self._read(artifact.path)
        if current is None or current.content_digest != artifact.content_digest:
            raise MissingArtifactError(f"{artifact.path}: {_REPLACED}")
        check(current, self._verified)
        self._verified.save()

    @contextmanager
    def begin(self, key: StageKey, refresh: bool = False) -> Iterator[Attempt | Artifact]:
        """An attempt at an artifact, or the artifact, if another process just made it.

        A lock lets processes of one host wait for each other instead of doing the same work; nothing is lost
        where there are none.

        Args:
            refresh: make it although it exists. The old one stays in place until the commit.
        """
        final = self.folder(key)
        before = inode(final)
        with disk_errors(self.root):
            make_folders(final.parent)
        lock = write_lock(lock_path(final.parent, key.fingerprint), f"{key.stage} {key.fingerprint[:12]}")
        with disk_errors(self.root), lock:
            there = inode(final)
            made_meanwhile = there not in (None, before)
            found = self.find(key) if made_meanwhile or not refresh else None
            if found is not None:
                logger.info("%s: adopted what another process made", key.stage)
                yield found
                return
            try:
                with attempt_at(final, self.root, replaces=there) as attempt:
                    attempt.empty()
                    yield attempt
            finally:
                self._verified.save()

    def commit(
        self,
        attempt: Attempt,
        manifest: Manifest,
        card: str = "",
        files: Mapping[str, int | None] | None = None,
        aside: Collection[str] = (),
    ) -> Committed:
        """Turn an attempt into the artifact: all of it under its final name, or nothing.

        Args:
            manifest: everything but the list of its own files.
            files: those files, by name → rows.
            aside: of the files, those that no child depends on.
        """
        with disk_errors(self.root):
            manifest = replace(manifest, files=attempt.seal(files or {}, aside, self._verified))
            if card:
                (attempt.path / CARD_NAME).write_text(card, encoding="utf-8")
                fsync_file(attempt.path / CARD_NAME)
            fsync_tree(attempt.path)
            fault_point("store.before_manifest")
            write_atomically(attempt.path / MANIFEST_NAME, manifest.to_json())
            fault_point("store.before_rename")
            theirs = attempt.put(lambda: self.find(manifest.key()))
            if theirs is not None:
                logger.info("%s: another host was first; adopted its artifact", manifest.stage)
                return Committed(theirs, adopted=True)
            fsync_folder(attempt.final.parent)
            fault_point("store.after_rename")
        return Committed(self.open(attempt.final), adopted=False)

    def retire(self, key: StageKey) -> Path | None:
        """Put an artifact aside, kept until `clean`; gives back where, or None if there is none."""
        final = self.folder(key)
        with disk_errors(self.root):
            return retire(final) if final.is_dir() else None

    def artifacts(self, stage: str | None = None) -> list[Artifact]:
        """Committed artifacts, newest first; without those whose manifest is unreadable (see `verify`)."""
        found = []
        for folder in self.folders(stage):
            try:
                found.append(Artifact(folder, read_manifest(folder)))
            except IncompleteArtifactError as error:
                logger.warning("%s", error)
        return sorted(found, key=lambda artifact: artifact.manifest.created_at, reverse=True)

    def folders(self, stage: str | None = None) -> list[Path]:
        """Folders of committed artifacts, whole or not."""
        found: list[Path] = []
        for name in self.stages() if stage is None else (stage,):
            with suppress(FileNotFoundError):
                found += [
                    path for path in sorted((self.root / name).iterdir()) if _FINGERPRINT.match(path.name)
                ]
        return found

    def verify(
        self,
        artifact: Artifact | Path,
        deep: bool = False,
        tables: Callable[[Artifact, Collection[Path]], Iterable[Problem]] = lambda _artifact, _damaged: (),
    ) -> list[Problem]:
        """Everything wrong with an artifact; empty means whole.

        Args:
            tables: what is wrong with what its tables say, but for damaged files; asked if `deep`.
            deep: re-hash every byte, digest rows, and look at parents too.
        """
        folder = artifact.path if isinstance(artifact, Artifact) else artifact
        try:
            opened = Artifact(folder, read_manifest(folder))
        except IncompleteArtifactError as error:
            return [Problem(folder / MANIFEST_NAME, "manifest", str(error))]
        problems = [*place_problems(opened), *unit_problems(opened)]
        current = self._read(folder)
        if current is None:
            return problems  # files of units that were replaced are not this artifact's
        opened = current
        problems += [*file_problems(opened, self._verified, rehash=deep), *extra_problems(opened)]
        if deep:
            problems += tables(opened, {problem.path for problem in problems if problem.kind != "extra"})
            problems += self._parent_problems(opened)
        self._verified.save()
        return problems

    def _parent_problems(self, artifact: Artifact) -> Iterator[Problem]:
        """Parents that are there but with other content than the artifact was made from."""
        for role, parent in artifact.manifest.parents.items():
            final = self.root / parent["stage"] / parent["fingerprint"]
            versions = [folder for folder in (final, *retired_folders(final)) if folder.is_dir()]
            digests = [digest for folder in versions if (digest := _content_digest(folder)) is not None]
            if versions and parent["content_digest"] not in digests:
                yield Problem(
                    artifact.path,
                    "parent",
                    f"{role} {parent['fingerprint'][:12]} has other content now than this was made from;"
                    f" make it again with --refresh {artifact.manifest.stage}, or clean it",
                )

    def clean(
        self,
        *,
        staging: bool = True,
        retired: bool = True,
        units: bool = True,
        artifact: str | None = None,
        older_than_s: float = 86_400.0,
        dry_run: bool = False,
    ) -> list[Removed]:
        """What was removed (or would be): leftovers of dead writers, retired artifacts, or one artifact.

        Args:
            staging: unfinished artifacts and units whose writer is dead, last touched longer than
                `older_than_s` ago.
            retired: artifacts and units that were replaced longer than `older_than_s` ago.
            units: finished units that no artifact lists (a retired one counts), neither made nor found
                since `older_than_s`; none of a stage that is being made.
            artifact: a committed artifact, as `<stage>/<fingerprint>` or the start of one, whatever its age.
        """
        with disk_errors(self.root):
            removed: list[Removed] = []
            for stage in self.stages():
                removed += clean_leftovers(self.root / stage, staging, retired, older_than_s, dry_run)
                drop_locks(self.root / stage, dry_run)
            if artifact is not None:
                removed.append(remove_artifact(self.named(artifact), dry_run))
            for folder in self._unit_folders():
                removed += clean_leftovers(folder, staging, retired, older_than_s, dry_run)
                if units:
                    removed += clean_unlisted(folder, self.root / folder.name, older_than_s, dry_run)
        return removed

    def sizes(self) -> dict[str, int]:
        """Stage → bytes of its units and artifacts, leftovers included; a file of two names counts once."""
        seen: set[int] = set()
        sizes: dict[str, int] = {}
        for path in (*(self.root / stage for stage in self.stages()), *self._unit_folders()):
            sizes[path.name] = sizes.get(path.name, 0) + bytes_below(path, seen)
        return sizes

    def _unit_folders(self) -> list[Path]:
        """`units/<stage>` of every stage."""
        folder = self.root / UNITS_NAME
        return [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []

    def stages(self) -> list[str]:
        """Stages of which something was ever begun here."""
        if not self.root.is_dir():
            return []
        folders = (path for path in sorted(self.root.iterdir()) if path.is_dir() and not path.is_symlink())
        return [path.name for path in folders if path.name not in _NOT_STAGES]

    def _read(self, folder: Path) -> Artifact | None:
        """The artifact of a folder with its units as they are now; None where one has other content.

        A refresh may give the same rows in other bytes; those are then what is verified. Raises: like
        `read_manifest`.
        """
        artifact = Artifact(folder, read_manifest(folder))
        units = []
        for unit in artifact.manifest.units:
            try:
                found = read_unit(artifact.unit_folder(unit)).ref(unit.name)
            except IncompleteArtifactError:
                found = unit  # absent or damaged: its files tell
            if is_superseded(unit, found):
                return None
            units.append(found)
        if tuple(units) == artifact.manifest.units:
            return artifact
        return Artifact(folder, replace(artifact.manifest, units=tuple(units)))

    def named(self, name: str) -> Path:
        """The one artifact folder a user's abbreviation stands for. Raises: MissingArtifactError."""
        stage, _, start = name.rpartition("/")
        matches = [path for path in self.folders(stage or None) if path.name.startswith(start)]
        if len(matches) != 1 or not start:
            raise MissingArtifactError(
                f"{name}: stands for {len(matches)} artifacts, expected one;"
                " give <stage>/<fingerprint> (`trims ls`)"
            )
        return matches[0]

    def _whole(self, artifact: Artifact) -> Artifact:
        for problem in place_problems(artifact):
            stage = artifact.path.parent.name
            raise IncompleteArtifactError(f"{problem}. Redo the stage with --refresh {stage}")
        check(artifact, self._verified)
        self._verified.save()
        return artifact


def _content_digest(folder: Path) -> str | None:
    try:
        return read_manifest(folder).content_digest
    except IncompleteArtifactError:
        return None
