"""The model in an artifact of the stage `train`: an adapter for its student, or a checkpoint in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trims_core.config import StudentConfig
from trims_core.fingerprint import sha256_json
from trims_core.store import Artifact

ADAPTER: Final = "adapter"
CHECKPOINT: Final = "checkpoint"
"""Names of the unit that a training is."""
MOMENTS_FILE: Final = "optimizer.safetensors"
"""Beside the adapter of a round of reinforcement: Adam's moments, which the next one goes on with."""
_ADAPTER_FILES: Final = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")


@dataclass(frozen=True)
class Trained:
    """What a training left.

    folder: a PEFT folder, or a checkpoint in the official layout. digest: of what it is loaded from; a model
    card or metrics beside that change no sample.
    """

    folder: Path
    is_whole: bool
    digest: str


def trained_model(artifact: Artifact) -> Trained:
    """The model of a train artifact. Raises: IncompleteArtifactError: a file of it is not there."""
    entries = artifact.manifest.entries
    if not any(name.startswith(f"{CHECKPOINT}/") for name in entries):
        folders = [artifact.file(name).parent for name in _ADAPTER_FILES]
        return Trained(folders[0], False, sha256_json([entries[name].content for name in _ADAPTER_FILES]))
    read = [
        entry.content
        for name, entry in entries.items()
        if name.startswith(f"{CHECKPOINT}/") and not entry.aside
    ]
    return Trained(artifact.file(f"{CHECKPOINT}/config.json").parent, True, sha256_json(sorted(read)))


def tuned_student(student: StudentConfig, train: Artifact | None) -> tuple[StudentConfig, Path | None]:
    """(student, folder of its adapter): the configured one, or the checkpoint that training made of it."""
    if train is None:
        return student, None
    trained = trained_model(train)
    if not trained.is_whole:
        return student, trained.folder
    return student.model_copy(update={"model": str(trained.folder), "revision": None}), None


def tuned_inputs(inputs: Mapping[str, str], train: Artifact | None) -> dict[str, str]:
    """Digests of all that decoding reads of a student, for the keys of units.

    Args:
        inputs: digests of outside inputs: `student`, and `template` where its template is a file.
    """
    model = {name: inputs[name] for name in ("student", "template") if name in inputs}
    if train is not None:
        trained = trained_model(train)
        if trained.is_whole:  # all that is read of the student is in the checkpoint
            del model["student"]
        model["checkpoint" if trained.is_whole else "adapter"] = trained.digest
    return model
