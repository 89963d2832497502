"""Teacher `student`: a control for ablations; the masked diffusion student scores the completion itself.

The prompt is visible and every completion position, end of turn included, is [MASK]; one bidirectional
forward gives −log p of the true token at each position, and the exact entropy. No token of the completion is
seen, but its length is: the canvas ends with it.

[MASK] is no possible answer here: its logit is left out of the softmax, for values and entropies. Decoding
never proposes [MASK] either, but its confidences keep [MASK] in the denominator (decoding/proposals.py), so
that p here is p there divided by 1 − p([MASK]).

Covered: every family of trims_core.students; Dream's predictions, one position to the right, are moved by
`family.align`. Not covered: adapters, weights in 4 bits, block-causal
students (refused).

Shapes: B rows, L padded tokens, D hidden size, N scored positions of a batch
Source: own derivation; compared with a dense forward per row in tests/teacher/test_student_teacher.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from trims_core.errors import ConfigError
from trims_core.students import Student, load_student
from trims_core.teacher.in_process import InProcessTeacher, nats_of, replies, target_places
from trims_core.teacher.protocol import Request, Scored


class StudentTeacher(InProcessTeacher):
    """A masked diffusion checkpoint on the first CUDA device, or else the CPU."""

    expected: ClassVar[str] = "a masked diffusion checkpoint in the published layout of its family"

    def _load(self) -> Student:
        config = self._config
        student = load_student(
            config.model, revision=config.revision, dtype=config.dtype, device=str(self._device)
        )
        if student.family.block_causal_length is not None:
            raise ConfigError(
                f"scores.model: {config.model} attends in blocks of {student.family.block_causal_length}, and"
                " this teacher masks a completion as a whole; expected a student that attends in both"
                " directions"
            )
        return student

    @torch.inference_mode()
    def _score_batch(self, batch: Sequence[Request]) -> list[Scored]:
        student: Student = self._model
        # 1. prompts visible, completions masked; pads at the right, which no position attends to
        longest = max(request.n_tokens for request in batch)
        ids_BL = torch.full((len(batch), longest), student.family.mask_id)
        attention_BL = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, request in enumerate(batch):
            ids_BL[row, : len(request.prompt_ids)] = torch.tensor(request.prompt_ids)
            attention_BL[row, : request.n_tokens] = 1
        # 2. states at the positions they predict
        hidden_BLD = student.hidden(ids_BL.to(self._device), attention_mask=attention_BL.to(self._device))
        # 3. nll and entropy at the completion's positions, [MASK] left out
        row_N, place_N, target_N = (part.to(self._device) for part in target_places(batch))
        nll_N, entropy_N = nats_of(
            hidden_BLD[row_N, place_N],
            student.head,
            target_N,
            student.family.vocab_size,
            excluded_id=student.family.mask_id,
        )
        # 4. back to rows
        return replies(batch, nll_N, entropy_N)
