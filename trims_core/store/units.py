"""Units: made in an attempt, published by one rename, found again by their key (`trims_core.store.attempts`).

Recording a unit costs the same however many there are.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from trims_core._faults import fault_point
from trims_core.errors import IncompleteArtifactError
from trims_core.fingerprint import FileDigests, Json, canonical_json
from trims_core.store.artifact import (
    UNIT_NAME,
    UnitKey,
    UnitRecord,
    read_unit,
    unit_folder,
    utc_now,
)
from trims_core.store.attempts import Attempt, attempt_at, inode, is_taken
from trims_core.store.durable import disk_errors, fsync_folder, fsync_tree, write_atomically
from trims_core.store.verify import entry_problems

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What a stage says about a unit it has made."""

    files: Mapping[str, int | None]
    """Name relative to the unit's folder → rows, or None where there are none to count."""
    notes: Mapping[str, Json] = field(default_factory=dict)
    """JSON-able facts, given back with the unit whenever it is found."""
    aside: Collection[str] = ()
    """Of the files, those that no child depends on: times, logs, cards."""


class Units:
    """The units under a store's root."""

    def __init__(self, root: Path, digests: FileDigests) -> None:
        self._root = root
        self._digests = digests

    def folder(self, key: UnitKey) -> Path:
        """Where a unit lies or will lie."""
        return unit_folder(self._root, key.stage, key.fingerprint)

    def find(self, key: UnitKey) -> UnitRecord | None:
        """The whole unit of a key; None where it was never made, or is damaged and has to be made again.

        One that is found is marked as in use, so that `clean` leaves it to the artifact that will list it.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        try:
            unit = read_unit(folder)
        except IncompleteArtifactError as error:
            logger.warning("%s", error)
            return None
        for problem in self.problems(unit):
            logger.warning("%s: unit %s is made again: %s", key.stage, key.fingerprint[:12], problem)
            return None
        with suppress(OSError):  # a store that can only be read is not cleaned either
            os.utime(folder)
        return unit

    def problems(self, unit: UnitRecord, rehash: bool = False) -> Iterator[object]:
        """What is wrong with a unit's files."""
        for entry in unit.files:
            yield from entry_problems(unit.path / entry.name, entry, self._digests, rehash)

    def is_taken(self, key: UnitKey) -> bool:
        """Whether another process, of this host or of one that was heard of lately, is making a unit."""
        return is_taken(self.folder(key))

    def attempt(self, key: UnitKey, replaces: int | None = None) -> AbstractContextManager[Attempt]:
        """A folder to make a unit in. What is in scratch/ stays for the next attempt if this one fails.

        Args:
            replaces: `inode` of the one there is, if it is to be made again although it is whole.
        """
        return attempt_at(self.folder(key), self._root, replaces)

    def inode(self, key: UnitKey) -> int | None:
        """Which folder a unit's name stands for now; None for no folder."""
        return inode(self.folder(key))

    def publish(
        self,
        attempt: Attempt,
        key: UnitKey,
        made: Made,
        seconds: float = 0.0,
        versions: Mapping[str, str] | None = None,
    ) -> UnitRecord:
        """Make a unit durable under its name; another writer's, if one was first.

        Raises:
            CorruptShardError: a Parquet file has other rows than stated, or is torn.
            DiskFullError: no room; nothing was published.
        """
        with disk_errors(self._root):
            entries = attempt.seal(made.files, made.aside, self._digests)
            notes = json.loads(canonical_json(dict(made.notes)))
            unit = UnitRecord(
                attempt.final, key, entries, notes, round(seconds, 3), utc_now(), dict(versions or {})
            )
            fault_point("store.before_unit")
            write_atomically(attempt.path / UNIT_NAME, unit.to_json())
            fsync_tree(attempt.path)
            fault_point("store.before_publish")
            theirs = attempt.put(lambda: self.find(key))
            if theirs is not None:
                logger.info("%s: another writer was first with %s", key.stage, key.fingerprint[:12])
                return theirs
            fsync_folder(unit.path.parent)
            fault_point("store.after_publish")
        return unit
