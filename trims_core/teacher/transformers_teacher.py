"""Teacher `transformers`: a plain forward in this process; knows the exact entropy too.

Rows are sorted by length and padded at the right, where a causal model never looks, so no mask is needed.
The head runs over completion positions only, a slice of the vocabulary matrix product at a time.

Shapes: B rows, L padded tokens, D hidden size, N scored positions of a batch, V vocabulary
Source: log-softmax and entropy by definition; the teachers are compared in tests/teacher/test_agreement.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from trims_core.config import ScoresConfig
from trims_core.hub import model_folder
from trims_core.students.tensor_files import check_tensor_files
from trims_core.teacher.in_process import InProcessTeacher, nats_of, replies, target_places
from trims_core.teacher.protocol import Request, Scored


class TransformersTeacher(InProcessTeacher):
    """An AutoModelForCausalLM on the first CUDA device, or else the CPU."""

    expected: ClassVar[str] = "a causal language model"

    def __init__(self, config: ScoresConfig) -> None:
        super().__init__(config)
        self._sliced_head = False

    def _load(self) -> Any:
        from transformers import AutoModelForCausalLM

        folder = model_folder(self._config.model, self._config.revision)
        check_tensor_files(folder)
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=getattr(torch, self._config.dtype))
        model = model.to(self._device).eval()
        self._sliced_head = _head_is_plain(model)
        return model

    @torch.inference_mode()
    def _score_batch(self, batch: Sequence[Request]) -> list[Scored]:
        # 1. ids, padded at the right with any id
        longest = max(request.n_tokens for request in batch)
        ids_BL = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, request in enumerate(batch):
            ids_BL[row, : request.n_tokens] = torch.tensor(request.prompt_ids + request.target_ids)
        # 2. the token at place i is predicted from place i − 1
        row_N, place_N, target_N = (part.to(self._device) for part in target_places(batch))
        # 3. nll and entropy of these places only
        nll_N, entropy_N = self._nats(ids_BL.to(self._device), row_N, place_N - 1, target_N)
        # 4. back to rows
        return replies(batch, nll_N, entropy_N)

    def _nats(
        self, ids_BL: torch.Tensor, row_N: torch.Tensor, place_N: torch.Tensor, target_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 on the CPU: −log p of the targets, and the entropy of p, predicted at the given places."""
        vocab_size = int(self._model.get_output_embeddings().weight.shape[0])
        if self._sliced_head:
            hidden_BLD = self._model.base_model(input_ids=ids_BL, use_cache=False)[0]
            return nats_of(
                hidden_BLD[row_N, place_N], self._model.get_output_embeddings(), target_N, vocab_size
            )
        logits_BLV = self._model(input_ids=ids_BL, use_cache=False).logits
        return nats_of(logits_BLV[row_N, place_N], torch.nn.Identity(), target_N, vocab_size)


@torch.inference_mode()
def _head_is_plain(model: Any) -> bool:
    """Whether logits are the output embedding of the trunk's last state (no caps, no scales)."""
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    probe_BL = torch.arange(4, device=model.device)[None] % head.weight.shape[0]
    states_BLD = model.base_model(input_ids=probe_BL, use_cache=False)[0]
    if states_BLD.shape[-1] != head.weight.shape[-1]:
        return False
    wanted_BLV = model(input_ids=probe_BL, use_cache=False).logits
    return bool(
        torch.allclose(head(states_BLD).float(), wanted_BLV.float(), rtol=1e-5, atol=1e-5, equal_nan=True)
    )
