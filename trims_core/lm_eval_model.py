"""A student as the model `trims` of lm-evaluation-harness; importing this module registers it.

The harness makes the prompts and judges the answers; the student is loaded and decoded as in a sweep, so that
the same prompt under the same settings has the same tokens (docs/lm-eval.md). What was decoded, and in how
many forwards, stands in the harness's results under `config.trims`.

Covered: generate_until, loglikelihood (multiple choice among it), the harness's chat templates, few-shot
turns, begun answers, caches. Not covered: loglikelihood_rolling, several processes; refused by name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from trims_core.decoding import DecodeSettings, Sampling
from trims_core.decoding.likelihood import MonteCarlo, log_likelihoods
from trims_core.decoding.rules import one_per_forward
from trims_core.decoding.runner import Answers, Runner, load_runner
from trims_core.errors import ConfigError
from trims_core.fingerprint import sha256_json
from trims_core.generation.canvas_settings import settings_for
from trims_core.lm_eval_requests import Job, Tally, alike, check_pairs, name_of, noise_names
from trims_core.lm_eval_settings import ModelArgs, canvas_for, merged, model_args

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.utils import simple_parse_args_string
except ModuleNotFoundError as missing:
    raise ConfigError(
        f"lm-evaluation-harness: the package {str(missing.name).partition('.')[0]} is not installed; expected"
        " the extra eval. Run `pip install 'trims-pipeline[eval]'`, in a checkout `make extras`"
    ) from missing

logger = logging.getLogger("lm_eval.trims")
"""Below the harness's, which alone it sets up."""

_ANSWERS: Final = 200
_CONTINUATIONS: Final = 256
"""Requests after which results are handed to the harness's cache: what an interruption may cost."""

Pair = tuple[list[int], list[int]]


@register_model("trims")
class TrimsLM(TemplateLM):  # type: ignore[misc]
    """A masked diffusion model.

    Args:
        given: model_args; the table of docs/lm-eval.md.

    Raises:
        ConfigError: settings that are wrong, or a student that cannot be loaded.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__()
        _refuse_processes()
        self.settings = model_args(given)
        self.runner = _loaded(self.settings)
        self.tokenizer = self.runner.student.tokenizer
        self._device = next(self.runner.student.model.parameters()).device
        if self.settings.own.add_bos_token and self.tokenizer.bos_token_id is None:
            raise ConfigError(
                "model_args: add_bos_token: the student's tokenizer has no bos_token; leave the setting out"
            )
        self._tally = Tally()

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> TrimsLM:
        """The model of model_args and the harness's own options; where both say something, the former."""
        return cls(**merged(arg_dict, additional_config or {}))

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> TrimsLM:
        """The same from `key=value,key=value`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @property
    def eot_token_id(self) -> int:
        """What ends an answer."""
        return int(self.runner.student.family.eos_id)

    @property
    def prefix_token_id(self) -> int:
        """What a continuation without a context is predicted behind."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_length(self) -> int:
        """Tokens of the context, canvas included."""
        return int(self.runner.student.family.context_length)

    @property
    def tokenizer_name(self) -> str:
        """Tokenizer and template, by which the harness names rendered prompts in its cache."""
        about = [self.runner.renderer.template_source, self.settings.student.template]
        name = str(self.tokenizer.name_or_path).replace("/", "__")
        return f"{name}-{sha256_json([*about, self.settings.student.template_date])[:12]}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_unread: Any) -> list[int]:
        """Ids of a text as it stands, behind a beginning-of-sequence token where add_bos_token is set."""
        (ids,) = self.runner.renderer.text_ids([string])
        bos = self.tokenizer.bos_token_id
        wanted = self.settings.own.add_bos_token and add_special_tokens is not False and ids[:1] != [bos]
        return [bos, *ids] if wanted else ids

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as the sweep renders it; without a generation prompt its last message is an answer
        that is gone on with.

        Raises:
            CorpusError: the chat template refuses the conversation.
        """
        if add_generation_prompt:
            return self.runner.renderer.prompt_texts([chat_history])[0]
        if not chat_history or chat_history[-1]["role"] != "assistant":
            raise ConfigError("a begun answer was announced and is not the conversation's last message")
        return self.runner.renderer.begun_text(chat_history)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's source, for the harness's results; None where it is not used.

        Raises:
            ConfigError: a template's name.
        """
        if isinstance(chat_template, str):
            raise ConfigError(
                f"--apply_chat_template {chat_template!r}: this model has one template and no names; leave"
                " the name out, or give a file as template_file in model_args"
            )
        return self.runner.renderer.template_source if chat_template else None

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The answers, up to the end token or before a stop string.

        Raises:
            ConfigError: a wish of a task that is not known here, or a prompt that does not fit.
            SweepError: decoding failed.
        """
        names = noise_names(requests)
        jobs = [self._job(requests, places) for places in alike(requests)]
        texts: dict[int, str] = {}
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests") as bar:
            for job in jobs:
                found: list[Answers] = []
                for start in range(0, len(job.places), _ANSWERS):
                    chunk = slice(start, start + _ANSWERS)
                    places, advance = job.places[chunk], _advancing(bar)
                    noise = [names[place] for place in places]
                    answers = self.runner.answer(job.prompts[chunk], job.settings, advance, noise)
                    for place, text in zip(places, answers.texts, strict=True):
                        texts[place] = text
                        self.cache_hook.add_partial("generate_until", requests[place].args, text)
                    found.append(answers)
                self._tally.count(job, found)
        return [texts[place] for place in range(len(requests))]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The estimate in nats of every continuation's log-probability, and whether it is the greedy answer.

        Raises:
            ConfigError: a continuation without tokens, or one that does not fit behind its context.
        """
        for place, request in enumerate(requests):
            if not request.args[1]:
                raise ConfigError(
                    f"{name_of(request, place)}: the continuation is empty; expected text to score"
                )
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """Raises ConfigError: not defined."""
        raise ConfigError(
            f"{name_of(requests[0], 0)}: loglikelihood_rolling, the perplexity of whole documents, is not"
            " defined for this model: a masked diffusion model bounds a text's probability, and the bound of"
            " pieces is none of the whole. Leave tasks with this output_type out"
        )

    def get_model_info(self) -> dict[str, Any]:
        """Settings and counts for the harness's results, under `config.trims`."""
        said = self.settings
        info = {
            "student": said.student.model_dump(exclude={"max_rejected_fraction"}),
            "options": asdict(said.options),
            "own": said.own.model_dump(),
            "adapter_merge": None if self.runner.merge is None else str(self.runner.merge),
            **self._tally.told(),
        }
        return {"trims": info}

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        check_pairs(requests, self.max_length)
        own, found = self.settings.own, []
        how = MonteCarlo(
            samples=own.mc_num,
            batch_size=own.mc_batch_size,
            seed=own.mc_seed,
            as_published=own.mc_as_published,
            guidance=self.settings.options.guidance,
        )
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests") as bar:
            for start in range(0, len(requests), _CONTINUATIONS):
                chunk = requests[start : start + _CONTINUATIONS]
                pairs = [(context, continuation) for _, context, continuation in chunk]
                estimates = log_likelihoods(self.runner.student, pairs, how, _advancing(bar))
                for request, estimate, greedy in zip(chunk, estimates, self._greedy(pairs), strict=True):
                    found.append((estimate.nats, greedy))
                    self.cache_hook.add_partial("loglikelihood", request[0], found[-1])
                self._tally.add(estimates)
        return found

    def _job(self, requests: Sequence[Any], places: Sequence[int]) -> Job:
        """How some requests are decoded; everything that can be refused is refused here."""
        first, student = requests[places[0]], self.runner.student
        task = str(first.task_name)
        ends = self.tokenizer.convert_ids_to_tokens(sorted(student.family.end_ids))
        canvas = canvas_for(self.settings, first.args[1], task, ends, student.family.block_causal_length)
        settings = settings_for(canvas.options, student, canvas.gen_length)
        prompts = [self.tok_encode(requests[place].args[0]) for place in places]
        names = [str(requests[place].doc_id) for place in places]
        asked = "" if canvas.wished_length is None else f" (max_gen_toks {canvas.wished_length})"
        about = f"task {task}{asked}: the prompt of document"
        self.runner.check_lengths(names, prompts, canvas.gen_length, about)
        if canvas.wished_length not in (None, canvas.gen_length):
            logger.warning(
                "task %s asks for max_gen_toks %d; it is decoded on a canvas of %d positions (%s)",
                task,
                canvas.wished_length,
                canvas.gen_length,
                "gen_length in model_args" if "gen_length" in self.settings.given else "whole blocks",
            )
        return Job(task, canvas.wished_length, settings, places, prompts)

    def _greedy(self, pairs: Sequence[Pair]) -> list[bool]:
        """Whether one token per forward, the most confident first, decodes each continuation."""
        same: dict[int, bool] = {}
        for length in sorted({len(continuation) for _, continuation in pairs}):
            places = [place for place, (_, continuation) in enumerate(pairs) if len(continuation) == length]
            settings = DecodeSettings(
                rule=one_per_forward(length),
                gen_length=length,
                block_length=length,
                stop_at_end=False,
                batch_size=self.settings.options.batch_size,
                sampling=Sampling(guidance=self.settings.options.guidance),
            )
            answers = self.runner.answer([pairs[place][0] for place in places], settings)
            for place, decoded in zip(places, answers.decoded, strict=True):
                same[place] = list(decoded.token_ids) == list(pairs[place][1])
        return [same[place] for place in range(len(pairs))]


def _loaded(args: ModelArgs) -> Runner:
    adapter = None if args.own.adapter is None else Path(args.own.adapter)
    try:
        return load_runner(args.student, adapter, None)
    except (RuntimeError, AssertionError) as error:  # torch's own, about devices
        raise ConfigError(
            f"model_args: pretrained {args.student.model} on device {args.student.device!r}:"
            f" {str(error).splitlines()[0]}; expected a device of this machine with room for it, such as cpu"
        ) from error


def _advancing(bar: Any) -> Callable[..., None]:
    """Moves a bar to so many requests behind where it stands now."""
    begun = bar.n
    return lambda done, _total=None: bar.update(begun + done - bar.n)


def _refuse_processes() -> None:
    count = os.environ.get("WORLD_SIZE", "1")
    if count.isdigit() and int(count) > 1:
        raise ConfigError(
            f"{count} processes (WORLD_SIZE): this model is evaluated by one. Start it without torchrun or"
            " accelerate launch; device_map=auto in model_args spreads a model over GPUs"
        )
