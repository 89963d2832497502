"""A student that always answers the same text."""

from __future__ import annotations

import torch
from fakes.decoding_checkpoint import FIRST_SPECIAL, VOCABULARY, byte_tokenizer

from trims_core.students.llada import CHAT_TEMPLATE

EOS, MASK, EOT = FIRST_SPECIAL + 1, FIRST_SPECIAL + 2, FIRST_SPECIAL + 5
GEN = 32


class ParrotFamily:
    """As far as decoding asks."""

    mask_id, eos_id, eot_id, end_ids, context_length = MASK, EOS, EOT, frozenset({EOS, EOT}), 256
    lookback, vocab_size = 0, VOCABULARY


class Parrot:
    """Always answers the same text; remembers the prompts it was given.

    Args:
        height: the logit with which its tokens stand out.
    """

    def __init__(self, text: str, height: float = 30.0) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.family = ParrotFamily()
        self.tokenizer = byte_tokenizer()
        self.tokenizer.chat_template = CHAT_TEMPLATE
        self.prompts: set[str] = set()
        answer = self.tokenizer(text, add_special_tokens=False)["input_ids"] + [EOT]
        self._tokens = answer + [EOS] * (GEN - len(answer))
        self._height = height

    def head(self, hidden_XD):
        return hidden_XD

    def hidden(self, ids_BL, position_ids_BL=None, attention_mask_BL=None, cache=None):
        for row, ids in enumerate(ids_BL.tolist()):
            n_pad = 0 if attention_mask_BL is None else int((~attention_mask_BL[row]).sum())
            self.prompts.add(self.tokenizer.decode(ids[n_pad:-GEN]))
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        for place, token in enumerate(self._tokens):
            logits_BLV[:, place - GEN, token] = self._height
        return logits_BLV
