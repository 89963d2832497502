"""The demo's world: word problems, two tokenizers, a small teacher and a small student, all made from a seed.

Covered: everything shipped in data/demo. Not covered: running the pipeline on it (configs/demo.yaml).
Importing this imports no torch; naming `train_models` does.
"""

from typing import TYPE_CHECKING, Any

from trims_core.demo.corpus_files import DEFAULT_SEED, write_corpus, write_problems

if TYPE_CHECKING:
    from trims_core.demo.models import train_models

__all__ = ["DEFAULT_SEED", "train_models", "write_corpus", "write_problems"]


def __getattr__(name: str) -> Any:
    if name != "train_models":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trims_core.demo.models import train_models

    return train_models
