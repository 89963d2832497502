"""`<store>/latest/<name>`: a link to the newest report of a run's name, where links can be made."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from trims_core.store.durable import fsync_folder

logger = logging.getLogger(__name__)


def latest_path(store_root: Path, name: str) -> Path:
    """Where the link of this name is (whether or not it exists yet)."""
    return store_root / "latest" / name


def point_latest(store_root: Path, name: str, artifact: Path) -> Path:
    """The link, now leading to `artifact`; readers see the old target or the new one, never none.

    The link is relative, so that a store that is moved or mounted elsewhere keeps working. Where it cannot be
    replaced (a copy of the store has folders in place of links, a file system knows no links), that is a
    warning, and what is given back is `artifact` itself.
    """
    link = latest_path(store_root, name)
    target = os.path.relpath(artifact.absolute(), link.parent.absolute())
    fresh = link.with_name(f".{name}.{os.getpid()}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() and str(link.readlink()) == target:
            return link
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target, target_is_directory=True)
        fresh.replace(link)
        fsync_folder(link.parent)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        logger.warning(
            "%s does not lead to the newest report, which is %s: %s. Remove what bears the link's name",
            link,
            artifact,
            error.strerror,
        )
        return artifact
    return link
