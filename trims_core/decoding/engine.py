"""Decoding many prompts with one canvas loop.

The canvas is `gen_length` masked positions behind the prompt, in blocks worked from left to right. One step
feeds every sequence of the batch to the network once; the reveal rule then chooses among its candidates.
Finished sequences leave the batch and waiting ones enter.

Bounded by construction: each forward reveals at least one position of every sequence that took part, unless
the rule waits, which it may only for as many forwards as its schedule has. A forward is never made for a
full block, because the current block is by definition the first with a masked position.

Covered: equal results alone and in a batch of unequal prompts, up to float32 rounding (a confidence within
about 1e-5 of the threshold or of another candidate may fall on the other side).

Shapes: B sequences in the batch, L prompt and canvas, G canvas positions, V vocabulary.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch

from trims_core.decoding.caches import CachePolicy, KeyValueStore, NoCache
from trims_core.decoding.canvas import Canvas, Decoded
from trims_core.decoding.forwards import block_causal_length, candidate_logits
from trims_core.decoding.proposals import Proposals, propose
from trims_core.decoding.protocol import Denoiser
from trims_core.decoding.rules import RevealRule, first
from trims_core.decoding.sampling import Sampling
from trims_core.errors import ConfigError
from trims_core.keyed import draw_seed

Watch = Callable[[Mapping[int, Sequence[int]]], None]
"""Told after every forward the canvases it changed: the prompt's place -> token ids, [MASK] where hidden."""

Names = Sequence[int] | Sequence[str]
"""One per prompt: what its noise is drawn by above temperature 0, so that neither batch nor place matter."""


@dataclass(frozen=True)
class DecodeSettings:
    """How a canvas is decoded; `batch_size` changes speed only."""

    rule: RevealRule
    gen_length: int
    block_length: int
    stop_at_end: bool = True
    """A sequence is finished once an end token and everything before it are revealed."""
    batch_size: int = 16
    cache: CachePolicy = field(default_factory=NoCache)
    sampling: Sampling = field(default_factory=Sampling)
    stop_strings: tuple[str, ...] = ()
    """A sequence is finished once the text of its revealed beginning contains one of them."""

    def check(self) -> None:
        """Raises ConfigError for lengths that do not fit, or a combination that is not defined."""
        if self.batch_size < 1:
            raise ConfigError(f"batch_size {self.batch_size}: expected at least 1")
        if "" in self.stop_strings:
            raise ConfigError("stop_strings: an empty string ends every text; leave it out")
        self.sampling.check()
        if self.sampling.guidance and self.cache.stores:
            raise ConfigError(
                f"guidance {self.sampling.guidance:g} with cache {self.cache.name}: not defined, because the"
                " cache would hold keys and values of one of the two canvases only; use cache: none"
            )
        if self.sampling.begin_suppress_ids and not self.rule.reads_confidence:
            raise ConfigError(
                f"begin_suppress with {type(self.rule).__name__}: not defined, because it sets confidences to"
                " 0 and this rule goes by entropies; use suppress, or a rule that goes by confidences"
            )
        self.rule.check(self.gen_length, self.block_length, self.cache.name)

    def check_attention(self, family: Any) -> None:
        """Raises ConfigError where a student's attention and these settings do not fit."""
        length = block_causal_length(family)
        if length is None:
            if self.cache.stores and not self.cache.approximates:
                raise ConfigError(
                    f"cache {self.cache.name} with this student: it attends in both directions, so that every"
                    " revealed token changes keys and values before it; expected a block-causal student"
                    " (method d2f). Use cache: none, or prefix or dual, which approximate"
                )
            return
        found = self.rule.block_lengths(self.gen_length, self.block_length)
        # a shorter canvas is a part of one block
        if set(found) != {length} and not (len(found) == 1 and found[0] < length):
            lengths = ", ".join(map(str, sorted(set(found))))
            raise ConfigError(
                f"blocks of {lengths}: this student was trained to attend in blocks of {length}, and is"
                f" decoded in no others; set block_length to {length}, with a rule whose blocks are of one"
                " length"
            )


def decode(
    student: Denoiser,
    prompts: Sequence[Sequence[int]],
    settings: DecodeSettings,
    on_step: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
    names: Names | None = None,
) -> list[Decoded]:
    """The decoded canvases, in the order of the prompts.

    Args:
        prompts: token ids, any lengths ≥ 1; longest ones are decoded first to keep padding short.
        on_step: called after every forward with the finished sequences and their total.
        watch: called after every forward with the canvases that took part.
        names: default: the prompts' places.

    Raises:
        ConfigError: settings that do not fit together or the student, or an empty prompt.
        SweepError: the model's logits are not finite.
    """
    settings.check()
    settings.check_attention(student.family)
    for place, prompt in enumerate(prompts):
        if not len(prompt):
            raise ConfigError(f"prompt {place} is empty: expected at least one token")
    if settings.stop_strings:
        _refuse_special(student, settings.stop_strings)
    loop = _Loop(student, settings, range(len(prompts)) if names is None else names)
    waiting = deque(sorted(range(len(prompts)), key=lambda place: -len(prompts[place])))
    decoded: dict[int, Decoded] = {}
    with torch.inference_mode():
        while waiting or len(loop.canvas):
            started = time.perf_counter()
            if waiting and len(loop.canvas) < settings.batch_size:
                free = min(len(waiting), settings.batch_size - len(loop.canvas))
                entering = [waiting.popleft() for _ in range(free)]
                loop.canvas.admit(entering, [prompts[place] for place in entering])
            loop.step()
            loop.canvas.charge(time.perf_counter() - started)
            if watch is not None:
                watch(dict(zip(loop.canvas.samples, loop.canvas.canvases().tolist(), strict=True)))
            decoded.update(loop.collect())
            if on_step is not None:
                on_step(len(decoded), len(prompts))
    return [decoded[place] for place in range(len(prompts))]


def noise_seed(seed: int, name: int | str, step: int) -> int:
    """Of the noise that a prompt of this name gets in its forward of this number."""
    return draw_seed(seed, step, str(name), "sampling")


class _Loop:
    """The batch, and what happens to it at every step."""

    def __init__(self, student: Denoiser, settings: DecodeSettings, names: Names) -> None:
        self._student = student
        self._settings = settings
        self._names = names
        self._device = next(student.model.parameters()).device
        self.canvas = Canvas(
            settings.rule.block_lengths(settings.gen_length, settings.block_length),
            student.family.mask_id,
            self._device,
            KeyValueStore() if settings.cache.stores else None,
            cached=settings.cache.approximates,
        )

    def step(self) -> None:
        """One forward of every sequence and what it reveals."""
        rule, canvas = self._settings.rule, self.canvas
        progress = canvas.progress()
        candidate_BG = rule.candidates(progress) & progress.masked_BG
        logits_of = candidate_logits(
            self._student,
            canvas,
            progress,
            candidate_BG,
            self._settings.cache,
            looks_back=rule.looks_back or not progress.cached,
            guidance=self._settings.sampling.guidance,
        )
        family = self._student.family
        proposals = propose(
            progress,
            candidate_BG,
            logits_of,
            family.vocab_size,
            mask_id=family.mask_id,
            eos_id=family.eos_id,
            sampling=self._settings.sampling,
            noise=self._noise(candidate_BG) if self._settings.sampling.temperature > 0 else None,
            levels=rule.levels,
        )
        canvas.reveal(self._chosen(proposals), proposals)

    def collect(self) -> dict[int, Decoded]:
        """The sequences that are finished now, taken out of the batch; keys are their prompt's place."""
        canvas, settings = self.canvas, self._settings
        end_B = canvas.end_positions(self._student.family.end_ids)
        leaving_B = canvas.full()
        if settings.stop_at_end:
            leaving_B = leaving_B | (end_B < canvas.gen_length)
        if settings.stop_strings:
            stop_B = self._stop_positions()
            leaving_B = leaving_B | (stop_B < canvas.gen_length)
            end_B = torch.minimum(end_B, stop_B)
        return canvas.release(leaving_B, end_B) if bool(leaving_B.any()) else {}

    def _chosen(self, proposals: Proposals) -> torch.Tensor:
        """The rule's choice, and the most confident candidate where it may not choose nothing."""
        chosen_BG = self._settings.rule.choose(proposals) & proposals.candidate_BG
        stuck_B = ~chosen_BG.any(dim=1)
        waits_B = self._settings.rule.waits(proposals)
        if waits_B is not None:
            stuck_B = stuck_B & ~waits_B
        return chosen_BG | (first(proposals.confidence_BG) & stuck_B[:, None])

    def _noise(self, candidate_BG: torch.Tensor) -> Callable[[slice], torch.Tensor]:
        """Uniform numbers for a range of candidates that holds all those of some sequences: each sequence's
        are those of its own generator for this forward, drawn when asked for."""
        counts = candidate_BG.sum(dim=1).tolist()
        starts = [0, *accumulate(counts)]
        rows = list(zip(starts, counts, self.canvas.samples, self.canvas.steps, strict=False))

        def uniform(chunk: slice) -> torch.Tensor:
            drawn = [self._uniform(*row) for start, *row in rows if chunk.start <= start < chunk.stop]
            return torch.cat(drawn)

        return uniform

    def _uniform(self, count: int, sample: int, step: int) -> torch.Tensor:
        """float64 [count, V] in (0, 1)."""
        generator = torch.Generator(self._device)
        generator.manual_seed(noise_seed(self._settings.sampling.seed, self._names[sample], step))
        shape = (count, self._student.family.vocab_size)
        drawn = torch.rand(shape, dtype=torch.float64, device=self._device, generator=generator)
        return drawn.clamp_(min=torch.finfo(torch.float64).tiny)

    def _stop_positions(self) -> torch.Tensor:
        """int64 [B]: the token that completes a stop string in each revealed beginning; G where none."""
        tokenizer: Any = getattr(self._student, "tokenizer")  # noqa: B009 - only students with text have one
        found: list[int] = []
        for ids, n_known in zip(
            self.canvas.canvases().tolist(), self.canvas.first_masked().tolist(), strict=True
        ):
            found.append(_stop_position(tokenizer, ids[:n_known], self._settings.stop_strings, len(ids)))
        return torch.tensor(found, device=self._device)


def _refuse_special(student: Any, stop_strings: Sequence[str]) -> None:
    special = set(getattr(student.tokenizer, "all_special_tokens", ())) & set(stop_strings)
    if special:
        raise ConfigError(
            f"stop string {sorted(special)[0]!r} is a special token, which texts are decoded without, so it"
            f" would never be found; expected plain text (end tokens stop a sequence by themselves)"
        )


def texts_of(decoded: Sequence[Decoded], student: Any, stop_strings: Sequence[str]) -> list[str]:
    """The answers up to the end token or before a stop string; without either the whole canvas."""
    shown = [item.token_ids[: item.n_tokens] for item in decoded]
    texts = student.tokenizer.batch_decode(
        [ids[:-1] if ids[-1] in student.family.end_ids else ids for ids in shown],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    return [before_stop(text, stop_strings) for text in texts]


def before_stop(text: str, strings: Sequence[str]) -> str:
    """The text before the first place where one of the strings begins; all of it where none does."""
    starts = [place for string in strings if (place := text.find(string)) >= 0]
    return text[: min(starts, default=len(text))]


def _stop_position(tokenizer: Any, known_ids: list[int], strings: Sequence[str], otherwise: int) -> int:
    """The shortest beginning whose text contains a stop string, as the place of its last token."""

    def stops(n_tokens: int) -> bool:
        text = tokenizer.decode(known_ids[:n_tokens], skip_special_tokens=True)
        return any(string in text for string in strings)

    if not stops(len(known_ids)):
        return otherwise
    low, high = 0, len(known_ids)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if stops(middle) else (middle + 1, high)
    return low - 1
