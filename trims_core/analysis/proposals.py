"""How a student would fill the canvases of some trajectories, state by state.

State k is the canvas behind k forwards, rebuilt from the reveal steps: 0 shows nothing, the last state every
token of the answer. Each is filled by one forward of the whole canvas, without a cache, whatever the sweep
kept. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trims_core.decoding.filling import filled
from trims_core.decoding.sampling import Sampling
from trims_core.students import Student
from trims_core.trajectories import canvas_before, moments, n_steps


def proposals_of(
    student: Student,
    prompts: Sequence[Sequence[int]],
    samples: Iterable[Mapping[str, Any]],
    sampling: Sampling,
    n_states: int,
    batch_size: int,
    on_batch: Callable[[int, int], None],
) -> dict[str, list[Any]]:
    """The columns of schema.PROPOSALS.

    Args:
        prompts: token ids, one per sample.
        n_states: at most so many of each sample.
        on_batch: told after every forward how many canvases of how many are filled.

    Raises:
        SweepError: the model's logits are not finite.
    """
    mask_id = student.family.mask_id
    asked: list[Sequence[int]] = []
    columns: dict[str, list[Any]] = {"sample_id": [], "step": [], "token_ids": []}
    for prompt, sample in zip(prompts, samples, strict=True):
        n_forwards = n_steps(sample["reveal_step"][: sample["n_tokens"]])
        for step in moments(n_forwards, n_states):
            asked.append(prompt)
            columns["sample_id"].append(sample["sample_id"])
            columns["step"].append(step)
            canvas = canvas_before(sample["token_ids"], sample["reveal_step"], step, mask_id)
            columns["token_ids"].append(canvas)
    total = len(asked)
    columns["token_ids"] = filled(
        student, asked, columns["token_ids"], sampling, batch_size, lambda n: on_batch(n, total)
    )
    return columns
