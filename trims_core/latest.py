"""`<store>/latest/<name>`: a link that always leads to the newest report of a run's name."""

from __future__ import annotations

import os
from pathlib import Path

from trims_core.store.durable import fsync_folder


def latest_path(store_root: Path, name: str) -> Path:
    """Where the link of this name is (whether or not it exists yet)."""
    return store_root / "latest" / name


def point_latest(store_root: Path, name: str, artifact: Path) -> Path:
    """The link, now leading to `artifact`; readers see the old target or the new one, never none.

    The link is relative, so that a store that is moved or mounted elsewhere keeps working.

    Raises:
        OSError: the folder cannot be written, or something that is not a link bears the name.
    """
    link = latest_path(store_root, name)
    link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(artifact.absolute(), link.parent.absolute())
    if link.is_symlink() and str(link.readlink()) == target:
        return link
    fresh = link.with_name(f".{name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)
    fsync_folder(link.parent)
    return link
