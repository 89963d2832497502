"""Safetensors files: named tensors in and out, or an error that names the file."""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from safetensors import SafetensorError, safe_open

from trims_core.errors import ConfigError
from trims_core.hub import tensor_files
from trims_core.text_files import DAMAGED

if TYPE_CHECKING:
    from torch import Tensor

_FLOATS: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_POINTER: Final = b"version https://git-lfs"


def tensor_names(path: Path) -> list[str]:
    """The names in a file, in its order; imports no torch. Raises: ConfigError, like `read_tensors`."""
    return _read(path, (), "np")[0]


def check_tensor_files(folder: Path) -> None:
    """Raises ConfigError for a weight file in a folder that is cut, a git-lfs pointer, or something else."""
    for path in tensor_files(folder):
        tensor_names(path)


def read_tensors(path: Path, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a file in its order.

    Args:
        names: those to read; default: all.

    Raises:
        ConfigError: the file cannot be read, is cut, a git-lfs pointer or something else, or lacks a tensor.
    """
    there, tensors = _read(path, names, "pt")
    _refuse_absent(path, names, there)
    return tensors


def _refuse_absent(path: Path, names: Collection[str] | None, there: Collection[str]) -> None:
    absent = sorted(set(names or ()) - set(there))
    if absent:
        raise ConfigError(
            f"{path}: {len(absent)} tensors are not in it that the index says are, e.g. {absent[0]}; the"
            f" file is of another save. {DAMAGED}"
        )


def _read(
    path: Path, names: Collection[str] | None, framework: Literal["np", "pt"]
) -> tuple[list[str], dict[str, Tensor]]:
    try:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise ConfigError(
                    f"{path}: is a git-lfs pointer, not the weights; expected a safetensors file. Running"
                    " again will not help: fetch it with `git lfs pull`"
                )
        with safe_open(str(path), framework=framework) as tensors:
            there = list(tensors.keys())
            wanted = there if names is None else [name for name in there if name in names]
            return there, {name: tensors.get_tensor(name) for name in wanted}
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; expected safetensors weights") from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); expected a whole safetensors file. {DAMAGED}"
        ) from error


def is_wide_float(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that are weights as they are: 16 bits or more of floating point."""
    return tensor.is_floating_point() and tensor.itemsize >= 2


def tensors_without_values(path: Path, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """Like `read_tensors`, from the file's header alone: shapes and types, on torch's device meta."""
    import torch

    there = tensor_names(path)
    _refuse_absent(path, names, there)
    with safe_open(str(path), framework="pt") as tensors:
        slices = {name: tensors.get_slice(name) for name in there if names is None or name in names}
        types = {name: getattr(torch, _FLOATS.get(one.get_dtype(), "int8")) for name, one in slices.items()}
        return {
            name: torch.empty(one.get_shape(), dtype=types[name], device="meta")
            for name, one in slices.items()
        }


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a file with the permissions that the umask gives; the library's own are for the owner alone."""
    from safetensors.torch import save_file

    save_file(dict(tensors), str(path), metadata={"format": "pt"})
    twin = path.with_name(f".{path.name}.mode")
    twin.touch()
    path.chmod(stat.S_IMODE(twin.stat().st_mode))
    twin.unlink()
