"""Students: masked diffusion models, one family per published layout.

`read_family` looks at small files only. What needs torch is imported on first use, so that importing
this package stays cheap.
"""

from typing import TYPE_CHECKING, Any

from trims_core.students.family import Family, families, read_family

if TYPE_CHECKING:
    from trims_core.students.adapters import load_adapter_official, save_adapter_official
    from trims_core.students.checkpoint import copy_companions, save_official
    from trims_core.students.loading import Student, load_student
    from trims_core.students.merging import Merge, merge_adapter
    from trims_core.students.shapes import family_of_shape, random_student
    from trims_core.students.tokenizer import load_student_tokenizer

__all__ = [
    "Family",
    "Merge",
    "Student",
    "copy_companions",
    "families",
    "family_of_shape",
    "load_adapter_official",
    "load_student",
    "load_student_tokenizer",
    "merge_adapter",
    "random_student",
    "read_family",
    "save_adapter_official",
    "save_official",
]

_LAZY = {
    "Student": "loading",
    "load_student": "loading",
    "Merge": "merging",
    "merge_adapter": "merging",
    "load_student_tokenizer": "tokenizer",
    "family_of_shape": "shapes",
    "random_student": "shapes",
    "copy_companions": "checkpoint",
    "save_official": "checkpoint",
    "load_adapter_official": "adapters",
    "save_adapter_official": "adapters",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
