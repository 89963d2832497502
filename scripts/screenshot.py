"""Takes a picture of a report's page by a headless Chromium; the README's is made by

    .venv/bin/python scripts/screenshot.py data/store/latest/demo/index.html docs/images/demo-page.png

--at leads to a section or a moment of decoding, as in --at '#player' or --at '#demo/test-00052/6'.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.chromium import NAMES, chromium, find_chromium

SETTLED_S = 0.5
DRAWN = "'drawn' in document.documentElement.dataset"


def main(arguments: argparse.Namespace) -> str | None:
    """Takes the picture; gives back why it could not."""
    binary = find_chromium()
    if binary is None:
        return f"none of {', '.join(NAMES)} is on PATH; make deps-test installs Chromium"
    if not arguments.page.is_file():
        return f"{arguments.page}: no such page; trims view CONFIG says where one is"
    address = arguments.page.resolve().as_uri() + arguments.at
    size = {"width": arguments.width, "height": arguments.height, "scale": arguments.scale}
    with (
        tempfile.TemporaryDirectory() as profile,
        chromium(binary, Path(profile)) as browser,
        browser.tab() as tab,
    ):
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        tab.open(address, **size, dark=arguments.dark, drawn=DRAWN)
        time.sleep(SETTLED_S)
        picture = tab.screenshot()
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    arguments.picture.write_bytes(picture)
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path, help="a report's index.html")
    parser.add_argument("picture", type=Path, help="the PNG")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in CSS pixels")
    parser.add_argument("--height", type=int, default=980)
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the picture per CSS pixel")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--at", default="", metavar="#…", help="an address inside the page")
    sys.exit(main(parser.parse_args()))
