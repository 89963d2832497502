"""Fetches axe-core, which accessibility tests alone need, by npm; refuses a file that is not the pinned one.

usage: axe.py FOLDER    puts FOLDER/axe.min.js there, or says in one line why those tests will be skipped
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PIN = json.loads((Path(__file__).parent.parent / "tests" / "browser" / "axe.json").read_text())
TIMEOUT_S = 120


def is_pinned(file: Path) -> bool:
    """Whether the file is there and is the one the tests were written with."""
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == PIN["sha256"]


def fetch(folder: Path) -> str | None:
    """Puts the file there; gives back why it could not."""
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm here"
    with tempfile.TemporaryDirectory() as scratch:
        wanted = f"axe-core@{PIN['version']}"
        command = [npm, "pack", "--silent", "--pack-destination", scratch, wanted]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"npm did not fetch {wanted} within {TIMEOUT_S} s"
        packs = list(Path(scratch).glob("*.tgz"))
        if done.returncode != 0 or not packs:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return f"npm could not fetch {wanted}: {last}"
        with tarfile.open(packs[0]) as pack:
            member = pack.extractfile("package/axe.min.js")
            assert member is not None
            data = member.read()
        if hashlib.sha256(data).hexdigest() != PIN["sha256"]:
            return f"{wanted} is not the file that tests/browser/axe.json names by its sha256"
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / ".axe.min.js"
    fresh.write_bytes(data)
    fresh.replace(folder / "axe.min.js")
    return None


def main(folder: Path) -> None:
    """Fetches what is not there."""
    if is_pinned(folder / "axe.min.js"):
        return
    why = fetch(folder)
    if why is not None:
        print(f"axe-core: {why}; accessibility tests will be skipped")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
