"""The device stage against torchvision's own steps on the same draws: equal bytes, not close ones."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional

from fastpipe import kernels
from fastpipe.device import DeviceStage, draw
from fastpipe.device.draws.draw import draw_erasing
from fastpipe.transforms import lift
from fastpipe.transforms.specs import HorizontalFlip, RandomErasing
from fastpipe.types import HostBatch, Request

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")


def _request(num, epoch=0):
    return Request(seed=3, epoch=epoch, batch=0, ids=np.arange(num), repeats=np.zeros(num, dtype=np.int64))


def _host(num=9, height=21, width=34):
    levels = np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)
    return HostBatch(images=torch.from_numpy(levels), labels=torch.arange(num), request=_request(num))


def _plan(*steps):
    lifted = lift(transforms.Compose([transforms.CenterCrop((21, 34)), *steps]))
    assert lifted.plan is not None, lifted.reason
    return lifted.plan


TRAIN = (transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD))


def _expected(host, flips):
    images = [Image.fromarray(image) for image in host.images.numpy()]
    mirrored = [functional.hflip(image) if flip else image for image, flip in zip(images, flips, strict=True)]
    tail = transforms.Compose(TRAIN[1:])
    return torch.stack([tail(image) for image in mirrored])


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_flip_and_normalise_have_torchvisions_bytes(engine, memory_format, dtype):
    host = _host()
    plan = _plan(*TRAIN)
    stage = DeviceStage(plan, device=CPU, engine=engine, dtype=dtype, memory_format=memory_format)
    batch = stage(host)
    flips = draw(plan.device, host.request, 21, 34).flip
    assert 0 < flips.sum() < len(flips), "the test needs both kinds"
    # Half outputs are one rounding of the float32 result, to the nearest even.
    expected = _expected(host, flips).to(dtype or torch.float32)
    assert batch.images.dtype == expected.dtype
    assert batch.images.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(batch.images, expected, rtol=0, atol=0)
    assert torch.equal(batch.labels, torch.arange(9))


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_uint8_pipelines_stay_uint8(engine):
    host = _host()
    plan = _plan(transforms.PILToTensor())
    batch = DeviceStage(plan, device=CPU, engine=engine)(host)
    assert batch.images.dtype == torch.uint8
    assert torch.equal(batch.images, host.images.permute(0, 3, 1, 2))


ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}


def _pillow(image, ops, place, depth):
    """One drawn operation, done by Pillow."""
    name = {code: name for name, code in kernels.OPS.items()}[int(ops.ops[place, depth])]
    value = float(ops.values[place, depth])
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(value)
    if name == "affine":
        resample = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)[ops.interpolations[place, depth]]
        matrix = tuple(ops.matrices[place, depth])
        fill = tuple(ops.fills[place].tolist())
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)
    return {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, int(value)),
        "solarize": lambda: ImageOps.solarize(image, value),
        "invert": lambda: ImageOps.invert(image),
    }[name]()


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize(
    "policy",
    [
        transforms.RandAugment(2, 9),
        transforms.TrivialAugmentWide(),
        transforms.TrivialAugmentWide(interpolation=transforms.InterpolationMode.BILINEAR, fill=[9, 99, 200]),
    ],
    ids=["randaugment", "trivial", "trivial-bilinear-fill"],
)
def test_policies_are_pillows_operations_one_after_another(engine, policy):
    """Flip, then each image its own drawn operations through Pillow, then ToTensor and Normalize."""
    host = _host(num=40)
    plan = _plan(TRAIN[0], policy, *TRAIN[1:])
    params = draw(plan.device, host.request, 21, 34)
    batch = DeviceStage(plan, device=CPU, engine=engine)(host)
    tail = transforms.Compose(TRAIN[1:])
    for place in range(40):
        image = Image.fromarray(host.images[place].numpy())
        if params.flip[place]:
            image = functional.hflip(image)
        for depth in range(params.ops.ops.shape[1]):
            image = _pillow(image, params.ops, place, depth)
        torch.testing.assert_close(batch.images[place], tail(image), rtol=0, atol=0)
    changed = (batch.images != DeviceStage(_plan(*TRAIN), device=CPU)(host).images).flatten(1).any(1)
    assert changed.float().mean() > 0.5, "a policy that changes nothing would pass the rest"


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_erasing_fills_the_drawn_rectangles_after_normalise(engine):
    host = _host(num=30)
    plan = _plan(*TRAIN[1:], transforms.RandomErasing(p=0.6, value=[0.5, -1.0, 2.0]))
    batch = DeviceStage(plan, device=CPU, engine=engine)(host)
    erasing = draw(plan.device, host.request, 21, 34).erasing
    expected = _expected(host, [False] * 30)
    for place in np.flatnonzero(erasing.apply):
        top, left, height, width = erasing.boxes[place]
        value = torch.tensor([0.5, -1.0, 2.0])[:, None, None]
        expected[place] = functional.erase(expected[place], top, left, height, width, value)
    assert 5 < erasing.apply.sum() < 30
    torch.testing.assert_close(batch.images, expected, rtol=0, atol=0)


def test_erasing_has_torchvisions_distribution():
    num, height, width = 4000, 64, 48
    step = RandomErasing(p=0.4)
    numbers = np.random.default_rng(1).random((num, 23))
    ours = draw_erasing(step, numbers, height, width)
    assert stats.binomtest(int(ours.apply.sum()), num, 0.4).pvalue > 1e-3
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    get = transforms.RandomErasing.get_params
    theirs = np.array([get(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(1500)])
    boxes = ours.boxes[ours.apply]
    for column, name in enumerate(("top", "left", "height", "width")):
        assert stats.ks_2samp(boxes[:, column], theirs[:, column]).pvalue > 1e-3, name


def _rectangle(step, numbers, height, width):
    """torchvision's rule for one image, in plain Python: the reference of the compiled one."""
    log_low, log_high = math.log(step.ratio[0]), math.log(step.ratio[1])
    for attempt in range((len(numbers) - 3) // 2):
        u_area, u_ratio = numbers[1 + 2 * attempt], numbers[2 + 2 * attempt]
        area = height * width * (step.scale[0] + (step.scale[1] - step.scale[0]) * u_area)
        aspect = math.exp(log_low + (log_high - log_low) * u_ratio)
        box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if box_height < height and box_width < width:
            top = int(numbers[-2] * (height - box_height + 1))
            return top, int(numbers[-1] * (width - box_width + 1)), box_height, box_width
    return None


@pytest.mark.parametrize("size", [(224, 224), (17, 40), (2, 3), (1, 1)])
@pytest.mark.parametrize("scale", [(0.02, 0.33), (0.5, 1.0)])
def test_compiled_rectangles_are_the_references(size, scale):
    step = RandomErasing(p=0.8, scale=scale)
    numbers = np.random.default_rng(list(size)).random((5000, 23))
    numbers[:50] = np.random.default_rng(0).choice([0.0, 0.5, 1.0 - 2.0**-53], (50, 23))
    ours = draw_erasing(step, numbers, *size)
    for place, row in enumerate(numbers.tolist()):
        box = _rectangle(step, row, *size) if row[0] < step.p else None
        assert bool(ours.apply[place]) is (box is not None)
        assert tuple(ours.boxes[place].tolist()) == (box or (0, 0, 0, 0))


def test_flip_rate_is_p_and_draws_change_with_the_epoch():
    num = 5000
    steps = (HorizontalFlip(p=0.3),)
    flips = draw(steps, _request(num), 8, 8).flip
    assert stats.binomtest(int(flips.sum()), num, 0.3).pvalue > 1e-3
    assert not np.array_equal(flips, draw(steps, _request(num, epoch=1), 8, 8).flip)


def test_engine_none_hands_out_the_raw_batch_and_the_draws():
    host = _host()
    batch = DeviceStage(_plan(*TRAIN), device=CPU, engine="none")(host)
    assert batch.images is host.images
    assert batch.params.flip.shape == (9,)


def test_the_result_is_not_overwritten_by_the_next_batch():
    stage = DeviceStage(_plan(*TRAIN), device=CPU)
    first = stage(_host())
    kept = first.images.clone()
    stage(HostBatch(images=torch.zeros(9, 21, 34, 3, dtype=torch.uint8), labels=None, request=_request(9)))
    assert torch.equal(first.images, kept)
