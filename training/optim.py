"""Muon for hidden matrices and AdamW for all else, as one optimizer.

One optimizer has one scheduler, one state dict and one way to resume. Muon replaces the momentum of
a matrix by its nearest orthogonal one (Jordan 2024, https://kellerjordan.github.io/posts/muon/).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

Scale = Literal["original", "match_rms_adamw", "none"]
Backend = Literal["ns", "polar"]

POLAR_RANK: Final = 64
"""Above it five Newton-Schulz steps cost less than the eigenvectors of the Gram matrix."""
MOMENTUM: Final = (0.85, 0.95)
"""Muon's momentum at the first step and after its warm-up."""
QUINTIC: Final = (3.4445, -4.7750, 2.0315)
NS_STEPS: Final = 5
SMALLEST_NORM: Final = 1e-7
HEAD_NAMES: Final = frozenset({"lm_head", "head", "wte", "wpe", "score", "classifier"})
"""Parts of a parameter's name that say embedding or head; so does any part with ``embed``."""


class MuonAdamW(torch.optim.Optimizer):
    """Muon where a group says ``use_muon``, AdamW elsewhere. Either side may be empty.

    Weight decay is decoupled on both sides and 0 unless given: a step first multiplies a parameter
    by ``1 - lr * weight_decay``. Muon's learning rate is then scaled for the shape (rows, columns),
    its weight decay is not:

    - ``original``: sqrt(max(1, rows / columns)). Of a LoRA pair it moves B harder than A.
    - ``match_rms_adamw``: 0.2 sqrt(max(rows, columns)), whose RMS is that of AdamW's steps (arXiv
      2502.16982). It moves A and B alike.
    - ``none``: 1.

    Args:
        groups: each a dict with ``params``, ``use_muon`` and, where the defaults do not serve,
            ``lr``, ``weight_decay``, for Muon ``scale``, ``backend``, ``nesterov``, ``momentum``
            (first and last value), ``momentum_steps``, for AdamW ``betas``, ``eps``.
        lr: of groups that name none.
        weight_decay: of groups that name none.

    Raises:
        ValueError: no group has a parameter, a value makes no sense, a parameter of Muon is no
            matrix, or is too large for ``polar``.

    A group counts its steps in ``steps``, which with the momentum's two values is all there is to
    its warm-up: a loaded state dict continues bit for bit.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float = 1e-3, weight_decay: float = 0.0
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "use_muon": False,
            "steps": 0,
            "scale": "original",
            "backend": "ns",
            "nesterov": True,
            "momentum": MOMENTUM,
            "momentum_steps": 0,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
        }
        super().__init__(groups, defaults)
        if not any(group["params"] for group in self.param_groups):
            raise ValueError("there is nothing to train: no group has a parameter")

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        *,
        muon_lr: float,
        adam_lr: float,
        total_steps: int,
        warmup_fraction: float = 0.1,
        weight_decay: float = 0.0,
        scale: Scale = "match_rms_adamw",
        backend: Backend = "ns",
    ) -> MuonAdamW:
        """Two groups of what requires a gradient in `model`: hidden matrices, and the rest.

        Args:
            model: may be a PEFT model, of which AdamW then may get nothing.
            muon_lr: learning rate of the hidden matrices.
            adam_lr: learning rate of the rest.
            total_steps: of the whole run; Muon's momentum warms up over `momentum_steps` of them.
            warmup_fraction: see `momentum_steps`.
            weight_decay: of both sides; 0 for vectors (norms and biases) by the usual custom.
            scale: see the class.
            backend: ``ns`` or ``polar``; see `newton_schulz` and `polar_factor`.
        """
        hidden, rest = split_parameters(model)
        muon = {
            "params": hidden,
            "use_muon": True,
            "lr": muon_lr,
            "weight_decay": weight_decay,
            "scale": scale,
            "backend": backend,
            "momentum_steps": momentum_steps(total_steps, warmup_fraction),
        }
        matrices = [p for p in rest if p.ndim >= 2]
        vectors = [p for p in rest if p.ndim < 2]
        adam = [
            {"params": matrices, "lr": adam_lr, "weight_decay": weight_decay},
            {"params": vectors, "lr": adam_lr, "weight_decay": 0.0},
        ]
        return cls([muon, *adam])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; see the class for its keys and for what is refused."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _check(group)
        except ValueError:
            self.param_groups.pop()
            raise

    @property
    def momentum(self) -> float | None:
        """Muon's momentum at the next step; ``None`` without a group of Muon."""
        groups = (group for group in self.param_groups if group["use_muon"])
        return next((_momentum(group) for group in groups), None)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step with the gradients that are there; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["use_muon"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, group)
            group["steps"] += 1
        return loss

    def _muon(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[parameter], _momentum(group)
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(average, momentum) if group["nesterov"] else average
        orthogonal = BACKENDS[group["backend"]](direction)
        lr = group["lr"] * shape_factor(group["scale"], *parameter.shape)
        parameter.add_(orthogonal, alpha=-lr)

    def _adamw(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Loshchilov & Hutter 2019 (arXiv 1711.05101), with Adam's bias corrections."""
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - beta1)
        square = state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        correction = math.sqrt(1 - beta2 ** state["step"])
        size = (square.sqrt() / correction).add_(group["eps"])
        parameter.addcdiv_(mean, size, value=-group["lr"] / (1 - beta1 ** state["step"]))


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The hidden matrices of `model`, and its other parameters; only what requires a gradient.

    Embeddings and the head are told by name and by module, since neither is enough: a LoRA factor
    of the head has the head's name but a module of its own, a head under an uncommon name is what
    the model itself calls its output embeddings, and a tied head is the embedding's tensor.
    """
    outer = _embedding_tensors(model)
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inner = parameter.ndim == 2 and id(parameter) not in outer and not _is_outer(name)
            (hidden if inner else rest).append(parameter)
    return hidden, rest


def _embedding_tensors(model: nn.Module) -> set[int]:
    """Identities of all parameters in modules that are embeddings or the model's head."""
    modules = [m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        found = getattr(model, getter, lambda: None)()
        if found is not None:
            modules.append(found)
    return {id(parameter) for module in modules for parameter in module.parameters()}


def _is_outer(name: str) -> bool:
    return any(part in HEAD_NAMES or "embed" in part for part in name.split("."))


def momentum_steps(total_steps: int, fraction: float) -> int:
    """Steps over which Muon's momentum warms up: 300, or a fraction of all where these are few."""
    return min(300, round(fraction * total_steps))


def shape_factor(scale: Scale, rows: int, columns: int) -> float:
    """What Muon's learning rate is multiplied by for a matrix of this shape; see `MuonAdamW`."""
    if scale == "original":
        return math.sqrt(max(1, rows / columns))
    if scale == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return 1.0


def newton_schulz(matrix: Tensor) -> Tensor:
    """Roughly the nearest orthogonal matrix: five quintic steps in bfloat16.

    Singular values come out between about 0.6 and 1.2, not at 1: for random gradients of width 768
    at 1.08 on average with rank 8, at 0.73 with rank 16, a factor between ranks that no learning
    rate shows. Coefficients and number of steps are those of `torch.optim.Muon`.

    Args:
        matrix: (rows, columns).

    Returns:
        (rows, columns), bfloat16; zeros for zeros.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.T if tall else matrix).to(torch.bfloat16)
    wide = wide / wide.norm().clamp(min=SMALLEST_NORM)
    for _ in range(NS_STEPS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if tall else wide


def polar_factor(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix: all singular values that are not noise become 1, the rest 0.

    By the eigenvectors of the smaller Gram matrix in float64. It holds squares of singular values,
    so float64 tells them apart down to the rounding of float32 entries; what lies below that has no
    direction and gets none (Higham 2008, Functions of Matrices, chapter 8: the partial isometry).

    Args:
        matrix: (rows, columns); the smaller is the price, see `POLAR_RANK`.

    Returns:
        (rows, columns) in the dtype of `matrix`; zeros for zeros.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.T if tall else matrix).double()
    largest = wide.abs().max()
    wide = wide / torch.where(largest > 0, largest, torch.ones_like(largest))
    squares, vectors = torch.linalg.eigh(wide @ wide.T)
    noise = max(matrix.shape) * torch.finfo(torch.float32).eps
    kept = squares > squares[-1] * noise**2
    inverse = torch.where(kept, squares, torch.inf).rsqrt()
    factor = (vectors * inverse) @ (vectors.T @ wide)
    return (factor.T if tall else factor).to(matrix.dtype)


BACKENDS: Final[dict[Backend, Callable[[Tensor], Tensor]]] = {
    "ns": newton_schulz,
    "polar": polar_factor,
}


def _momentum(group: dict[str, Any]) -> float:
    first, last = group["momentum"]
    share = min(1.0, group["steps"] / group["momentum_steps"]) if group["momentum_steps"] else 1.0
    return float(last if share == 1 else first + (last - first) * share)


def _check(group: dict[str, Any]) -> None:
    """Raise `ValueError` for a group that cannot be used."""
    for name in ("lr", "weight_decay", "momentum_steps"):
        if not group[name] >= 0:
            raise ValueError(f"{name} {group[name]} must be 0 or more")
    for name in ("momentum", "betas"):
        if not all(0 <= value < 1 for value in group[name]):
            raise ValueError(f"{name} {group[name]} must be two numbers from 0 to below 1")
    for name, known in (("scale", get_args(Scale)), ("backend", get_args(Backend))):
        if group[name] not in known:
            raise ValueError(f"there is no {name} {group[name]!r}: use one of {', '.join(known)}")
    for parameter in group["params"] if group["use_muon"] else ():
        shape = tuple(parameter.shape)
        if len(shape) != 2:
            raise ValueError(f"Muon takes matrices, not a parameter of shape {shape}: use AdamW")
        if group["backend"] == "polar" and min(shape) > POLAR_RANK:
            raise ValueError(
                f"the polar backend is for matrices with a side of up to {POLAR_RANK}, such as "
                f"LoRA factors, not {shape}: use the backend ns"
            )
