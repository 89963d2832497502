"""Parameters that DeepSpeed's ZeRO-3 has cut up among the ranks, made whole for a moment.

Covered: reading them on every rank, and setting them to values that all ranks have. Not covered: training
what is read outside a module's own forward (LoRA trains neither embeddings nor head).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn


def gathered(parameters: Iterable[nn.Parameter], *, changed: bool = False) -> AbstractContextManager[Any]:
    """A context in which these parameters hold their full values on every rank.

    All ranks must enter it together. Without ZeRO-3 it does nothing.

    Args:
        changed: values are set inside; rank 0's are kept.
    """
    partitioned = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not partitioned:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(partitioned, modifier_rank=0 if changed else None)
