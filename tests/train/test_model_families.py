"""Methods and model families: each pair has a visible effect, or is refused by name before training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.train.algorithms.blurpool import BlurConv2d
from fastpipe.train.algorithms.ema import EMA
from fastpipe.train.algorithms.sam import SAM
from fastpipe.train.config.groups import ProgressiveResizingConfig, StochasticDepthConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.input_size import check_sides, sides_of
from fastpipe.train.model import build_model

CPU = torch.device("cpu")
PLAIN = replace(
    load_recipe("timm_a2"),
    stochastic_depth=None,
    channels_last=False,
    train_resolution=64,
    val_resolution=64,
    val_resize=64,
    epochs=4,
)
FAMILIES = {
    "resnet": "test_resnet",
    "vit": "vit_tiny_patch16_224",
    "convnext": "test_convnext",
    "efficientnet": "mobilenetv3_small_050",
}
RESIZING = ProgressiveResizingConfig(size_increment=16)


def made(name: str, **keys: Any) -> nn.Module:
    """A model whose branches are not almost 0, as timm starts them (a norm's weight, a layer's scale)."""
    torch.manual_seed(0)
    model = build_model(replace(PLAIN, model=name, **keys), 3, CPU)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for param in model.parameters():
            param.add_(0.1 * torch.randn(param.shape, generator=noise))
    return model


def weights(model: nn.Module) -> list[Tensor]:
    return [param.detach() for param in model.parameters()]


def differs(one: nn.Module, other: nn.Module) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


# Key, value, and what shows that a model has it.
METHODS: dict[str, tuple[dict[str, Any], Callable[[nn.Module, nn.Module], bool]]] = {
    "blurpool": (
        {"blurpool": True},
        lambda model, plain: any(isinstance(module, BlurConv2d) for module in model.modules()),
    ),
    "composer's depth": (
        {"stochastic_depth": StochasticDepthConfig(drop_rate=0.5)},
        lambda model, plain: not torch.equal(logits(model), logits(plain)),
    ),
    "timm's depth": (
        {"stochastic_depth": StochasticDepthConfig(drop_rate=0.5, kind="timm")},
        lambda model, plain: not torch.equal(logits(model.train()), logits(plain.train())),
    ),
    "composer's init": ({"init": "composer"}, differs),
    "bias_init": ({"loss": replace(PLAIN.loss, bias_init=True)}, differs),
    "channels_last": (
        {"channels_last": True},
        lambda model, plain: any(
            p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
            for p in model.parameters()
            if p.ndim == 4
        ),
    ),
    "progressive resizing": (
        {"progressive_resizing": RESIZING},
        lambda model, plain: [model(torch.rand(2, 3, s, s)).shape for s in (32, 48, 64)] == [(2, 3)] * 3,
    ),
    "larger validation": (
        {"val_resolution": 80, "val_resize": 96},
        lambda model, plain: model.eval()(torch.rand(2, 3, 80, 80)).shape == (2, 3),
    ),
}
REFUSED = {("blurpool", "vit"): "--blurpool false"}


def logits(model: nn.Module) -> Tensor:
    torch.manual_seed(1)
    return model(torch.rand(8, 3, 64, 64))  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_acts_on_a_family_or_is_refused(method: str, family: str) -> None:
    keys, has_effect = METHODS[method]
    name = FAMILIES[family]
    if (method, family) in REFUSED:
        with pytest.raises(ArgumentError, match=REFUSED[method, family]) as refused:
            made(name, **keys)
        assert name in str(refused.value) and "blurpool" in str(refused.value)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoEffectWarning)
        model = made(name, **keys)
    assert has_effect(model, made(name))
    if "depth" in method:  # the comparison itself: two plain models of one seed are equal
        assert torch.equal(logits(made(name)), logits(made(name)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_average_and_sam_move_every_weight_of_a_family(family: str) -> None:
    """Position embeddings and tokens too."""
    model = made(FAMILIES[family])
    ema, sam = EMA(half_life_batches=2, update_interval=1), SAM(rho=0.5, interval=1)
    ema.after_step(model, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()(torch.rand(4, 3, 64, 64)).square().mean().backward()
    gradients = {name: param.grad for name, param in model.named_parameters() if param.grad is not None}
    sizes = {name: float(grad.abs().max()) for name, grad in gradients.items()}
    # A step that is smaller than the last bit of a weight moves nothing.
    with_gradient = {name for name, size in sizes.items() if size > 1e-3 * max(sizes.values())}
    assert sam.ascend(model.parameters())
    assert all(not torch.equal(model.state_dict()[name], before[name]) for name in with_gradient)
    assert len(with_gradient) > 5 and (family != "vit" or {"pos_embed", "cls_token"} <= with_gradient)
    ema.after_step(model, 2)
    for name in with_gradient:
        middle = before[name] + (1 - ema.smoothing) * (model.state_dict()[name] - before[name])
        torch.testing.assert_close(ema.shadow[name], middle, rtol=1e-4, atol=1e-6)


def test_a_transformer_is_built_for_the_training_size() -> None:
    model = made("vit_tiny_patch16_224")
    assert model.pos_embed.shape[1] == 1 + (64 // 16) ** 2
    with pytest.raises(AssertionError):  # of one size in the run: timm's own check stays on
        model(torch.rand(1, 3, 80, 80))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"train_resolution": 72}, "patches of 16 pixels, so train_resolution must give multiples of 16"),
        (
            {"val_resolution": 72, "val_resize": 80},
            "val_resolution must give multiples of 16, such as 64 or 80",
        ),
        (
            {"progressive_resizing": ProgressiveResizingConfig()},
            "Found: 36. Or give --progressive-resizing null",
        ),
        ({"colout": 0.1}, "colout must give multiples of 16.*Or give --colout 0"),
    ],
    ids=["training", "validation", "resizing", "colout"],
)
def test_a_size_that_patches_do_not_divide_is_refused(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=f"vit_tiny_patch16_224 cuts images.*{text}"):
        made("vit_tiny_patch16_224", **keys)
    made("test_resnet", **keys)  # a convolutional network takes any size


def test_the_sizes_named_for_odd_patches_are_sizes_that_a_run_can_have() -> None:
    """A DINOv2 has patches of 14 and 518 pixels, which is no multiple of 4: 504 and 532 are both."""
    model = nn.Identity()
    model.patch_embed = nn.Identity()
    model.patch_embed.patch_size = (14, 14)  # type: ignore[assignment]
    size = {"train_resolution": 520, "val_resolution": 520, "val_resize": 520}
    config = replace(PLAIN, model="vit_small_patch14_dinov2", **size)
    with pytest.raises(ArgumentError, match=r"multiples of 28, such as 504 or 532\. Found: 520"):
        check_sides(model, config)


def test_a_model_of_one_size_refuses_several_by_name() -> None:
    with pytest.raises(ArgumentError, match=r"gmixer_12_224 takes images of one size.*val_resolution"):
        made("gmixer_12_224", val_resolution=96, val_resize=96)


def test_sides_are_named_after_the_key_that_makes_them() -> None:
    assert sides_of(PLAIN) == {64: "train_resolution"}
    hot: TrainConfig = replace(load_recipe("hot"), epochs=10)
    sides = sides_of(hot)
    assert sides[224] == "val_resolution"
    # Composer's order of Hot: 176 decoded, ColOut to 167, 100 to 164 and finally 167 pixels.
    on_device = replace(hot, progressive_resizing=replace(hot.progressive_resizing, where="device"))
    assert set(sides_of(on_device)) == {*range(100, 168, 4), 167, 224}
    ramp = replace(load_recipe("ffcv"), val_resolution=192)
    assert set(sides_of(ramp)) == {160, 192}
