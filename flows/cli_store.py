"""`trims plan | explain | verify | ls | du | clean`: questions to the store, answered without Prefect."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from flows.cli_run import ConfigPath, Overrides, Refresh, Until
from flows.console import standard_output
from flows.option_groups import filled_in
from flows.tables import plain_table, plan_table
from trims_core import plan as plans
from trims_core.config import STAGES, TrimsConfig
from trims_core.doctor import look_at_machine, problems
from trims_core.errors import ConfigError, CorruptShardError, MissingArtifactError
from trims_core.graph import build_graph, node_named
from trims_core.inspection import table_problems
from trims_core.pinning import pinned
from trims_core.settings import load_config
from trims_core.store import Artifact, Store

StorePath = Annotated[Path, typer.Argument(callback=filled_in, help="The store's folder.", metavar="[STORE]")]
StageOption = Annotated[str | None, typer.Option(metavar="STAGE", help="Only this stage.")]
DEFAULT_STORE: Final = Path("data/store")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE: Final = re.compile(r"^(\d+(?:\.\d+)?)([smhd])$")
_UNITS_NAMED: Final = 3
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def plan(
    config: ConfigPath, until: Until = "report", refresh: Refresh = None, set_: Overrides = None
) -> None:
    """Show which artifacts would be reused or made, and why; runs nothing."""
    settings = load_config(config, set_ or [])
    store = Store(settings.store)
    rows = plans.plan(store, settings, until, refresh or [])
    console = standard_output()
    console.print(plan_table(rows, {}))
    for line in problems(look_at_machine(settings).findings):
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for line in _training_estimate(pinned(settings, store.digests, [row.node for row in rows]), rows):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def explain(
    config: ConfigPath,
    node: Annotated[str, typer.Argument(help="Stage or node, such as train/trims-s0.", metavar="NODE")],
    set_: Overrides = None,
) -> None:
    """Show which setting, input or parent differs from the newest artifact of a stage."""
    settings = load_config(config, set_ or [])
    graph = build_graph(settings)
    chosen = [found for found in graph if found.stage == node] or [node_named(graph, node)]
    for found in chosen:
        _print_explanation(standard_output(), plans.explain(Store(settings.store), settings, found))


def verify(
    store: StorePath = DEFAULT_STORE,
    deep: Annotated[
        bool, typer.Option("--deep", help="Re-hash every byte, recount rows, check ids.")
    ] = False,
    stage: StageOption = None,
) -> None:
    """Check every artifact of a store (or one artifact folder) against its manifest."""
    console = standard_output()
    opened, folders = _opened(store, stage)
    damaged = 0
    for folder in folders:
        problems = opened.verify(folder, deep, table_problems)
        damaged += bool(problems)
        verdict = "ok" if not problems else f"{len(problems)} problem(s)"
        console.print(f"{folder.parent.name}/{folder.name[:12]}: {verdict}", markup=False, highlight=False)
        for problem in problems:
            console.print(f"  {problem}", markup=False, highlight=False, soft_wrap=True)
    if damaged:
        raise CorruptShardError(f"{damaged} of {len(folders)} artifacts are damaged (listed above)")
    console.print(f"{len(folders)} artifacts whole{' (re-hashed)' if deep else ''}", highlight=False)


def ls(store: StorePath = DEFAULT_STORE, stage: StageOption = None) -> None:
    """List the artifacts of a store, newest first."""
    found = opened_store(store).artifacts(_known(stage))
    rows = [_listed(artifact) for artifact in found]
    standard_output().print(
        plain_table(("node", "fingerprint", "made (UTC)", "seconds", "size", "counts"), rows)
    )


def du(store: StorePath = DEFAULT_STORE) -> None:
    """Show the bytes each stage takes: its units, shared by its artifacts, and the artifacts' own files."""
    sizes = opened_store(store).sizes()
    rows = [(stage, _size(n_bytes)) for stage, n_bytes in sorted(sizes.items(), key=lambda item: -item[1])]
    standard_output().print(plain_table(("stage", "size"), [*rows, ("all", _size(sum(sizes.values())))]))


def clean(
    store: StorePath = DEFAULT_STORE,
    staging: Annotated[bool, typer.Option("--staging", help="Only what dead writers left behind.")] = False,
    retired: Annotated[bool, typer.Option("--retired", help="Only what a refresh replaced.")] = False,
    units: Annotated[bool, typer.Option("--units", help="Only units that no artifact lists.")] = False,
    artifact: Annotated[
        str | None, typer.Option(metavar="STAGE/FINGERPRINT", help="Remove this committed artifact (see ls).")
    ] = None,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Leave younger things: 30m, 12h, 1d.")
    ] = "1d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show only.")] = False,
) -> None:
    """Remove leftovers, what refreshes replaced and unlisted units; a committed artifact only by name."""
    everything = not (staging or retired or units or artifact)
    removed = opened_store(store).clean(
        staging=staging or everything,
        retired=retired or everything,
        units=units or everything,
        artifact=artifact,
        older_than_s=_age_s(older_than),
        dry_run=dry_run,
    )
    console = standard_output()
    verb = "would remove" if dry_run else "removed"
    for entry in removed:
        line = f"{verb} {entry.path} ({_size(entry.size_bytes)}): {entry.why}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{verb} {len(removed)} folders, {_size(sum(e.size_bytes for e in removed))}", highlight=False
    )


def _training_estimate(settings: TrimsConfig, rows: list[plans.PlanRow]) -> list[str]:
    """What the adapters that are to be trained take; nothing where all are there."""
    if all(row.state == "hit" for row in rows if row.node.stage == "train"):
        return []
    from trims_core.training.estimate import describe

    made = {row.node.stage: row.artifact for row in rows if row.artifact is not None}
    known = made.get("buckets") or made.get("tokens") or made.get("corpus")
    return describe(settings, known.manifest.counts.get("n_out") if known is not None else None)


def _print_explanation(console: Console, found: plans.Explanation) -> None:
    lines = [f"{found.node.id}: {found.state}: {found.why}"]
    if found.compared_with is not None:
        made = found.compared_with.manifest.created_at[:19].replace("T", " ")
        lines.append(f"  compared with {found.compared_with.fingerprint[:12]}, made {made} UTC")
    lines += [f"  {one.field}: {one.before!r} → {one.now!r}" for one in found.differences]
    if found.units is not None:
        lines.append(f"  {found.units}")
    for why, names in found.missing.items():
        more = ", …" if len(names) > _UNITS_NAMED else ""
        lines.append(f"  {len(names)} missing ({', '.join(names[:_UNITS_NAMED])}{more}): {why}")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def opened_store(root: Path) -> Store:
    if not root.is_dir():
        raise MissingArtifactError(f"{root}: no such store; expected a folder that `trims run` made")
    return Store(root)


def _opened(path: Path, stage: str | None) -> tuple[Store, list[Path]]:
    """The store of a path and the artifact folders it stands for: a whole store, or one artifact's folder."""
    if path.resolve().parent.name in STAGES:
        return opened_store(path.resolve().parent.parent), [path.resolve()]
    store = opened_store(path)
    return store, store.folders(_known(stage))


def _known(stage: str | None) -> str | None:
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"--stage {stage}: expected one of {', '.join(STAGES)}")
    return stage


def _listed(artifact: Artifact) -> tuple[str, ...]:
    manifest = artifact.manifest
    counts = ", ".join(f"{name} {n}" for name, n in manifest.counts.items())
    size = _size(sum(entry.size_bytes for entry in manifest.entries.values()))
    made = manifest.created_at[:19].replace("T", " ")
    node = f"{manifest.node} (version 0.1)" if manifest.is_old else manifest.node
    return node, manifest.fingerprint[:12], made, f"{manifest.seconds:.1f}", size, counts


def _size(n_bytes: float) -> str:
    for unit in _UNITS[:-1]:
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} {_UNITS[-1]}"


def _age_s(text: str) -> float:
    match = _AGE.match(text)
    if match is None:
        raise ConfigError(f"--older-than {text}: expected a number and s, m, h or d, such as 12h")
    return float(match.group(1)) * _SECONDS[match.group(2)]
