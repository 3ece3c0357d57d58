"""The frozen base in NF4 and its adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from torch import Tensor
from torch.nn import functional as F

from tests.training.tiny import VOCABULARY, tiny_folder
from training.lora import (
    Adapter,
    adapter_state,
    add_adapter,
    delta_norm,
    load_adapter_state,
    open_base,
    sha256_of,
)

IDS = torch.arange(40)[None] * 7 % VOCABULARY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """With a B that is not zero, so that A has a gradient too."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in adapter_state(model).items():  # type: ignore[arg-type]
        if "lora_B" in name:
            tensor.copy_(0.05 * torch.randn(tensor.shape, generator=generator))
    return model


def gradient(model: torch.nn.Module) -> Tensor:
    model.train()
    model.zero_grad()
    logits = model(input_ids=IDS).logits[0, :-1]
    F.cross_entropy(logits, IDS[0, 1:]).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def gradients_around_an_evaluation(model: torch.nn.Module) -> tuple[Tensor, Tensor]:
    before = gradient(model)
    model.eval()
    with torch.no_grad():
        model(input_ids=IDS)
    return before, gradient(model)


def test_an_evaluation_does_not_change_the_gradients(folder: Path) -> None:
    """Guards against bitsandbytes 0.50.2, which repacks 4-bit weights at an eval forward."""
    model = moved(add_adapter(open_base(folder, "nf4"), Adapter(dropout=0), seed=0))
    before, after = gradients_around_an_evaluation(model)
    assert before.abs().sum() > 0
    assert torch.equal(before, after)


@pytest.mark.skipif(not has_avx512bf16(), reason="this CPU has no avx512_bf16, where it happens")
@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit:UserWarning")
def test_the_fault_that_is_guarded_against_is_real(folder: Path) -> None:
    """Once this fails, bitsandbytes is mended and `keep_weights_unpacked` can go."""
    base = open_base(folder, "nf4")
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = True
    before, after = gradients_around_an_evaluation(
        moved(add_adapter(base, Adapter(dropout=0), seed=0))
    )
    assert (before - after).norm() > 0.1 * before.norm()


def test_nf4_is_the_dequantised_matrix(folder: Path) -> None:
    """The forward is the product with what NF4 stands for, near the weights but not at them."""
    import bitsandbytes

    base, plain = open_base(folder, "nf4"), open_base(folder, "none")
    layer = base.model.layers[0].mlp.up_proj
    assert isinstance(layer, bitsandbytes.nn.Linear4bit)
    assert not any(isinstance(m, bitsandbytes.nn.Linear4bit) for m in plain.modules())
    weight = bitsandbytes.functional.dequantize_4bit(layer.weight, layer.weight.quant_state)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x), x @ weight.T, rtol=1e-5, atol=1e-5)
    original = plain.model.layers[0].mlp.up_proj.weight
    assert 0.01 < (weight - original).norm() / original.norm() < 0.15


def test_only_the_adapter_is_trained_in_float32(folder: Path) -> None:
    model = add_adapter(open_base(folder, "nf4"), Adapter(rank=4), seed=0)
    trained = adapter_state(model)
    assert len(trained) == 2 * 2 * 7
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    assert not any("lm_head" in name or "embed" in name for name in trained)


def test_one_seed_is_one_adapter(folder: Path) -> None:
    base = "none"
    first, again, other = (
        sha256_of(adapter_state(add_adapter(open_base(folder, base), Adapter(), seed)))  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_change_is_measured_without_making_it(folder: Path) -> None:
    model = moved(add_adapter(open_base(folder, "none"), Adapter(rank=4, alpha=12), seed=0))
    state, total = adapter_state(model), 0.0  # type: ignore[arg-type]
    for name, a in state.items():
        if "lora_A" in name:
            total += (3 * state[name.replace("lora_A", "lora_B")] @ a).square().sum().item()
    assert delta_norm(model) == pytest.approx(total**0.5, rel=1e-5)  # type: ignore[arg-type]


def test_an_adapter_of_another_shape_is_refused(folder: Path) -> None:
    model = add_adapter(open_base(folder, "none"), Adapter(), seed=0)
    state = {name: tensor.clone() for name, tensor in adapter_state(model).items()}
    state.popitem()
    with pytest.raises(ValueError, match="the adapter has other parts"):
        load_adapter_state(model, state)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_that_is_none_says_how_to_get_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"no Hugging Face folder .*{name}.*restore GGUF"):
        open_base(tmp_path / name, "none")
