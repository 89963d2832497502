"""How logits become a proposal: guidance, suppressed tokens, temperature, nucleus."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from trims_core.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """What happens to the logits of a masked position before a token is proposed for it.

    The defaults propose the most probable token. [MASK] is never proposed, whatever is set.

    Source: the published generation loops of LLaDA (suppression, guidance, Gumbel noise) and Dream
    (tempered confidence, nucleus); dLLM's names for the two kinds of suppression.
    """

    temperature: float = 0.0
    """0: the most probable token. Above: Gumbel noise of this size, in float64, seeded per sequence."""
    seed: int = 0
    tempered_confidence: bool = False
    """The confidence is that of the softmax at the temperature (Dream), not of the plain one (LLaDA)."""
    top_p: float = 1.0
    """Proposals come from the smallest set of tokens with at least this probability."""
    top_k: int | None = None
    """Proposals come from this many most probable tokens."""
    guidance: float = 0.0
    """Classifier-free guidance scale s: logits u + (s + 1)(c − u), u those of the canvas with its prompt
    masked. One more row per sequence in each forward; not defined with a cache."""
    suppress_ids: frozenset[int] = field(default_factory=frozenset)
    """Tokens whose logits are −inf: never proposed (LLaDA's logits_eos_inf)."""
    begin_suppress_ids: frozenset[int] = field(default_factory=frozenset)
    """Tokens that may be proposed with confidence 0, so that they are revealed last (LLaDA's
    confidence_eos_eot_inf)."""

    def check(self) -> None:
        """Raises ConfigError for a value outside its range."""
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature {self.temperature}: expected a finite number, 0 or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p {self.top_p}: expected above 0 and up to 1")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k {self.top_k}: expected at least 1")
        if not 0 <= self.guidance < math.inf:
            raise ConfigError(f"guidance {self.guidance}: expected a finite number, 0 or more")
