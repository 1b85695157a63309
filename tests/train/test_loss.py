"""BCE, its starting bias, the initialisers and label smoothing against their formulas."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from fastpipe.errors import NoEffectWarning
from fastpipe.train.algorithms.bce import bce_loss, init_bias_minus_log_classes
from fastpipe.train.algorithms.initializers import initialize
from fastpipe.train.algorithms.label_smoothing import dense_targets, smooth


@pytest.mark.parametrize("classes", [10, 1000])
def test_bce_at_the_start_is_the_published_value(classes: int) -> None:
    """Logits -log N: N - 1 negatives of log(1 + 1/N), and one positive of log N + log(1 + 1/N)."""
    labels = torch.arange(6) % classes
    logits = torch.full((6, classes), -math.log(classes))
    loss = bce_loss(logits, dense_targets(labels, classes, 0.0))
    assert loss.item() == pytest.approx(classes * math.log(1 + 1 / classes) + math.log(classes), rel=1e-5)
    if classes == 1000:
        assert loss.item() == pytest.approx(7.91, abs=0.005)


def test_bce_sums_over_classes_and_averages_over_images() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(5, 7, generator=generator), torch.rand(5, 7, generator=generator)
    p = torch.sigmoid(logits.double())
    by_hand = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum(dim=1).mean()
    assert bce_loss(logits, targets).item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_bce_of_half_precision_logits_is_float32() -> None:
    assert bce_loss(torch.zeros(2, 3, dtype=torch.float16), torch.zeros(2, 3)).dtype == torch.float32


def test_bias_is_minus_log_of_the_outputs() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1000))
    assert init_bias_minus_log_classes(model) == 2
    torch.testing.assert_close(model[2].bias, torch.full((1000,), -6.907755))


@pytest.mark.parametrize("name", ["test_vit", "deit_tiny_distilled_patch16_224", "test_convnext"])
def test_only_the_classifiers_bias_is_set(name: str) -> None:
    """Not those of the attention and of the MLPs of a transformer."""
    model = timm.create_model(name, num_classes=7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    heads = [key for key in before if key.startswith("head") and key.endswith("bias") and "norm" not in key]
    assert init_bias_minus_log_classes(model) == len(heads) == (2 if "distilled" in name else 1)
    for key, value in model.state_dict().items():
        expected = torch.full((7,), -math.log(7)) if key in heads else before[key]
        assert torch.equal(value, expected), key


def test_bias_without_a_linear_warns() -> None:
    with pytest.warns(NoEffectWarning, match="bias_init"):
        assert init_bias_minus_log_classes(nn.Conv2d(3, 4, 1)) == 0


def test_initialisers_draw_the_published_distributions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(4000), nn.Linear(256, 400))
    model[2].bias.data.fill_(5.0)
    assert initialize(model) == 3
    # Kaiming normal, fan in: standard deviation sqrt(2 / fan_in). 73728 draws: 3 sigma of it is 0.8 %.
    assert model[0].weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.01)
    assert model[2].weight.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.01)
    scale = model[1].weight
    assert 0.0 <= scale.min() < 0.01 and 0.99 < scale.max() <= 1.0
    assert scale.mean().item() == pytest.approx(0.5, abs=0.02)
    assert model[1].bias.abs().max() == 0.0
    assert torch.all(model[2].bias == 5.0)


def test_initialisers_without_a_layer_warn() -> None:
    with pytest.warns(NoEffectWarning, match="init"):
        initialize(nn.ReLU())


def test_label_smoothing_by_hand() -> None:
    targets = dense_targets(torch.tensor([1, 0]), 4, 0.08)
    torch.testing.assert_close(targets, torch.tensor([[0.02, 0.94, 0.02, 0.02], [0.94, 0.02, 0.02, 0.02]]))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(2))


def test_no_smoothing_keeps_the_one_hot() -> None:
    assert dense_targets(torch.tensor([2]), 3, 0.0).tolist() == [[0.0, 0.0, 1.0]]


def test_soft_labels_are_smoothed_as_they_are() -> None:
    soft = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(dense_targets(soft, 3, 0.3), smooth(soft, 0.3))
    torch.testing.assert_close(smooth(soft, 0.3), torch.tensor([[0.45, 0.45, 0.1]]))
