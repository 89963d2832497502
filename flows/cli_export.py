"""`trims export`: an adapter out of the store, alone or merged into the student's official layout, or the
checkpoint that full fine-tuning made.

It is the one that the settings stand for, or one that is named. Where only version 0.1 made one with these
settings, that one is taken, and said to be.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from flows.cli_run import ConfigPath, Overrides
from flows.console import standard_output
from flows.option_groups import filled_in
from trims_core import __version__
from trims_core.chat_template import template_text
from trims_core.config import StudentConfig, TrimsConfig
from trims_core.errors import ConfigError, MissingArtifactError
from trims_core.graph import Node, build_graph, select
from trims_core.old_runs import old_results
from trims_core.paths import path_given
from trims_core.pinning import pinned
from trims_core.plan import plan
from trims_core.settings import load_config
from trims_core.store import Artifact, Store
from trims_core.trained import ADAPTER, CHECKPOINT, MOMENTS_FILE, trained_model

EXAMPLES: Final = (
    "Examples:  trims export configs/demo.yaml out/adapter --model trims-s0   |"
    "   trims export configs/demo.yaml out/merged --model trims-s0 --merge   |"
    "   trims export configs/demo.yaml out/adapter --artifact train/5eb07a02"
)


def export(
    config: ConfigPath,
    out: Annotated[
        Path, typer.Argument(callback=filled_in, help="Folder to make; must not exist yet.", metavar="OUT")
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="VARIANT-sSEED", help="Which model, such as trims-s0; default: the only one."),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN/FINGERPRINT",
            help="This model (see ls), or the one in this folder, whatever its settings.",
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write the whole student with the adapter merged in.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="With --merge: type of the weights; default: student.dtype, which sweeps measured.",
            metavar="TYPE",
        ),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Write an adapter, or a checkpoint (--merge, full fine-tuning), for use outside this project."""
    settings = load_config(config, set_ or [])
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a folder that does not")
    if model is not None and artifact is not None:
        raise ConfigError(
            f"--model {model} and --artifact {artifact}: both name what to export; expected one"
        )
    if dtype is not None and not merge:
        raise ConfigError(
            f"--dtype {dtype}: what was trained is copied as it is; add --merge (to an adapter), or leave"
            " it out"
        )
    store, graph = Store(settings.store), build_graph(settings)
    if artifact is not None:
        trained = _named(store, artifact)
        if merge or trained_model(trained).is_whole:
            settings = pinned(settings, store.digests, [node for node in graph if node.stage == "train"])
            _check_student(store, settings, trained)
    else:
        node = _node(graph, model)
        settings = pinned(settings, store.digests, select(graph, node.id))
        trained = _trained(store, settings, node, str(config))
    model_found = trained_model(trained)
    if merge and model_found.is_whole:
        raise ConfigError(
            f"--merge: {trained.manifest.node} is a whole checkpoint already (train.lora null); leave"
            " --merge out"
        )
    partial = out.absolute().with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    what = "checkpoint" if model_found.is_whole else "adapter"
    if merge:
        what = f"merged checkpoint ({_merge(settings.student, trained, partial, dtype)})"
    else:
        for path in trained.files(f"{CHECKPOINT if model_found.is_whole else ADAPTER}/"):
            if path.name != MOMENTS_FILE:
                shutil.copyfile(path, partial / path.name)
        if model_found.is_whole:
            _set_template(settings.student, partial)
    partial.rename(out)
    said = f"{what}: {out}{_origin(trained)}"
    standard_output().print(said, markup=False, highlight=False, soft_wrap=True)


def _origin(trained: Artifact) -> str:
    """What an adapter that version 0.1 trained is called, as today's version would train another one."""
    made = trained.manifest
    when = made.created_at[:19].replace("T", " ")
    return f" (version 0.1's {made.node}, train/{made.fingerprint[:12]}, {when} UTC)" if made.is_old else ""


def _node(graph: Sequence[Node], model: str | None) -> Node:
    nodes = {n.id.removeprefix("train/"): n for n in graph if n.stage == "train"}
    swept = [name for n in graph if (name := n.id.removeprefix("sweep/")) in nodes]
    name = swept[0] if model is None and len(swept) == 1 else str(model).removeprefix("train/")
    if name not in nodes:
        raise ConfigError(f"--model {model}: expected one of {', '.join(nodes)}")
    return nodes[name]


def _trained(store: Store, settings: TrimsConfig, node: Node, config: str) -> Artifact:
    """The model of a node; where there is none, what version 0.1 trained with the same settings."""
    row = plan(store, settings, node.id)[-1]
    if row.artifact is not None:
        return row.artifact
    old = old_results(store, settings, node)
    for found in old:
        if not found.differs:
            return store.open(found.artifact.path)
    raise MissingArtifactError(
        f"{node.id}: {row.why}; make it with `trims run {config} --until {node.id}`"
        + "".join(f", or take with --artifact {found}" for found in old[:1])
    )


def _named(store: Store, name: str) -> Artifact:
    """The model of a folder, or of a name in the store."""
    folder = Path(path_given(name, "artifact"))
    found = store.open(folder if folder.is_dir() else store.named(name))
    if found.manifest.stage != "train":
        raise ConfigError(
            f"--artifact {name}: is of stage {found.manifest.stage}; expected one of train"
            f" (`trims ls {store.root} --stage train`)"
        )
    return found


def _check_student(store: Store, settings: TrimsConfig, trained: Artifact) -> None:
    """Raises ConfigError unless an adapter was trained on the settings' student: its place, or its files."""
    now, made = settings.student, trained.manifest
    then = made.full_config["student"]
    if (then["model"], then["revision"]) == (now.model, now.revision):
        return
    if made.inputs.get("student", "").removeprefix("local:") != store.digests.checkpoint(
        now.model, now.revision
    ):
        raise ConfigError(
            f"student.model: {now.model}; train/{made.fingerprint[:12]} was trained on {then['model']}"
            f" (revision {then['revision']}). Set student.model and student.revision to that one"
        )


def _merge(student_config: StudentConfig, artifact: Artifact, out: Path, dtype: str | None) -> str:
    """Writes the weights that sweeps decode with, where they hold the adapter; gives back what they are.

    Raises:
        ConfigError: the adapter's update does not survive in weights of this type, or sweeps measured a
            student in 4 bits and no type is named.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from trims_core.students import copy_companions, load_student, merge_adapter, save_official

    if student_config.load_in_4bit and dtype is None:
        raise ConfigError(
            "student.load_in_4bit: sweeps measured weights in 4 bits, which a merged checkpoint does not"
            " hold. Leave --merge out, or name the type of another network with --dtype bfloat16"
        )
    student = load_student(
        student_config.model,
        revision=student_config.revision,
        dtype=dtype or student_config.dtype,
        adapter=trained_model(artifact).folder,
        family=student_config.family,
    )
    found = merge_adapter(student)
    if found.apart:
        raise ConfigError(
            f"--merge: {found}. A merged checkpoint in {found.dtype} is not the student that was measured:"
            " leave --merge out, or take --dtype float32"
        )
    same = found.dtype == student_config.dtype and not student_config.load_in_4bit
    about = f"{found.dtype}, {'as' if same else 'not as'} measured in sweeps"
    blocks = student.family.block_causal_length
    if blocks is not None:
        about += f"; attention is block-causal in blocks of {blocks}, which programs of others do not know"
    own_template = template_text(student_config, "student")
    if own_template is not None:  # so that the copy's prompts are those of the training
        student.tokenizer.chat_template = own_template
    save_official(student.model, student.family.config, student.tokenizer, out)
    copy_companions(student_config.model, student_config.revision, out)
    (out / "README.md").write_text(_card(student_config, artifact, about), encoding="utf-8")
    return about


def _set_template(student: StudentConfig, out: Path) -> None:
    """Write a chat template of the settings' own into a copied checkpoint, so that its prompts are those of
    the training."""
    own_template = template_text(student, "student")
    if own_template is None:
        return
    from trims_core.students import load_student_tokenizer
    from trims_core.students.tokenizer import save_tokenizer

    tokenizer, _ = load_student_tokenizer(str(out))
    tokenizer.chat_template = own_template
    save_tokenizer(tokenizer, out)


def _card(student: StudentConfig, artifact: Artifact, about: str) -> str:
    """A model card: what was merged, and where the adapter came from."""
    manifest = artifact.manifest
    revision = f" at `{student.revision}`" if student.revision else ""
    settings = json.dumps(dict(manifest.config), indent=1, sort_keys=True)
    return (
        f"# {manifest.node}, merged\n\n`{student.model}`{revision} with a LoRA adapter merged in by"
        f" TRIMS-Pipeline {__version__}.\n\nWeights: {about}.\n\nAdapter: artifact `{manifest.fingerprint}`,"
        f" made {manifest.created_at[:19]} UTC.\n\nTraining settings:\n\n```json\n{settings}\n```\n"
    )
