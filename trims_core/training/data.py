"""What one rank trains and validates on, from the examples and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trims_core.errors import ConfigError
from trims_core.training.examples import Examples
from trims_core.training.method import Context, Method
from trims_core.training.methods.trims import Trims
from trims_core.training.plan import (
    Lengths,
    Padding,
    Schedule,
    accumulation_steps,
    count_steps,
    split_validation,
)
from trims_core.training.sequences import Batch, Sequences, gather
from trims_core.training.spec import TrainSpec
from trims_core.training.world import World
from trims_core.variants import StandardVariant


@dataclass(frozen=True)
class RunData:
    """One rank's data.

    train: step → its micro-batches of this rank, nothing hidden yet. validation: number of a micro-batch, of
    all ranks together → it under standard masks whose t is spread evenly over the held-out examples, with
    every end hidden: the same for every method, variant, seed and step, seen as the student attends. Both are
    made when asked for.
    """

    n_steps: int
    train: Callable[[int], list[Sequences]]
    validation: Callable[[int], Batch]
    n_validation: int
    validation_ids: tuple[str, ...] = ()


def validation_method(context: Context) -> Method:
    """Standard masks, every end hidden, draws of their own."""
    hidden = {"pads": "hidden", "rho": 0.0, "p_high": 0.0, "weight": 1.0, "hide_end_of_turn": False}
    ends = context.ends.model_copy(update=hidden)
    return Trims(StandardVariant(), replace(context, ends=ends), "validation")


def run_data(spec: TrainSpec, examples: Examples, context: Context, pad_id: int, world: World) -> RunData:
    """The data of a rank.

    Raises:
        ConfigError: the batch does not divide among the ranks, or nothing is held out to find the best by.
    """
    config, ends = spec.train, spec.ends
    accumulation_steps(config, world.size)
    chosen, held_out = split_validation(examples.ids, config.validation_fraction, examples.prompts)
    if config.keep == "best" and not held_out:
        raise ConfigError(
            f"train.keep: best with {len(examples.ids)} example(s): none is held out to find the best weights"
            f" by (validation_fraction {config.validation_fraction:g}); expected two or more, or keep: last"
        )
    n_steps = count_steps(config, len(chosen), spec.variant.passes)
    longest = examples.longest

    def schedule(chosen: Sequence[int] | Lengths, seed: int, end_tokens: int) -> Schedule:
        return Schedule(
            examples.ids,
            examples.prompt_lengths,
            examples.lengths,
            examples.ends_in_turn,
            chosen,
            seed=seed,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch_size,
            padding=Padding(end_tokens, config.pad_to_multiple_of, config.max_length),
            n_steps=n_steps,
            window=config.window,
            longest=longest,
        )

    trained = schedule(chosen, spec.seed, 0 if ends.pads == "none" else ends.tokens)

    def train(step: int) -> list[Sequences]:
        # ranks take turns, so that those that run at the same time are neighbours in length
        return [
            gather(
                examples,
                micro_batch,
                pad_id=pad_id,
                seed=spec.seed,
                hide_end_of_turn=ends.hide_end_of_turn,
                n_steps=n_steps,
            )
            for micro_batch in trained.step(step)[world.rank :: world.size]
        ]

    validated = schedule(held_out, 0, ends.tokens)
    chunks = [held_out[i : i + config.batch_size] for i in range(0, len(held_out), config.batch_size)]
    strata = {example: place for place, example in enumerate(held_out)}
    parts = [part for chunk in chunks for part in validated.cut([validated.entry(i, 0) for i in chunk], 0)]
    method = validation_method(context)

    def validation(number: int) -> Batch:
        sequences = gather(
            examples, parts[number], pad_id=pad_id, seed=spec.seed, hide_end_of_turn=False, strata=strata
        )
        batch, length = method.batch(sequences), spec.variant.block_causal_length
        if length is None:
            return batch
        return replace(batch, views=(replace(batch.view, block_BL=sequences.blocks(length)),))

    return RunData(
        n_steps=n_steps,
        train=train,
        validation=validation,
        n_validation=len(parts),
        validation_ids=tuple(examples.ids[i] for i in held_out),
    )
