"""Which source of this project runs, for manifests: nothing depends on it."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import subprocess
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_GIT: Final = ("git", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
_TIMEOUT_S: Final = 10.0


@functools.cache
def commit(root: Path = _ROOT) -> str | None:
    """The commit that is checked out at `root`, `with changes` where tracked files differ from it.

    Of an installed package, what pip was given; None where neither is known.
    """
    if not (root / ".git").exists():
        return _installed_commit()
    try:
        said = subprocess.run(
            _GIT, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout that it does not trust
        return None
    about = [line.removeprefix("# branch.oid ") for line in said if line.startswith("# branch.oid ")]
    changed = any(not line.startswith("#") for line in said)
    return f"{about[0]} with changes" if changed else about[0]


def _installed_commit() -> str | None:
    try:
        told = importlib.metadata.distribution("trims-pipeline").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    found: str | None = json.loads(told or "{}").get("vcs_info", {}).get("commit_id")
    return found
