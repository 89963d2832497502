"""The artifact store: attempt → publish or commit → find, open, verify, clean.

No other code writes under the store's root, and readers take file names from manifests only.
"""

from trims_core.store.artifact import (
    Artifact,
    ArtifactRef,
    FileEntry,
    Manifest,
    ParentRef,
    StageKey,
    UnitKey,
    UnitRecord,
    UnitRef,
    utc_now,
)
from trims_core.store.attempts import Attempt
from trims_core.store.cleaning import Removed
from trims_core.store.durable import disk_errors
from trims_core.store.refreshing import refreshing
from trims_core.store.store import Committed, Store
from trims_core.store.units import Made, Units
from trims_core.store.verify import Problem

__all__ = [
    "Artifact",
    "ArtifactRef",
    "Attempt",
    "Committed",
    "FileEntry",
    "Made",
    "Manifest",
    "ParentRef",
    "Problem",
    "Removed",
    "StageKey",
    "Store",
    "UnitKey",
    "UnitRecord",
    "UnitRef",
    "Units",
    "disk_errors",
    "refreshing",
    "utc_now",
]
