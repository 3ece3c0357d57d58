"""The combined optimizer, against torch's own two and by its properties."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.optim import (
    POLAR_RANK,
    MuonAdamW,
    momentum_steps,
    newton_schulz,
    polar_factor,
    shape_factor,
    split_parameters,
)

PEFT_WARNS = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
"""PEFT 0.21 asks transformers 5.23 for what that has renamed."""
SHAPES = ((8, 192), (192, 8), (16, 16), (64, 96), (1, 5), (5, 1))
few = settings(max_examples=25)
sizes = st.integers(1, 24)
seeds = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_rank(seed: int, rows: int, columns: int, rank: int) -> Tensor:
    return normal(seed, rows, rank) @ normal(seed + 1, rank, columns)


def matrices(**options: Any) -> tuple[list[nn.Parameter], MuonAdamW]:
    made = [nn.Parameter(normal(n, *shape)) for n, shape in enumerate(SHAPES)]
    group = {"params": made, "use_muon": True, "momentum": (0.9, 0.9), **options}
    return made, MuonAdamW([group], lr=0.02)


def walk(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for n, parameter in enumerate(parameters):
            parameter.grad = normal(1000 * step + n, *parameter.shape)
        optimizer.step()


class Tied(nn.Module):
    """Embedding, a hidden matrix, a norm, and a head of a plain name that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 6)
        self.hidden = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.tokens.weight


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_muon_equals_torch_bit_for_bit(scale: str, nesterov: bool, decay: float) -> None:
    mine, optimizer = matrices(scale=scale, nesterov=nesterov, weight_decay=decay)
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    reference = torch.optim.Muon(
        theirs, lr=0.02, momentum=0.9, nesterov=nesterov, weight_decay=decay, adjust_lr_fn=scale
    )
    walk(optimizer, mine, range(5))
    walk(reference, theirs, range(5))
    for shape, a, b in zip(SHAPES, mine, theirs, strict=True):
        assert torch.equal(a, b), shape


def test_adamw_equals_torch() -> None:
    mine = [nn.Parameter(normal(n, *shape)) for n, shape in enumerate(((3, 4), (7,), (2, 2, 2)))]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    options: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}
    walk(MuonAdamW([{"params": mine, **options}]), mine, range(6))
    walk(torch.optim.AdamW(theirs, foreach=False, **options), theirs, range(6))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@few
@given(rows=sizes, columns=sizes, seed=seeds, data=st.data())
def test_polar_is_orthogonal_where_the_matrix_has_a_direction(
    rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    """Singular values are 1 as often as the rank says, else 0; rank 0 is the zero matrix."""
    rank = data.draw(st.integers(0, min(rows, columns)))
    values = torch.linalg.svdvals(polar_factor(of_rank(seed, rows, columns, rank)).double())
    wanted = torch.cat([torch.ones(rank), torch.zeros(len(values) - rank)]).double()
    torch.testing.assert_close(values, wanted, rtol=0, atol=1e-3)


@few
@given(rows=sizes, columns=sizes, seed=seeds)
def test_polar_is_what_the_singular_vectors_give(rows: int, columns: int, seed: int) -> None:
    """Two ways to one matrix; ill conditioned ones, whose small directions are noise, aside."""
    matrix = normal(seed, rows, columns).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    if values[-1] > 1e-3 * values[0]:
        torch.testing.assert_close(polar_factor(matrix), left @ right, rtol=0, atol=1e-6)


@few
@given(rows=sizes, columns=sizes, seed=seeds, power=st.integers(-30, 30))
def test_polar_ignores_the_size_of_a_gradient(
    rows: int, columns: int, seed: int, power: int
) -> None:
    """A power of two shifts the exponent alone, so that not a bit may differ."""
    matrix = normal(seed, rows, columns)
    assert torch.equal(polar_factor(matrix), polar_factor(matrix * 2.0**power))


@pytest.mark.parametrize("ratio", [1e-2, 1e-4, 1e-5])
def test_polar_keeps_small_directions_that_float32_can_tell(ratio: float) -> None:
    """Guards the square: a Gram matrix in float32 would lose what is below 3e-4."""
    left, _ = torch.linalg.qr(normal(1, 32, 8).double())
    right, _ = torch.linalg.qr(normal(2, 8, 8).double())
    values = torch.logspace(0, math.log10(ratio), 8).double()
    made = polar_factor((left * values @ right).float())
    assert torch.linalg.svdvals(made.double()).min() > 0.999


@few
@given(rows=sizes, columns=sizes, seed=seeds)
def test_both_backends_turn_with_the_matrix(rows: int, columns: int, seed: int) -> None:
    matrix = normal(seed, rows, columns)
    exact = rows != columns
    for backend, near in ((newton_schulz, 0.05), (polar_factor, 1e-3)):
        straight, turned = backend(matrix).float(), backend(matrix.T).float().T
        if exact:
            assert torch.equal(straight, turned)
        elif torch.linalg.svdvals(matrix).min() > 0.05:
            torch.testing.assert_close(straight, turned, rtol=0, atol=near)


@pytest.mark.parametrize("rank", [8, 16])
def test_five_steps_come_out_as_the_docstring_says(rank: int) -> None:
    values = torch.linalg.svdvals(newton_schulz(normal(5, rank, 768)).float())
    assert values.mean().item() == pytest.approx({8: 1.08, 16: 0.73}[rank], abs=0.03)


def test_a_zero_gradient_moves_nothing() -> None:
    """The first step of LoRA: B is zero, so A has no gradient."""
    for backend in ("ns", "polar"):
        parameter = nn.Parameter(normal(1, 8, 12))
        before = parameter.detach().clone()
        group = {"params": [parameter], "use_muon": True, "backend": backend}
        parameter.grad = torch.zeros_like(parameter)
        MuonAdamW([group], lr=0.1).step()
        assert torch.equal(parameter, before)


@few
@given(rows=sizes, columns=sizes, seed=seeds)
def test_matched_scale_moves_all_shapes_alike(rows: int, columns: int, seed: int) -> None:
    """RMS of the update is 0.2 lr for every shape; `original` gives B what A does not get."""
    gradient = normal(seed, rows, columns)
    if torch.linalg.svdvals(gradient).min() < 1e-3:
        return
    parameter = nn.Parameter(torch.zeros(rows, columns))
    parameter.grad = gradient
    group = {"params": [parameter], "use_muon": True, "backend": "polar"}
    MuonAdamW([{**group, "scale": "match_rms_adamw"}], lr=0.5).step()
    assert parameter.square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-3)


def test_scales_of_a_lora_pair() -> None:
    (a, b), width, rank = ((8, 768), (768, 8)), 768, 8
    assert shape_factor("original", *b) / shape_factor("original", *a) == math.sqrt(width / rank)
    assert shape_factor("match_rms_adamw", *a) == shape_factor("match_rms_adamw", *b)
    assert shape_factor("none", *a) == shape_factor("none", *b) == 1


def test_weight_decay_is_decoupled_and_zero_unless_given() -> None:
    for use_muon, decay in product((True, False), (0.0, 0.5)):
        parameter = nn.Parameter(torch.ones(3, 3))
        parameter.grad = torch.zeros(3, 3)
        group = {"params": [parameter], "use_muon": use_muon}
        options = {"weight_decay": decay} if decay else {}
        MuonAdamW([group], lr=0.1, **options).step()
        torch.testing.assert_close(parameter.detach(), torch.full((3, 3), 1 - 0.1 * decay))


def test_momentum_warms_up_and_stays() -> None:
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = MuonAdamW([{"params": [parameter], "use_muon": True, "momentum_steps": 4}])
    seen = []
    for _ in range(6):
        seen.append(optimizer.momentum)
        walk(optimizer, [parameter], range(1))
    assert seen == pytest.approx([0.85, 0.875, 0.9, 0.925, 0.95, 0.95])
    assert (momentum_steps(10_000, 0.1), momentum_steps(100, 0.1)) == (300, 10)


def test_the_warm_up_changes_the_update() -> None:
    """Guards against a momentum that is shown but not used."""
    ends = []
    for steps in (0, 4):
        made, optimizer = matrices(momentum=(0.85, 0.95), momentum_steps=steps, backend="ns")
        walk(optimizer, made, range(3))
        ends.append(made[0].detach().clone())
    assert not torch.equal(*ends)


@pytest.mark.parametrize("backend", ["ns", "polar"])
def test_a_saved_state_goes_on_bit_for_bit(backend: str, tmp_path: Path) -> None:
    """Through a file, in the middle of the momentum's warm-up, both sides."""

    def fresh() -> tuple[list[nn.Parameter], MuonAdamW]:
        made = [nn.Parameter(normal(n, 6, 9)) for n in range(3)]
        muon = {"params": made[:2], "use_muon": True, "backend": backend, "momentum_steps": 6}
        return made, MuonAdamW([muon, {"params": made[2:]}], lr=0.02)

    straight, optimizer = fresh()
    walk(optimizer, straight, range(3))
    torch.save((optimizer.state_dict(), straight), tmp_path / "state.pt")
    walk(optimizer, straight, range(3, 6))
    resumed, other = fresh()
    state, kept = torch.load(tmp_path / "state.pt", weights_only=True)
    for parameter, value in zip(resumed, kept, strict=True):
        parameter.data.copy_(value)
    other.load_state_dict(state)
    walk(other, resumed, range(3, 6))
    for a, b in zip(straight, resumed, strict=True):
        assert torch.equal(a, b)


def test_a_scheduler_drives_both_sides() -> None:
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    groups = [
        {"params": parameters[:1], "use_muon": True, "lr": 0.02},
        {"params": parameters[1:], "lr": 0.001},
    ]
    optimizer = MuonAdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    walk(optimizer, parameters, range(1))
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.0005]


def test_a_tied_head_is_no_hidden_matrix() -> None:
    model = Tied()
    hidden, rest = split_parameters(model)
    assert [p is model.hidden.weight for p in hidden] == [True]
    assert {id(p) for p in rest} == {
        id(p) for p in model.parameters() if p is not model.hidden.weight
    }


def test_a_head_is_found_by_name_alone_and_by_module_alone() -> None:
    named = nn.ModuleDict({"lm_head": nn.Linear(4, 9), "body": nn.Linear(4, 4)})
    hidden, _ = split_parameters(named)
    assert [p is named["body"].weight for p in hidden] == [True]

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.readout = nn.Linear(4, 4, bias=False), nn.Linear(4, 9, bias=False)

        def get_output_embeddings(self) -> nn.Module:
            return self.readout

    odd = Odd()
    assert [p is odd.up.weight for p in split_parameters(odd)[0]] == [True]


@pytest.mark.parametrize("side", ["muon", "adamw"])
def test_one_side_may_be_empty(side: str) -> None:
    model = nn.Linear(3, 3, bias=False) if side == "muon" else nn.LayerNorm(3)
    optimizer = MuonAdamW.from_model(model, muon_lr=0.1, adam_lr=0.1, total_steps=10)
    sizes = {True: 0, False: 0}
    for group in optimizer.param_groups:
        sizes[group["use_muon"]] += len(group["params"])
    assert (sizes[True] > 0, sizes[False] > 0) == (side == "muon", side == "adamw")
    before = [p.detach().clone() for p in model.parameters()]
    walk(optimizer, list(model.parameters()), range(1))
    assert not any(map(torch.equal, before, model.parameters()))
    assert optimizer.state_dict()["state"]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"params": []}, "nothing to train"),
        ({"use_muon": True, "shape": (3,)}, r"not a parameter of shape \(3,\): use AdamW"),
        (
            {"use_muon": True, "backend": "polar", "shape": (POLAR_RANK + 1,) * 2},
            r"not \(65, 65\): use the backend ns",
        ),
        ({"scale": "keller"}, "no scale 'keller': use one of original, match_rms_adamw, none"),
        ({"backend": "svd"}, "no backend 'svd': use one of ns, polar"),
        ({"lr": -0.1}, "lr -0.1 must be 0 or more"),
        ({"weight_decay": float("nan")}, "weight_decay nan must be 0 or more"),
        ({"momentum": (0.9, 1.0)}, r"momentum \(0.9, 1.0\) must be two numbers"),
    ],
)
def test_what_cannot_be_used_is_refused(group: dict[str, Any], message: str) -> None:
    shape = group.pop("shape", (2, 2))
    with pytest.raises(ValueError, match=message):
        MuonAdamW([{"params": [nn.Parameter(torch.zeros(shape))], **group}])


@PEFT_WARNS
def test_a_real_lora_model_has_nothing_for_adamw() -> None:
    """A tiny Qwen3 under PEFT: the loss falls with each backend, though AdamW has nothing to do."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=24,
        tie_word_embeddings=True,
    )
    ids = torch.randint(40, (2, 12), generator=torch.Generator().manual_seed(1))
    for backend in ("ns", "polar"):
        torch.manual_seed(0)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0)
        model = get_peft_model(Qwen3ForCausalLM(config), lora)
        hidden, rest = split_parameters(model)
        assert (len(hidden), rest) == (2 * 2 * 7, [])
        optimizer = MuonAdamW.from_model(
            model, muon_lr=0.05, adam_lr=0.0, total_steps=15, backend=backend
        )
        losses = []
        for _ in range(15):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < losses[0] - 0.1, backend


@PEFT_WARNS
def test_lora_of_embedding_and_head_is_not_for_muon() -> None:
    """Guards the names: PEFT puts a factor of the head into a module of its own."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=24,
        tie_word_embeddings=False,
    )
    lora = LoraConfig(r=4, target_modules=["q_proj", "lm_head", "embed_tokens"])
    model = get_peft_model(Qwen3ForCausalLM(config), lora)
    names = {id(p): name for name, p in model.named_parameters()}
    hidden, rest = split_parameters(model)
    assert [names[id(p)].split(".")[-4] for p in hidden] == ["q_proj"] * 2
    assert len(rest) == 4
