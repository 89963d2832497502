"""What carries gradients back and takes optimizer steps: DeepSpeed's engine, or plain PyTorch in one process.

Both take losses that are parts of the *global* batch's loss: whatever an engine divides by by itself (the
ranks over which gradients are averaged) is multiplied in here. Plain is for small models and tests; its
mixed precision is autocast, DeepSpeed's its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from trims_core.errors import CheckpointError, LaunchError
from trims_core.training.plan import accumulation_steps
from trims_core.training.spec import TrainSpec

_DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}
ADAM_KEYS: Final = ("exp_avg", "exp_avg_sq")
_FP16: Final = {"enabled": True, "loss_scale": 0, "initial_scale_power": 16}


class Engine(Protocol):
    """Gradients and optimizer of one rank."""

    module: nn.Module
    """What is called to go forward."""
    device: torch.device

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a loss's gradients; the last one of a step completes them over all ranks."""

    def step(self, lr: float) -> float | None:
        """Clip, update the weights, forget the gradients; gives back the gradient's norm before clipping.

        None: a scaled gradient overflowed (float16 alone), the update was skipped and the scale is lowered.
        """

    def save(self, folder: Path, *, is_first: bool) -> None:
        """Write the optimizer's state. Args: is_first: whether this is rank 0."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""

    def moments(self) -> Moments:
        """Adam's, of all weights, on any number of ranks the same; all ranks ask together."""

    def set_moments(self, moments: Moments) -> None:
        """Go on with these. Raises: CheckpointError where they are of other weights."""


@dataclass(frozen=True)
class Moments:
    """What Adam knows of each trained weight, by its name.

    of: `exp_avg` and `exp_avg_sq` → name → float32, shaped like the weight. n_updates: made so far.
    """

    n_updates: int
    of: Mapping[str, Mapping[str, Tensor]]

    def check(self, names: Collection[str]) -> None:
        """Raises CheckpointError unless they are of the weights of these names."""
        for key in ADAM_KEYS:
            other = sorted(set(names) ^ self.of[key].keys())
            if other:
                raise CheckpointError(
                    f"the optimizer's {key} are of {len(self.of[key])} weights and {len(names)} are trained;"
                    f" they differ in {len(other)}, e.g. {other[0]}. Train all rounds with one train.lora"
                )


def new_engine(spec: TrainSpec, denoiser: nn.Module) -> Engine:
    """The engine of this rank. Raises: LaunchError where not all processes of the run are there."""
    if spec.engine == "deepspeed":
        return DeepSpeedEngine(spec, denoiser)
    found = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    _check_processes(found, spec)
    return PlainEngine(spec, denoiser)


class PlainEngine:
    """One process without DeepSpeed."""

    def __init__(self, spec: TrainSpec, denoiser: nn.Module) -> None:
        self.device = torch.device(spec.device)
        self._named = trainable(denoiser)
        self._optimizer = _adamw(spec, denoiser)
        self._max_norm = spec.train.max_grad_norm
        dtype = _DTYPES.get(spec.student.dtype)
        self.module = denoiser if dtype is None else _Autocast(denoiser, self.device, dtype)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds to the weights' gradients."""
        del last
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, lr: float) -> float | None:
        """As `Engine.step`."""
        _set_lr(self._optimizer, lr)
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._named.values(), self._max_norm).item()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return None if self._scaler.is_enabled() and not math.isfinite(norm) else norm

    def save(self, folder: Path, *, is_first: bool) -> None:
        """optimizer.pt."""
        if is_first:
            state = {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}
            torch.save(state, folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """optimizer.pt."""
        state = torch.load(folder / "optimizer.pt", map_location=self.device, weights_only=True)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def moments(self) -> Moments:
        """As `Engine.moments`."""
        named, states = self._named, self._optimizer.state
        of = {key: {name: states[weight][key] for name, weight in named.items()} for key in ADAM_KEYS}
        return Moments(_n_updates(self._optimizer), of)

    def set_moments(self, moments: Moments) -> None:
        """As `Engine.set_moments`."""
        moments.check(self._named)
        for name, weight in self._named.items():
            copies = {key: moments.of[key][name].to(weight.device, copy=True) for key in ADAM_KEYS}
            self._optimizer.state[weight] = {"step": torch.tensor(float(moments.n_updates)), **copies}


class DeepSpeedEngine:
    """ZeRO in any number of processes."""

    def __init__(self, spec: TrainSpec, denoiser: nn.Module) -> None:
        import deepspeed

        if "RANK" not in os.environ:
            raise LaunchError("training was started without a launcher: RANK is not set; see launch.py")
        deepspeed.init_distributed()
        _check_processes(torch.distributed.get_world_size(), spec)
        self._world_size, self._scales = spec.world_size, spec.student.dtype == "float16"
        self._engine, *_ = deepspeed.initialize(
            model=denoiser, optimizer=_adamw(spec, denoiser), config=deepspeed_config(spec)
        )
        self.module: nn.Module = self._engine
        self._named = trainable(denoiser)
        self.device = torch.device(self._engine.device)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Gradients are averaged over ranks and are to be summed: hence the factor."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._world_size, scale_wrt_gas=False)

    def step(self, lr: float) -> float | None:
        """As `Engine.step`."""
        _set_lr(self._engine.optimizer, lr)
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        return None if self._scales and not math.isfinite(norm) else norm

    def save(self, folder: Path, *, is_first: bool) -> None:
        """DeepSpeed's own files, every rank its shard; frozen weights are left out."""
        del is_first
        self._engine.save_checkpoint(str(folder), exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        """Weights and optimizer; frozen weights are not in there, hence not strict."""
        path, _ = self._engine.load_checkpoint(str(folder), load_module_strict=False)
        if path is None:
            raise CheckpointError(f"{folder}: DeepSpeed finds no state in it; remove it to go on from before")

    def moments(self) -> Moments:
        """As `Engine.moments`."""
        of = {
            key: {name: self._full_state(weight, key) for name, weight in self._named.items()}
            for key in ADAM_KEYS
        }
        return Moments(_n_updates(self._inner_optimizer), of)

    def set_moments(self, moments: Moments) -> None:
        """As `Engine.set_moments`."""
        from deepspeed.utils import safe_set_full_optimizer_state

        moments.check(self._named)
        self._make_states(moments.n_updates)
        for name, weight in self._named.items():
            for key in ADAM_KEYS:
                safe_set_full_optimizer_state(weight, moments.of[key][name].to(self.device), key)

    def _make_states(self, n_updates: int) -> None:
        """Adam's states of this rank's share, which it would make at its first update itself."""
        outer, inner = self._engine.optimizer, self._inner_optimizer
        shares = getattr(outer, "fp32_partitioned_groups_flat", None)  # of ZeRO-3
        for share in shares or [weight for group in inner.param_groups for weight in group["params"]]:
            zeros = {key: torch.zeros_like(share) for key in ADAM_KEYS}
            inner.state[share] = {"step": torch.tensor(float(n_updates)), **zeros}
        link = getattr(outer, "_lazy_init_hp_params_optimizer_state", None)  # of ZeRO-1 and 2
        if link is not None:
            link()

    @staticmethod
    def _full_state(weight: nn.Parameter, key: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        found: Tensor = safe_get_full_optimizer_state(weight, key)
        return found

    @property
    def _inner_optimizer(self) -> Any:
        """The AdamW in DeepSpeed's own."""
        return getattr(self._engine.optimizer, "optimizer", self._engine.optimizer)


class _Autocast(nn.Module):
    """A module whose forward runs in mixed precision."""

    def __init__(self, inner: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self._inner, self._device, self._dtype = inner, device, dtype

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the module gives."""
        with torch.autocast(self._device.type, self._dtype):
            return self._inner(*inputs, **named)


def deepspeed_config(spec: TrainSpec) -> dict[str, Any]:
    """DeepSpeed's settings with everything filled in that `train` decides."""
    train, dtype = spec.train, spec.student.dtype
    decided = {
        "train_batch_size": train.batch_size,
        "train_micro_batch_size_per_gpu": train.micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps(train, spec.world_size),
        "gradient_clipping": train.max_grad_norm,
        "bf16": {"enabled": dtype == "bfloat16"},
        "fp16": _FP16 if dtype == "float16" else {"enabled": False},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    return {**spec.deepspeed, **decided}


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters by name; under ZeRO-3 see `gathered` for their values."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _n_updates(optimizer: Any) -> int:
    return int(next(iter(optimizer.state.values()))["step"])


def _adamw(spec: TrainSpec, denoiser: nn.Module) -> torch.optim.AdamW:
    """AdamW; weight decay for matrices alone, not for norms and biases."""
    weights = [weight for weight in denoiser.parameters() if weight.requires_grad]
    n_dims = [getattr(weight, "ds_shape", weight.shape) for weight in weights]
    groups = [
        {
            "params": [w for w, shape in zip(weights, n_dims, strict=True) if len(shape) >= 2],
            "weight_decay": spec.train.weight_decay,
        },
        {
            "params": [w for w, shape in zip(weights, n_dims, strict=True) if len(shape) < 2],
            "weight_decay": 0.0,
        },
    ]
    trained = [group for group in groups if group["params"]]
    return torch.optim.AdamW(trained, lr=spec.train.lr, betas=(0.9, spec.train.adam_beta2))


def _set_lr(optimizer: Any, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def _check_processes(found: int, spec: TrainSpec) -> None:
    if found != spec.world_size:
        raise LaunchError(f"training has {found} process(es), expected {spec.world_size}")
