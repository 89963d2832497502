"""What a student proposes for every masked position of given canvases: one forward of each, none revealed.

The forward is that of decoding without a cache: prompt and canvas whole, in a block-causal student each
block behind those before it. The proposal is the most probable token that is not [MASK], with the tokens
suppressed that decoding suppresses, and under its guidance; temperature and nucleus play no part.

Importing this module imports torch.
Shapes: B canvases of a batch, G canvas positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from trims_core.decoding.caches import NoCache
from trims_core.decoding.canvas import Canvas
from trims_core.decoding.forwards import candidate_logits
from trims_core.decoding.proposals import propose
from trims_core.decoding.protocol import Denoiser
from trims_core.decoding.sampling import Sampling


def filled(
    student: Denoiser,
    prompts: Sequence[Sequence[int]],
    canvases: Sequence[Sequence[int]],
    sampling: Sampling,
    batch_size: int,
    on_batch: Callable[[int], None] = lambda _n: None,
) -> list[list[int]]:
    """The canvases with every masked position filled, in their order.

    Args:
        prompts: token ids, one per canvas.
        canvases: token ids, [MASK] where hidden; all of one length.
        on_batch: told after every forward how many canvases are filled.

    Raises:
        SweepError: the model's logits are not finite.
    """
    mask_id = student.family.mask_id
    found = [list(canvas) for canvas in canvases]
    # longest ones first, to keep padding short
    order = sorted(
        (place for place, canvas in enumerate(found) if mask_id in canvas),
        key=lambda place: -len(prompts[place]),
    )
    greedy = replace(sampling, temperature=0.0)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            rows = _batch(
                student, [prompts[place] for place in places], [found[place] for place in places], greedy
            )
            for place, row in zip(places, rows, strict=True):
                found[place] = row
            on_batch(min(start + batch_size, len(order)))
    return found


def _batch(
    student: Denoiser,
    prompts: Sequence[Sequence[int]],
    canvases: Sequence[Sequence[int]],
    sampling: Sampling,
) -> list[list[int]]:
    device = next(student.model.parameters()).device
    family = student.family
    canvas = Canvas([len(canvases[0])], family.mask_id, device, None, cached=False)
    canvas.admit(range(len(prompts)), prompts)
    canvas.put(torch.tensor(canvases))
    progress = canvas.progress()
    logits_of = candidate_logits(
        student,
        canvas,
        progress,
        progress.masked_BG,
        NoCache(),
        looks_back=True,
        guidance=sampling.guidance,
    )
    proposals = propose(
        progress,
        progress.masked_BG,
        logits_of,
        family.vocab_size,
        mask_id=family.mask_id,
        eos_id=family.eos_id,
        sampling=sampling,
        noise=None,
        levels=(),
    )
    rows: list[list[int]] = torch.where(progress.masked_BG, proposals.token_BG, canvas.canvases()).tolist()
    return rows
