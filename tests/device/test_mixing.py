"""The whole Hot pipeline on one batch, against Pillow's operations in turn and torch's arithmetic after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import functional

from fastpipe import kernels
from fastpipe.device import DeviceStage, MixedBatch, Params, draw
from fastpipe.device.labels import check_labels
from fastpipe.errors import ArgumentError, DataError
from fastpipe.transforms import (
    ColOut,
    CutMix,
    HorizontalFlip,
    MixUp,
    Normalize,
    RandAugment,
    RandomChoice,
    RandomErasing,
    ToFloat,
    timm_rand_augment,
)
from fastpipe.types import HostBatch, Plan, Request, Spec

CPU = torch.device("cpu")
NUM, HEIGHT, WIDTH, CLASSES = 13, 33, 40, 7
NORMALIZE = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TAIL = (ToFloat(), NORMALIZE)
NAMES = {code: name for name, code in kernels.OPS.items()}
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
engines = pytest.mark.parametrize("engine", ["fused", "torch"])


def host(num: int = NUM, batch: int = 0, labels: Any = None) -> HostBatch:
    levels = np.random.default_rng(0).integers(0, 256, (num, HEIGHT, WIDTH, 3), dtype=np.uint8)
    ids = np.arange(num)
    request = Request(seed=5, epoch=1, batch=batch, ids=ids, repeats=np.zeros_like(ids))
    labels = torch.arange(num) % CLASSES if labels is None else labels
    return HostBatch(images=torch.from_numpy(levels), labels=labels, request=request)


def stage(
    *steps: Spec, engine: Any = "fused", num_classes: int | None = CLASSES, **options: Any
) -> DeviceStage:
    return DeviceStage(Plan(device=steps), device=CPU, engine=engine, num_classes=num_classes, **options)


def pillow(image: Image.Image, params: Params, place: int, depth: int) -> Image.Image:
    ops = params.ops
    assert ops is not None
    name, value = NAMES[int(ops.ops[place, depth])], float(ops.values[place, depth])
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(value)
    if name == "affine":
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            tuple(ops.matrices[place, depth].tolist()),
            Image.Resampling.BILINEAR,
            fillcolor=tuple(ops.fills[place].tolist()),
        )
    if name == "posterize":
        return ImageOps.posterize(image, int(value))
    if name == "solarize":
        return ImageOps.solarize(image, value)
    if name == "solarize_add":
        levels = np.asarray(image)
        return Image.fromarray(
            np.where(levels < 128, np.minimum(levels + value, 255), levels).astype(np.uint8)
        )
    return {
        "identity": Image.Image.copy,
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
    }[name](image)


def sequential(given: HostBatch, params: Params, erased: tuple[float, ...] = (0.0, 0.0, 0.0)) -> torch.Tensor:
    """float32 [B,3,h,w]: what one does after the other without fastpipe, given the draws."""
    images = []
    for place, levels in enumerate(given.images.numpy()):
        image = Image.fromarray(levels)
        if params.flip is not None and params.flip[place]:
            image = functional.hflip(image)
        for depth in range(0 if params.ops is None else params.ops.ops.shape[1]):
            image = pillow(image, params, place, depth)
        pixels = np.asarray(image)
        if params.colout is not None:
            pixels = pixels[np.ix_(params.colout.rows, params.colout.columns)]
        tensor = functional.normalize(functional.to_tensor(pixels.copy()), NORMALIZE.mean, NORMALIZE.std)
        if params.erasing is not None and params.erasing.apply[place]:
            top, left, height, width = params.erasing.boxes[place]
            tensor[:, top : top + height, left : left + width] = torch.tensor(erased)[:, None, None]
        images.append(tensor)
    return mixed(torch.stack(images), params)


def mixed(images: torch.Tensor, params: Params) -> torch.Tensor:
    mix = params.mix
    if mix is None:
        return images
    share = torch.tensor(mix.weight, dtype=torch.float32)
    partners = images[torch.from_numpy(mix.partner)]
    if mix.region is None:
        return images * (1 - share) + partners * share
    top, left, height, width = mix.region
    result = images.clone()
    rows, columns = slice(top, top + height), slice(left, left + width)
    result[..., rows, columns] = partners[..., rows, columns]
    return result


POLICIES = [
    RandAugment(depth=1),
    RandAugment(depth=3, severity=9.0),
    RandAugment(space="composer-original", depth=2),
    timm_rand_augment("rand-m7-mstd0.5-inc1"),
]


@engines
@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("mix", [None, MixUp(0.25), CutMix(1.0)], ids=["plain", "mixup", "cutmix"])
def test_fused_equals_one_after_the_other(engine: Any, policy: RandAugment, mix: Spec | None) -> None:
    """Exactly, in float32: uint8 operations, ColOut, normalise, erasing, mixing."""
    erasing = RandomErasing(p=0.5, value=(1.0, -2.0, 0.5))
    extra = () if mix is None else (mix,)
    steps = (HorizontalFlip(), policy, ColOut(p_row=0.05, p_col=0.1), *TAIL, erasing, *extra)
    for number in range(3):
        given = host(batch=number)
        params = draw(steps, given.request, HEIGHT, WIDTH)
        batch = stage(*steps, engine=engine)(given)
        assert batch.images.shape == (NUM, 3, int(0.95 * HEIGHT), int(0.9 * WIDTH))
        torch.testing.assert_close(batch.images, sequential(given, params, erasing.value), rtol=0, atol=0)


@engines
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_half_outputs_are_one_rounding_of_the_float32_mixture(
    engine: Any, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    steps = (HorizontalFlip(), *TAIL, MixUp(1.0))
    given = host()
    params = draw(steps, given.request, HEIGHT, WIDTH)
    batch = stage(*steps, engine=engine, dtype=dtype, memory_format=layout)(given)
    assert batch.images.dtype == dtype and batch.images.is_contiguous(memory_format=layout)
    torch.testing.assert_close(batch.images, sequential(given, params).to(dtype), rtol=0, atol=0)


def test_colout_after_sharpness_sees_the_neighbours_that_colout_drops() -> None:
    """Trap 5 of the facts: a sharpness after dropping columns would give other pixels."""
    given = host()
    policy, colout = RandAugment(depth=2), ColOut(p_row=0.3, p_col=0.3)
    steps = (policy, colout, *TAIL)
    params = draw(steps, given.request, HEIGHT, WIDTH)
    assert params.ops is not None and params.colout is not None
    params.ops.ops[:, 0], params.ops.values[:, 0] = kernels.OPS["sharpness"], 4.0
    params.ops.ops[:, 1] = kernels.OPS["identity"]
    device_stage = stage(*steps)
    sharpened = device_stage.engine.augment(given.images, params)
    ours = device_stage.engine.finish(sharpened, params, device_stage.output)
    torch.testing.assert_close(ours, sequential(given, params), rtol=0, atol=0)
    kept = np.ix_(params.colout.rows, params.colout.columns)
    small = ImageEnhance.Sharpness(Image.fromarray(given.images[0].numpy()[kept])).enhance(4.0)
    wrong = functional.normalize(functional.to_tensor(small), NORMALIZE.mean, NORMALIZE.std)
    assert not torch.equal(ours[0], wrong), "the test could not tell the two orders apart"


@engines
def test_colout_of_a_uint8_pipeline(engine: Any) -> None:
    given = host()
    steps = (ColOut(p_row=0.1, p_col=0.2),)
    colout = draw(steps, given.request, HEIGHT, WIDTH).colout
    assert colout is not None
    batch = stage(*steps, engine=engine)(given)
    expected = given.images.numpy()[:, colout.rows][:, :, colout.columns]
    assert torch.equal(batch.images, torch.from_numpy(expected).permute(0, 3, 1, 2))


@engines
@pytest.mark.parametrize("mix", [MixUp(0.5), CutMix(1.0)], ids=str)
def test_labels_are_mixed_as_the_pixels_are(engine: Any, mix: Spec) -> None:
    """Images that show their class: the share of the partner's colour is its label's weight."""
    classes = torch.arange(NUM) % CLASSES
    given = host()
    given.images[:] = (classes * 30).to(torch.uint8).view(-1, 1, 1, 1)
    steps = (ToFloat(), mix)
    for number in range(5):
        given.request = host(batch=number).request
        batch = stage(*steps, engine=engine)(given)
        assert batch.labels.dtype == torch.float32 and batch.labels.shape == (NUM, CLASSES)
        assert torch.equal(batch.labels.sum(1), torch.ones(NUM))
        shown = (batch.labels * torch.arange(CLASSES) * 30 / 255).sum(1)
        torch.testing.assert_close(batch.images.mean((1, 2, 3)), shown, rtol=0, atol=1e-6)
        assert batch.hard_labels is not None and batch.partner is not None
        assert torch.equal(batch.hard_labels, classes)
        weight = batch.params.mix.weight
        one_hot = torch.nn.functional.one_hot(classes, CLASSES).float()
        expected = (1 - weight) * one_hot + weight * one_hot[batch.partner]
        torch.testing.assert_close(batch.labels, expected, rtol=0, atol=1e-6)


def test_a_trainer_can_smooth_the_kept_label_only() -> None:
    """Composer's order: the image's own label is smoothed, the partner's stays hard."""
    given = host()
    batch = stage(*TAIL, MixUp(0.5))(given)
    assert batch.hard_labels is not None and batch.partner is not None
    weight, smoothing = batch.params.mix.weight, 0.1
    hard = torch.nn.functional.one_hot(batch.hard_labels, CLASSES).float()
    target = (1 - weight) * (hard * (1 - smoothing) + smoothing / CLASSES) + weight * hard[batch.partner]
    torch.testing.assert_close(target.sum(1), torch.ones(NUM))
    kept = batch.labels - weight * hard[batch.partner]
    torch.testing.assert_close(kept, (1 - weight) * hard, rtol=0, atol=1e-6)


@engines
@pytest.mark.parametrize("mix", [MixUp(0.5), CutMix(1.0)], ids=str)
def test_a_batch_of_one_is_mixed_with_itself(engine: Any, mix: Spec) -> None:
    given = host(num=1)
    batch = stage(ColOut(), *TAIL, mix, engine=engine)(given)
    params = draw((ColOut(), *TAIL), given.request, HEIGHT, WIDTH)
    torch.testing.assert_close(batch.images, sequential(given, params), rtol=0, atol=1e-6)
    assert batch.labels.tolist() == [[1.0] + [0.0] * (CLASSES - 1)]


def test_engine_none_hands_out_draws_and_hard_labels() -> None:
    given = host()
    batch = stage(ColOut(), *TAIL, MixUp(0.5), engine="none", num_classes=None)(given)
    assert batch.images is given.images and batch.labels is given.labels
    assert sorted(batch.params.mix.partner.tolist()) == list(range(NUM))
    assert 0.0 <= batch.params.mix.weight <= 0.5 and len(batch.params.colout.rows) == 28


@engines
def test_warm_up_runs_every_option(engine: Any) -> None:
    stage(ColOut(), *TAIL, RandomChoice([MixUp(0.5), CutMix(1.0)]), engine=engine).warm_up()


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_classes_must_be_known(engine: Any) -> None:
    with pytest.raises(ArgumentError, match="num_classes must be given for MixUp and CutMix"):
        stage(*TAIL, MixUp(0.5), engine=engine, num_classes=None)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (torch.tensor([0, CLASSES]), r"labels must be in 0..6 \(num_classes=7\).* Found: 0..7"),
        (torch.tensor([-1, 2]), r"Found: -1..2"),
        (torch.tensor([0.0, 1.0]), r"int64 \[B\], one class per image, .* Found: torch.float32 \[2\]"),
        (torch.zeros(2, CLASSES, dtype=torch.int64), r"Found: torch.int64 \[2, 7\]"),
        (torch.zeros(2, CLASSES - 1), r"Found: torch.float32 \[2, 6\]"),
        (["a", "b"], "Found: text"),
        ([1, "b"], "Found: list"),
        ({"a": torch.zeros(2), "b": [1, 2]}, "Found: dict with 'a', 'b'"),
    ],
)
def test_labels_that_cannot_be_mixed(labels: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        stage(*TAIL, MixUp(0.5))(host(num=2, labels=labels))
    if isinstance(labels, torch.Tensor) and labels.dtype == torch.int64 and labels.ndim == 1:
        assert check_labels(labels.clamp(0, 6), CLASSES) is not None


def test_a_mixed_batch_is_a_list() -> None:
    batch = MixedBatch((1, 2), weight=0.25)
    images, labels = batch
    assert (images, labels) == (1, 2) and batch == [1, 2] and batch.weight == 0.25
    assert type(batch)(element for element in batch) == [1, 2], "as accelerate and Lightning rebuild it"


@pytest.mark.parametrize(
    ("shape", "classes"), [((4, CLASSES), CLASSES), ((4, 3), 0), ((4,), 0), ((4, 2, 2), 0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float_labels_are_mixed_as_they_are(shape: Any, classes: int, dtype: torch.dtype) -> None:
    labels = torch.arange(1, 1 + int(np.prod(shape)), dtype=dtype).view(shape) / 7
    made = stage(*TAIL, MixUp(0.5), num_classes=classes)
    made.warm_up()
    batch = made(host(num=4, labels=labels))
    share = float(np.float32(batch.params.mix.weight))
    assert batch.labels.dtype == dtype and torch.equal(batch.hard_labels, labels)
    mixed = labels * (1 - share) + labels[batch.partner] * share
    assert torch.allclose(batch.labels, mixed, rtol=1e-6) and not torch.equal(batch.labels, labels)
