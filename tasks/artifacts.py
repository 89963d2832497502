"""What Prefect's UI shows of a stage's result: its card, one table or one picture."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from trims_core.store import Artifact

_NOT_IN_A_KEY: Final = re.compile(r"[^a-z0-9]+")
_CARD_NAME: Final = "card.md"
_MAX_IMAGE_BYTES: Final = 1 << 20
"""Pictures travel inside the artifact, hence through Prefect's database."""


def artifact_key(*parts: str) -> str:
    """Lower-case letters, digits and dashes, as Prefect asks; different parts give different keys."""
    text = "/".join(parts)
    key = _NOT_IN_A_KEY.sub("-", text.lower()).strip("-")
    if key == text.replace("/", "-"):
        return key
    return f"{key}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def publish_card(key: str, artifact: Artifact, how: str) -> None:
    """The artifact's own card, under a line that says where it lies and how it came about."""
    card = artifact.path / _CARD_NAME
    body = card.read_text(encoding="utf-8") if card.is_file() else ""
    create_markdown_artifact(
        f"{summary(artifact, how)}\n\n{body}", key=key, description=_one_line(artifact, how)
    )


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], about: str) -> None:
    """Rows as a table. Args: about: where they come from, in Markdown."""
    create_table_artifact([dict(row) for row in rows], key=key, description=about)


def publish_image(key: str, image: Path, about: str) -> None:
    """A PNG, embedded; one that is too large is named in a card instead. Args: about: as of a table."""
    data = image.read_bytes()
    if len(data) > _MAX_IMAGE_BYTES:
        create_markdown_artifact(f"{about}\n\nPicture: `{image}`", key=key)
        return
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    create_image_artifact(url, key=key, description=about)


def publish_images(key: str, images: Sequence[Path], about: str) -> None:
    """Each under `key`-<its name>."""
    for image in images:
        publish_image(f"{key}-{artifact_key(image.stem)}", image, about)


def edge_rows(artifact: Artifact) -> list[dict[str, Any]]:
    """One row per bucket of a bucketing: its size and the difficulties (nats) between which it lies."""
    edges = json.loads(artifact.file("edges.json").read_bytes())
    sizes: list[int] = edges["bucket_sizes"]
    bounds = [edges["max_nats"], *reversed(edges["edges_nats"]), edges["min_nats"]]
    return [
        {"bucket": i + 1, "n_tokens": size, "hardest_nats": bounds[i], "easiest_nats": bounds[i + 1]}
        for i, size in enumerate(sizes)
    ]


def cell_rows(artifact: Artifact) -> list[dict[str, Any]]:
    """One row per cell of a model's grades: point, n, accuracy with interval, tokens per forward."""
    shown = ("task", "cache", "threshold", "n", "n_correct", "accuracy", "wilson_low", "wilson_high", "tpf")
    cells: list[dict[str, Any]] = json.loads(artifact.file("cells.json").read_bytes())
    return [{name: _rounded(cell.get(name)) for name in shown} for cell in cells]


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def summary(artifact: Artifact, how: str) -> str:
    """How an artifact came about, where it lies and its counts, in Markdown."""
    counts = ", ".join(f"{name} {n}" for name, n in artifact.manifest.counts.items())
    return f"**{_one_line(artifact, how)}**\n\n`{artifact.path}`" + (f"\n\n{counts}" if counts else "")


def _one_line(artifact: Artifact, how: str) -> str:
    return f"{artifact.manifest.stage}: {how}, first made in {artifact.manifest.seconds:.1f} s"
