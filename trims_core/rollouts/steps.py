"""A kept rollout, by its prompt's id, and its canvas step by step, rebuilt from the reveal steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.parquet as pq

from trims_core.errors import MissingArtifactError, nearest_name
from trims_core.schema import ROLLOUT_GRADES, ROLLOUTS, Table, read_table
from trims_core.store import Artifact, Store
from trims_core.token_digests import ids_digest
from trims_core.trajectories import canvas_before

_IDS_KEPT: Final = 10_000
"""Ids among which the nearest to a misspelt one is looked for."""


@dataclass(frozen=True)
class Found:
    """A rollout and what is known of it."""

    artifact: Artifact
    row: Mapping[str, Any]
    """Of schema.ROLLOUTS."""
    grade: Mapping[str, Any] | None
    """Of schema.ROLLOUT_GRADES, from the newest grades of these rollouts; None where there are none."""


@dataclass(frozen=True)
class Revealed:
    """A token as it is put on the canvas."""

    place: int
    token: int
    probability: float


@dataclass(frozen=True)
class Step:
    """One forward that revealed something."""

    number: int
    before: list[int]
    """The canvas that the student saw, [MASK] where hidden."""
    revealed: tuple[Revealed, ...]


def find_rollout(store: Store, prompt_id: str, rollout: int, fingerprint: str = "") -> Found:
    """The rollout of this number of a prompt, from the newest rollouts that have one.

    Args:
        fingerprint: how that of the wanted rollouts begins.

    Raises:
        MissingArtifactError: there is none; names the nearest id, or the numbers there are.
    """
    artifacts = [one for one in store.artifacts("rollouts") if one.fingerprint.startswith(fingerprint)]
    if not artifacts:
        asked = f" with a fingerprint {fingerprint}…" if fingerprint else ""
        raise MissingArtifactError(
            f"{store.root}: no rollouts{asked}; expected some that `trims run CONFIG --until rollouts` made"
        )
    ids: list[str] = []
    for artifact in artifacts:
        row = _row(artifact, f"rollout-{rollout}/", "/rollouts.parquet", ROLLOUTS, prompt_id, ids)
        if row is not None:
            return Found(artifact, row, _grade(store, artifact, row))
    n = len(artifacts[0].info["temperatures"])
    if rollout >= n:
        raise MissingArtifactError(f"--rollout {rollout}: expected 0 to {n - 1}, the answers to each prompt")
    raise MissingArtifactError(
        f"{prompt_id}: no rollout of an example of this id; {nearest_name(prompt_id, ids)}"
    )


def steps_of(row: Mapping[str, Any], mask_id: int) -> Iterator[Step]:
    """The forwards of a rollout in their order; those that revealed nothing are left out."""
    tokens, order, logprobs = row["token_ids"], row["reveal_step"], row["logprob"]
    for number in sorted({step for step in order if step >= 0}):
        before = canvas_before(tokens, order, number, mask_id)
        places = [place for place, step in enumerate(order) if step == number]
        revealed = tuple(Revealed(place, tokens[place], math.exp(logprobs[place])) for place in places)
        yield Step(number, before, revealed)


def _grade(store: Store, rollouts: Artifact, row: Mapping[str, Any]) -> dict[str, Any] | None:
    for grades in store.artifacts("grades"):
        parent = grades.manifest.parents.get("rollouts")
        if parent is None or parent["content_digest"] != rollouts.content_digest:
            continue
        prefix = f"rollout-{row['rollout']}/"
        found = _row(grades, prefix, "/grades.parquet", ROLLOUT_GRADES, row["id"], [])
        if found is not None and found["response_digest"] == ids_digest(row["token_ids"]):
            return found
    return None


def _row(
    artifact: Artifact, prefix: str, suffix: str, table: Table, wanted: str, ids: list[str]
) -> dict[str, Any] | None:
    """The row of an id in some tables; the ids that were read are added to `ids`."""
    for path in artifact.files(prefix, suffix):
        here = pq.read_table(path, columns=["id"])["id"].to_pylist()
        if wanted in here:
            found: dict[str, Any] = read_table(path, table).slice(here.index(wanted), 1).to_pylist()[0]
            return found
        ids += here[: max(0, _IDS_KEPT - len(ids))]
    return None
