"""Stochastic depth: rates, frequencies by a binomial test, both scalings, surgery on models of timm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from scipy import stats
from timm.layers import DropPath

from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.train.algorithms.stochastic_depth import (
    DropBranch,
    apply_stochastic_depth,
    check_timms_depth,
    drop_branch,
    linear_rates,
)
from fastpipe.train.config.groups import StochasticDepthConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.model import build_model

PLAIN = replace(load_recipe("timm_a2"), train_resolution=64, val_resolution=64, val_resize=64)
CPU = torch.device("cpu")
# Family: a model, its residual blocks and the branches of each.
FAMILIES = {
    "resnet": ("resnet18", 8, 1),
    "vit": ("test_vit", 6, 2),
    "convnext": ("test_convnext", 9, 1),
    "efficientnet": ("mobilenetv3_small_050", 0, 1),  # its blocks that have a shortcut, counted below
}


def test_composers_rates_start_above_zero() -> None:
    assert linear_rates(16, 0.1)[0] == pytest.approx(0.00625)
    assert linear_rates(16, 0.1)[-1] == pytest.approx(0.1)


def test_whole_images_are_dropped_with_the_given_probability() -> None:
    torch.manual_seed(3)
    kept = drop_branch(torch.ones(4000, 2, 3), 0.3)
    flat = kept.flatten(1)
    assert (flat == flat[:, :1]).all(), "an image was dropped in part"
    dropped = int((flat[:, 0] == 0).sum())
    assert stats.binomtest(dropped, 4000, 0.3).pvalue > 1e-4
    assert flat.max().item() == 1.0


def test_evaluation_weights_the_branch() -> None:
    assert DropBranch(0.2).eval()(torch.ones(2, 1)).tolist() == [[pytest.approx(0.8)]] * 2


def test_surgery_keeps_the_weights_and_reaches_every_block() -> None:
    model = timm.create_model("resnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert apply_stochastic_depth(model, drop_rate=0.1) == 8
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("family", FAMILIES)
def test_composers_kind_reaches_every_branch_of_every_family(family: str) -> None:
    """Both branches of a transformer's block have the block's rate, and evaluation is weighted."""
    name, blocks, branches = FAMILIES[family]
    depth = StochasticDepthConfig(drop_rate=0.2, kind="composer")
    model = build_model(replace(PLAIN, model=name, stochastic_depth=depth), 3, CPU)
    rates = [module.rate for module in model.modules() if isinstance(module, DropBranch)]
    blocks = blocks or sum(bool(getattr(module, "has_skip", False)) for module in model.modules())
    assert rates == pytest.approx([rate for rate in linear_rates(blocks, 0.2) for _ in range(branches)])
    with torch.no_grad():  # timm starts with branches of almost 0: a norm's weight, a layer's scale
        for param in model.parameters():
            param.add_(0.1 * torch.randn_like(param))
    plain = build_model(replace(PLAIN, model=name, stochastic_depth=None), 3, CPU)
    plain.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert not torch.allclose(model.eval()(images), plain.eval()(images))
    assert not torch.allclose(model.train()(images), model(images)), "nothing was dropped at random"


@pytest.mark.parametrize("family", FAMILIES)
def test_timms_kind_is_timms_own_drop_path_rate(family: str) -> None:
    """The same rates at the same places, and the same numbers from the same seed."""
    name, *_ = FAMILIES[family]
    depth = StochasticDepthConfig(drop_rate=0.2, kind="timm")
    ours = build_model(replace(PLAIN, model=name, channels_last=False, stochastic_depth=depth), 3, CPU)
    size = {"img_size": 64} if family == "vit" else {}
    theirs = timm.create_model(name, num_classes=3, drop_path_rate=0.2, **size)
    theirs.load_state_dict(ours.state_dict())
    rates = [
        [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
        for model in (ours, theirs)
    ]
    assert rates[0] == rates[1] and max(rates[0]) > 0.1
    images, results = torch.rand(8, 3, 64, 64), []
    for model in (ours, theirs):
        torch.manual_seed(5)
        results.append(model.train()(images))
    assert torch.equal(*results)


def test_a_rate_of_one_leaves_only_the_shortcuts() -> None:
    model = timm.create_model("resnet18", num_classes=3)
    apply_stochastic_depth(model, drop_rate=1.0)
    layer = model.layer4[1].train()
    images = torch.rand(2, 512, 4, 4)
    assert torch.equal(layer(images), images), "the last block's branch was not dropped"


def test_a_model_without_such_blocks_warns() -> None:
    with pytest.warns(NoEffectWarning, match="no block with a drop_path"):
        assert apply_stochastic_depth(torch.nn.Linear(2, 2), drop_rate=0.1) == 0
    with pytest.warns(NoEffectWarning, match="passes over timm's drop_path_rate"):
        check_timms_depth(timm.create_model("test_resnet"))


# test_efficientnet's blocks have a drop_path and no shortcut, so it is never called.
@pytest.mark.parametrize("name", ["dla46_c", "test_efficientnet"])
@pytest.mark.parametrize("kind", ["composer", "timm"])
def test_a_model_that_cannot_have_it_is_refused_by_name(kind: str, name: str) -> None:
    depth = StochasticDepthConfig(drop_rate=0.1, kind=kind)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=rf"{name}.*--stochastic-depth null"):
        build_model(replace(PLAIN, model=name, stochastic_depth=depth), 3, CPU)


def test_a_rate_of_zero_warns_and_trains_the_plain_model() -> None:
    depth = StochasticDepthConfig(drop_rate=0.0)
    with pytest.warns(NoEffectWarning, match=r"stochastic_depth\.drop_rate is 0"):
        model = build_model(replace(PLAIN, model="test_resnet", stochastic_depth=depth), 3, CPU)
    assert not any(isinstance(module, DropBranch) for module in model.modules())
