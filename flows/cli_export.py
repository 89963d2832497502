"""`trims export`: an adapter out of the store, alone or merged into the student's official layout."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Final

import typer

from flows.cli_run import ConfigPath, Overrides
from flows.console import standard_output
from trims_core import __version__
from trims_core.config import StudentConfig, TrimsConfig
from trims_core.errors import ConfigError, MissingArtifactError
from trims_core.graph import build_graph, select
from trims_core.hub import PROGRAM_FILES, checkpoint_folder
from trims_core.pinning import pinned
from trims_core.plan import plan
from trims_core.settings import load_config
from trims_core.store import Artifact, Store

EXAMPLES: Final = (
    "Examples:  trims export configs/demo.yaml out/adapter --model trims-s0   |"
    "   trims export configs/demo.yaml out/merged --model trims-s0 --merge"
)


def export(
    config: ConfigPath,
    out: Annotated[Path, typer.Argument(help="Folder to make; must not exist yet.", metavar="OUT")],
    model: Annotated[
        str | None,
        typer.Option(metavar="VARIANT-sSEED", help="Which adapter, such as trims-s0; default: the only one."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write the whole student with the adapter merged in.")
    ] = False,
    set_: Overrides = None,
) -> None:
    """Write an adapter, or with --merge a full checkpoint, for use outside this project."""
    settings = load_config(config, set_ or [])
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a folder that does not")
    node_id, store = _node_id(settings, model), Store(settings.store)
    settings = pinned(settings, store.digests, select(build_graph(settings), node_id))
    artifact = _trained(store, settings, node_id, str(config))
    partial = out.absolute().with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if merge:
        _merge(settings.student, artifact, partial)
    else:
        for path in artifact.files("adapter/"):
            shutil.copyfile(path, partial / path.name)
    partial.rename(out)
    standard_output().print(
        f"{'merged checkpoint' if merge else 'adapter'}: {out}", markup=False, highlight=False, soft_wrap=True
    )


def _node_id(settings: TrimsConfig, model: str | None) -> str:
    names = [node.id.removeprefix("train/") for node in build_graph(settings) if node.stage == "train"]
    if model is None and len(names) == 1:
        return f"train/{names[0]}"
    if model is None or model.removeprefix("train/") not in names:
        raise ConfigError(f"--model {model}: expected one of {', '.join(names)}")
    return f"train/{model.removeprefix('train/')}"


def _trained(store: Store, settings: TrimsConfig, node_id: str, config: str) -> Artifact:
    row = plan(store, settings, node_id)[-1]
    if row.artifact is None:
        raise MissingArtifactError(
            f"{node_id}: {row.why}; make it with `trims run {config} --until {node_id}`"
        )
    return row.artifact


def _merge(student_config: StudentConfig, artifact: Artifact, out: Path) -> None:
    """Add the adapter's product to the weights in float32, then round to the checkpoint's own type."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from trims_core.students import load_student, save_official

    adapter = artifact.file("adapter/adapter_config.json").parent
    student = load_student(
        student_config.model,
        revision=student_config.revision,
        dtype="auto",
        adapter=adapter,
        family=student_config.family,
    )
    dtype = student.model.dtype
    merged = student.model.float().merge_and_unload().to(dtype)
    save_official(merged, student.family.config, student.tokenizer, out)
    _copy_companions(student_config, out)
    (out / "README.md").write_text(_card(student_config, artifact), encoding="utf-8")


def _copy_companions(student: StudentConfig, out: Path) -> None:
    """Copies generation_config.json and the program files config.json may name, for tools that run them."""
    folder = checkpoint_folder(student.model, student.revision, PROGRAM_FILES)
    for pattern in PROGRAM_FILES:
        for path in sorted(folder.glob(pattern)):
            shutil.copyfile(path, out / path.name)


def _card(student: StudentConfig, artifact: Artifact) -> str:
    """A model card: what was merged, and where the adapter came from."""
    manifest = artifact.manifest
    revision = f" at `{student.revision}`" if student.revision else ""
    settings = json.dumps(dict(manifest.config), indent=1, sort_keys=True)
    return (
        f"# {manifest.node}, merged\n\n`{student.model}`{revision} with a LoRA adapter merged in by"
        f" TRIMS-Pipeline {__version__}.\n\nAdapter: artifact `{manifest.fingerprint}`, made"
        f" {manifest.created_at[:19]} UTC.\n\nTraining settings:\n\n```json\n{settings}\n```\n"
    )
