"""Stochastic depth: rates, frequencies by a binomial test, both scalings, surgery on a timm model."""

from __future__ import annotations

import pytest
import timm
import torch
from scipy import stats

from fastpipe.errors import NoEffectWarning
from fastpipe.train.algorithms.stochastic_depth import (
    DropBranch,
    apply_stochastic_depth,
    drop_branch,
    linear_rates,
)


def test_composers_rates_start_above_zero_and_timms_at_zero() -> None:
    assert linear_rates(16, 0.1, "composer")[0] == pytest.approx(0.00625)
    assert linear_rates(16, 0.1, "composer")[-1] == pytest.approx(0.1)
    timm_rates = [b.drop_path.drop_prob if b.drop_path else 0.0 for b in _blocks("resnet50", 0.05)]
    assert linear_rates(16, 0.05, "timm") == pytest.approx(timm_rates)


def _blocks(name: str, rate: float) -> list[torch.nn.Module]:
    model = timm.create_model(name, drop_path_rate=rate)
    return [module for module in model.modules() if hasattr(module, "drop_path")]


@pytest.mark.parametrize("kind", ["composer", "timm"])
def test_whole_images_are_dropped_with_the_given_probability(kind: str) -> None:
    torch.manual_seed(3)
    kept = drop_branch(torch.ones(4000, 2, 3), 0.3, kind)  # type: ignore[arg-type]
    flat = kept.flatten(1)
    assert (flat == flat[:, :1]).all(), "an image was dropped in part"
    dropped = int((flat[:, 0] == 0).sum())
    assert stats.binomtest(dropped, 4000, 0.3).pvalue > 1e-4
    assert flat.max().item() == pytest.approx(1.0 if kind == "composer" else 1 / 0.7)


def test_evaluation_weights_composers_branch_and_leaves_timms() -> None:
    branch = torch.ones(2, 1)
    assert DropBranch(0.2, "composer").eval()(branch).tolist() == [[pytest.approx(0.8)]] * 2
    assert torch.equal(DropBranch(0.2, "timm").eval()(branch), branch)


def test_surgery_keeps_the_weights_and_reaches_every_block() -> None:
    model = timm.create_model("resnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert apply_stochastic_depth(model, drop_rate=0.1) == 8
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    rates = [module.rate for module in model.modules() if isinstance(module, DropBranch)]
    assert rates == pytest.approx([0.1 * (block + 1) / 8 for block in range(8)])


def test_a_rate_of_one_leaves_only_the_shortcuts() -> None:
    model = timm.create_model("resnet18", num_classes=3)
    apply_stochastic_depth(model, drop_rate=1.0)
    layer = model.layer4[1].train()
    images = torch.rand(2, 512, 4, 4)
    assert torch.equal(layer(images), images), "the last block's branch was not dropped"


def test_a_model_without_such_blocks_warns() -> None:
    with pytest.warns(NoEffectWarning, match="no block with a drop_path"):
        assert apply_stochastic_depth(torch.nn.Linear(2, 2), drop_rate=0.1) == 0
