"""What `--model_args` of lm-evaluation-harness may say, and how a task's own wishes meet it.

Every name is one of `trims generate` (decoding), of a config's section `student` (loading), or of the Monte
Carlo estimate. An unknown name, a value of another type and a wish that cannot be fulfilled are refused by
name. Imports neither torch nor the harness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Final, get_origin, get_type_hints

from pydantic import BeforeValidator, Field, create_model

from trims_core.config import StudentConfig
from trims_core.errors import ConfigError, nearest_name
from trims_core.generation.named_rules import BLOCK_LENGTH
from trims_core.generation.options import GEN_LENGTH, GenerateOptions
from trims_core.sections import FilePath, Section
from trims_core.settings import section_of

LOADING: Final = tuple(
    name for name in StudentConfig.model_fields if name not in ("model", "max_rejected_fraction")
)
"""Fields of the config's section `student` that are read here; the model is called `pretrained`."""
_LENGTHS: Final = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""The harness's names for one wish, the first one that is there counts."""
_WISHES: Final = (*_LENGTHS, "until", "do_sample", "temperature", "top_p", "top_k", "num_beams")


def _as_texts(value: object) -> object:
    """One or several texts or ids as a tuple of texts."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        value = (value,)
    if not isinstance(value, list | tuple):
        return value
    return tuple(str(one) if type(one) is int else one for one in value)


_HINTS: Final = get_type_hints(GenerateOptions)
_FIELDS: Final[dict[str, Any]] = {
    item.name: (
        Annotated[_HINTS[item.name], BeforeValidator(_as_texts)]
        if get_origin(_HINTS[item.name]) is tuple
        else _HINTS[item.name],
        item.default,
    )
    for item in fields(GenerateOptions)
}
_Options = create_model("_Options", __base__=Section, **_FIELDS)
"""GenerateOptions with the types of its fields checked."""


class HarnessSection(Section):
    """What no other section has."""

    pretrained: str
    """Checkpoint folder or hub name."""
    adapter: FilePath | None = None
    """PEFT folder under the official module names."""
    add_bos_token: bool = False
    """Put the beginning-of-sequence token before every text that does not begin with it (Dream's base)."""
    mc_num: Annotated[int, Field(ge=1)] = 128
    """loglikelihood: samples per continuation."""
    mc_batch_size: Annotated[int, Field(ge=1)] = 16
    """Rows per forward; changes speed only, unless mc_as_published."""
    mc_seed: int = 0
    mc_as_published: bool = False
    """Spread the numbers of hidden tokens as LLaDA's program does, rounding of halves included."""


@dataclass(frozen=True)
class ModelArgs:
    """All that model_args said, checked; the student itself has not been looked at."""

    student: StudentConfig
    options: GenerateOptions
    own: HarnessSection
    given: frozenset[str]
    """The names that model_args has."""


@dataclass(frozen=True)
class Canvas:
    """How the requests of one kind are decoded."""

    options: GenerateOptions
    gen_length: int
    wished_length: int | None
    """What the task asked for, in tokens; None: nothing."""


def model_args(raw: Mapping[str, Any]) -> ModelArgs:
    """The settings behind a mapping of names to values, as the harness parsed them.

    Raises:
        ConfigError: an unknown name, a value of another type or outside its range, options that the rule does
            not read, or no model.
    """
    # the harness reads the word none as nothing: it is the cache's default here
    given = {name: value for name, value in raw.items() if value is not None}
    known = {
        "student": LOADING,
        "options": tuple(item.name for item in fields(GenerateOptions)),
        "own": tuple(HarnessSection.model_fields),
    }
    names = [name for some in known.values() for name in some]
    unknown = [name for name in given if name not in names]
    problems = [f"{name}: no such setting; {nearest_name(str(name), names)}" for name in unknown]
    parts = {key: {name: given[name] for name in some if name in given} for key, some in known.items()}
    if "pretrained" not in given:
        problems.append("pretrained: missing; expected a checkpoint folder or hub name")
        parts["own"]["pretrained"] = "?"
    own, student, options = (
        _checked(kind, part, problems)
        for kind, part in (
            (HarnessSection, parts["own"]),
            (StudentConfig, {"model": str(given.get("pretrained", "?")), **parts["student"]}),
            (_Options, {"cache": "none", **parts["options"]}),
        )
    )
    if problems:
        raise ConfigError(f"model_args: {'; '.join(problems)}")
    chosen = GenerateOptions(**{item.name: getattr(options, item.name) for item in fields(GenerateOptions)})
    try:
        chosen.rule_kind()
        _check_batches(chosen, own)
    except ConfigError as error:
        raise ConfigError(f"model_args: {error}") from error
    return ModelArgs(student, chosen, own, frozenset(given))


def canvas_for(
    args: ModelArgs, wishes: Mapping[str, Any], task: str, end_texts: Sequence[str], own_block: int | None
) -> Canvas:
    """How a task's requests are decoded: what model_args name, then what the task asks for, then defaults.

    Args:
        wishes: the task's generation_kwargs, with those of --gen_kwargs.
        end_texts: tokens that end an answer by themselves: as stop strings they have nothing to add.
        own_block: length of the student's blocks, where its attention has some.

    Raises:
        ConfigError: a wish that is not known here, or not of its kind.
    """
    unknown = [name for name in wishes if name not in _WISHES]
    if unknown:
        raise ConfigError(
            f"task {task}: generation_kwargs has {unknown[0]} = {wishes[unknown[0]]!r:.60}, which is not"
            f" fulfilled by this model; expected {', '.join(_WISHES)}. Decoding is set in model_args"
        )
    if wishes.get("num_beams", 1) != 1:
        raise ConfigError(
            f"task {task}: generation_kwargs has num_beams = {wishes['num_beams']!r:.60}; expected 1, beams"
            " are not defined for this model. Override it with --gen_kwargs num_beams=1"
        )
    change: dict[str, Any] = {}
    change["stop"] = (*args.options.stop, *_stops(wishes.get("until"), task, end_texts))
    temperature = _number(wishes, "temperature", 0.0, task)
    if wishes.get("do_sample") is not False and temperature > 0:
        change["temperature"] = temperature
        change["top_p"] = _number(wishes, "top_p", args.options.top_p, task)
        change["top_k"] = _whole(wishes, "top_k", task, 0) or args.options.top_k
    change = {name: value for name, value in change.items() if name == "stop" or name not in args.given}
    wished = next((found for name in _LENGTHS if (found := _whole(wishes, name, task, 1)) is not None), None)
    options = replace(args.options, **change)
    length = options.gen_length or _whole_blocks(wished or GEN_LENGTH, options.block_length or own_block)
    return Canvas(options, length, wished)


def _whole_blocks(length: int, block_length: int | None) -> int:
    """Rounded up to whole blocks; a shorter one is a block itself where no length of blocks is set."""
    if block_length is None and length < BLOCK_LENGTH:
        return length
    block = block_length or BLOCK_LENGTH
    return -(-length // block) * block


def _checked(kind: type[Section], raw: Mapping[str, Any], problems: list[str]) -> Any:
    try:
        return section_of(kind, raw)
    except ConfigError as error:
        problems.append(str(error))
        return None


def _check_batches(options: GenerateOptions, own: HarnessSection) -> None:
    if options.batch_size < 1:
        raise ConfigError(f"batch_size {options.batch_size}: expected at least 1")
    if own.mc_as_published and own.mc_num % own.mc_batch_size:
        raise ConfigError(
            f"mc_num {own.mc_num} with mc_as_published: expected a multiple of mc_batch_size"
            f" ({own.mc_batch_size}), inside which the published program spreads its samples"
        )


def _stops(until: object, task: str, end_texts: Sequence[str]) -> list[str]:
    texts = [until] if isinstance(until, str) else [] if until is None else until
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"task {task}: until = {until!r:.60}; expected a text or a list of texts")
    return [text for text in texts if text and text not in end_texts]


def _number(wishes: Mapping[str, Any], name: str, default: float, task: str) -> float:
    value = wishes.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"task {task}: {name} = {value!r:.60}; expected a number")
    return float(value)


def _whole(wishes: Mapping[str, Any], name: str, task: str, least: int) -> int | None:
    value = wishes.get(name)
    if value is not None and (type(value) is not int or value < least):
        raise ConfigError(f"task {task}: {name} = {value!r:.60}; expected a whole number from {least}")
    return value


def merged(given: Mapping[str, Any], of_harness: Mapping[str, Any]) -> dict[str, Any]:
    """model_args with the harness's own --batch_size and --device, which count where model_args say nothing.

    Its default device, cuda:0, stands for `auto`: a GPU if there is one.

    Raises:
        ConfigError: a batch size that is no number, or a largest one, which is for a size that is found.
    """
    found = dict(given)
    if of_harness.get("max_batch_size") is not None:
        raise ConfigError("--max_batch_size: batch sizes are not searched here; give --batch_size a number")
    size, device = of_harness.get("batch_size"), of_harness.get("device")
    if size is not None and "batch_size" not in found:
        text = str(size)
        if not (text.isascii() and text.isdigit()):
            raise ConfigError(f"--batch_size {text}: expected a whole number; sizes are not searched here")
        found["batch_size"] = int(text)
    if device not in (None, "cuda:0") and "device" not in found:
        found["device"] = device
    return found
