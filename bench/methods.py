"""What a training method costs beside its forwards and backwards: drawing masks and making sets.

Used by `train_step.py --method NAME`. Sets that a method makes of predictions, inside its losses, are timed
with a student whose predictions are made up beforehand, so that only the method's own work is left.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

PROMPT_SHARE = 8
"""One token in so many is a prompt's."""


@dataclass(frozen=True)
class Lengths:
    """B sequences: prompts, answers (of different lengths between two bounds), ends behind them (0 to n)."""

    batch: int
    prompt: int
    answer: tuple[int, int]
    ends: int


DEMO = Lengths(batch=32, prompt=34, answer=(26, 72), ends=32)
"""A micro-batch of configs/demo.yaml: from the shortest answer of its data to the longest, in tokens."""


def settings(name: str) -> Any:
    """A variant of this method with its defaults. Raises: SystemExit: there is no such method."""
    from trims_core.variants import Variant

    union = get_args(Variant)[0]
    classes = [get_args(tagged)[0] for tagged in get_args(union)]
    found = {one.model_fields["method"].default: one for one in classes}
    found = {name: one for name, one in found.items() if one.needs != "rounds"}  # see rounds.py
    if name not in found:
        raise SystemExit(f"--method {name}: not a method; there are {', '.join(found)}")
    return found[name]()


def sequences(lengths: Lengths, vocab: int, epoch: int) -> Any:
    """A micro-batch of random tokens, buckets and reveal steps; each epoch draws other masks on it."""
    import torch

    from trims_core.keyed import draw_seed
    from trims_core.training.sequences import Sequences

    generator = torch.Generator().manual_seed(0)
    low, high = lengths.answer
    answer_B1 = torch.linspace(low, high, lengths.batch).long()[:, None]
    n_ends_B1 = torch.arange(lengths.batch)[:, None] % (lengths.ends + 1)
    place_L = torch.arange(lengths.prompt + int((answer_B1 + n_ends_B1).max()))
    shape = (lengths.batch, len(place_L))
    prompt_BL = (place_L < lengths.prompt).expand(shape)
    content_BL = ~prompt_BL & (place_L < lengths.prompt + answer_B1)
    end_BL = ~prompt_BL & ~content_BL & (place_L < lengths.prompt + answer_B1 + n_ends_B1)
    reveal_BL = torch.rand(shape, generator=generator).masked_fill(~content_BL, 2).argsort(1).argsort(1)
    names = tuple(f"example-{row}" for row in range(lengths.batch))
    return Sequences(
        ids=names,
        target_BL=torch.randint(0, vocab - 2, shape, generator=generator),
        prompt_BL=prompt_BL,
        content_BL=content_BL,
        end_BL=end_BL,
        bucket_BL=torch.randint(1, 9, shape, generator=generator, dtype=torch.uint8),
        reveal_BL=reveal_BL.masked_fill(~content_BL, -1).to(torch.int16),
        step=epoch,
        progress=0.5,
        seeds=lambda purpose: [draw_seed(0, epoch, name, purpose) for name in names],
        dropout_seeds=lambda number: number,
    )


def build(variant: Any, family: Any) -> Any:
    """The method as a run with the defaults has it."""
    from trims_core.training.method import build_method

    return build_method(variant, context(variant, family))


def context(variant: Any, family: Any) -> Any:
    """What it is made from."""
    from trims_core.config import TrainConfig
    from trims_core.training.method import Context

    train = TrainConfig(variants={"one": variant})
    return Context(train, train.ends_of(variant), 8, family.mask_id, family.name)


def totals(batch: Any) -> Any:
    """Of a step that is one micro-batch."""
    from trims_core.training.sequences import Totals

    return Totals(batch.counts, len(batch.ids), 1)


def cost(
    variant: Any, student: Any, family: Any, lengths: Lengths, repeats: tuple[int, int]
) -> dict[str, float]:
    """Median seconds of drawing a batch, making sets of predictions, and a step; the share of the first two.

    Args:
        student: a PEFT model in training. repeats: of the draws, and of the steps behind a first one.
    """
    import torch

    from trims_core.training.student import Denoiser, TrainedStudent

    method, n_draws = build(variant, family), repeats[0]
    made = [sequences(lengths, family.vocab_size, epoch) for epoch in range(n_draws)]
    batches: list[Any] = []
    drawing = [_seconds(lambda one=one: batches.append(method.batch(one))) for one in made]
    guessing = MadeUpStudent(batches[0])
    setting = [_seconds(lambda one=one: _back(method, guessing, one)) for one in batches]
    denoiser = Denoiser(student, family)
    trained = TrainedStudent(denoiser, denoiser)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        _back(method, trained, batches[0])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    stepping = [_seconds(step) for _ in range(repeats[1])]
    draw_s, sets_s, step_s = (statistics.median(found) for found in (drawing, setting, stepping))
    return {
        "draw_seconds": round(draw_s, 5),
        "sets_seconds": round(sets_s, 5),
        "step_seconds": round(step_s, 4),
        # sets are made inside the step, masks before it
        "share": round((draw_s + sets_s) / (draw_s + step_s), 6),
    }


class MadeUpStudent:
    """Predictions at no cost: random, as many as are asked for, with gradients that lead nowhere."""

    def __init__(self, batch: Any) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        self._random_N = torch.rand(batch.target_BL.numel(), generator=generator).requires_grad_()

    def cross_entropy(self, batch: Any, view: Any, weight_BL: Any) -> tuple[Any, Any]:
        """As TrainedStudent's."""
        del batch, weight_BL
        nll_M = self._random_N[: int(view.scored_BL.sum())]
        return nll_M.sum(), nll_M.detach()

    def rows(
        self, batch: Any, view: Any, temperatures: Any = (), *, reference: bool = False, **tempered: float
    ) -> Any:
        """As TrainedStudent's."""
        from trims_core.training.rows import Rows

        del batch, tempered
        random_M = self._random_N[: int(view.scored_BL.sum())]
        entropies, of_reference = tuple(random_M for _ in temperatures), random_M if reference else None
        return Rows(random_M, entropies, of_reference, random_M > 0.5, of_reference)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """As TrainedStudent's."""
        import torch

        with torch.no_grad():
            yield


def _back(method: Any, student: Any, batch: Any) -> None:
    for loss in method.losses(student, batch, totals(batch)):
        loss.total.backward()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def large(batch: int, length: int) -> Lengths:
    """Equal rows of so many tokens, without ends."""
    prompt = length // PROMPT_SHARE
    return Lengths(batch, prompt, (length - prompt, length - prompt), 0)
