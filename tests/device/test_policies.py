"""RandAugment and TrivialAugmentWide: parameters, pixels and frequencies against torchvision."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
import torchvision.transforms.autoaugment as autoaugment
import torchvision.transforms.v2 as v2
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torchvision.transforms import InterpolationMode

from fastpipe.device.draws.params import OpParams
from fastpipe.device.draws.policies import POLICY_OPS, draw_policy, num_uniforms
from fastpipe.errors import ArgumentError
from fastpipe.kernels import INTERPOLATIONS, OPS
from fastpipe.transforms import RandAugment, TrivialAugmentWide

NAMES = {code: name for name, code in OPS.items()}
ALPHA = 1e-4  # per test, at fixed seeds: a right implementation fails one seed in 10000


def numbers_for(spec: RandAugment | TrivialAugmentWide, op: int, level: int, negative: bool) -> np.ndarray:
    """Uniform numbers that draw this operation, level and sign at every position."""
    sign = 0.25 if negative else 0.75
    if isinstance(spec, RandAugment):
        return np.array([[(op + 0.5) / 14, sign] * spec.num_ops])
    return np.array([[(op + 0.5) / 14, (level + 0.5) / spec.num_magnitude_bins, sign]])


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(image, Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)), 0.2)


def apply_with_pillow(image: Image.Image, params: OpParams, depth: int = 0) -> Image.Image:
    name, value = NAMES[int(params.ops[0, depth])], float(params.values[0, depth])
    if name == "affine":
        filters = {0: Image.Resampling.NEAREST, 1: Image.Resampling.BILINEAR}
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            tuple(params.matrices[0, depth].tolist()),
            filters[int(params.interpolations[0, depth])],
            fillcolor=tuple(params.fills[0].tolist()),
        )
    enhance = {
        "brightness": ImageEnhance.Brightness,
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in enhance:
        return enhance[name](image).enhance(value)
    if name == "posterize":
        return ImageOps.posterize(image, int(value))
    if name == "solarize":
        return ImageOps.solarize(image, value)
    return {
        "identity": Image.Image.copy,
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
    }[name](image)


def torchvision_magnitudes(spec: Any, name: str, height: int, width: int) -> list[float]:
    """torchvision's magnitudes of one operation at every level; [] for those without."""
    bins = spec.num_magnitude_bins
    if spec.space == "torchvision_v2":
        make, _ = (
            v2.RandAugment if isinstance(spec, RandAugment) else v2.TrivialAugmentWide
        )._AUGMENTATION_SPACE[name]
        magnitudes = make(bins, height, width)
    elif isinstance(spec, RandAugment):
        magnitudes = v1.RandAugment()._augmentation_space(bins, (height, width))[name][0]
    else:
        magnitudes = v1.TrivialAugmentWide()._augmentation_space(bins)[name][0]
    if magnitudes is None or magnitudes.ndim == 0:
        return []
    return [float(magnitude) for magnitude in magnitudes]


def apply_with_torchvision(
    image: Image.Image, spec: RandAugment | TrivialAugmentWide, name: str, magnitude: float
) -> Image.Image:
    mode = InterpolationMode(spec.interpolation)
    if spec.space == "torchvision":
        return autoaugment._apply_op(image, name, magnitude, interpolation=mode, fill=list(spec.fill))
    step = v2.RandAugment(fill=list(spec.fill))
    return step._apply_image_or_video_transform(image, name, magnitude, interpolation=mode, fill=step._fill)


def test_names_are_torchvisions() -> None:
    assert tuple(v1.RandAugment()._augmentation_space(31, (8, 8))) == POLICY_OPS
    assert tuple(v1.TrivialAugmentWide()._augmentation_space(31)) == POLICY_OPS
    assert (
        tuple(v2.RandAugment._AUGMENTATION_SPACE)
        == tuple(v2.TrivialAugmentWide._AUGMENTATION_SPACE)
        == POLICY_OPS
    )


SPACES = ["torchvision", "torchvision_v2"]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize(("height", "width"), [(48, 48), (31, 52)])
def test_pixels_equal_torchvision(space: Any, interpolation: Any, height: int, width: int) -> None:
    """Every operation, every third level (and those of 0, 90 degrees and the last), both signs."""
    image = noise(height, width)
    spec = TrivialAugmentWide(space=space, interpolation=interpolation, fill=(9, 128, 250))
    for op, name in enumerate(POLICY_OPS):
        magnitudes = torchvision_magnitudes(spec, name, height, width)
        signed = name not in ("Posterize", "Solarize", "Identity", "AutoContrast", "Equalize")
        for level in {*range(0, 31, 3), 2, 20, 30} if magnitudes else {0}:
            for negative in (False, True):
                magnitude = magnitudes[level] if magnitudes else 0.0
                expected = apply_with_torchvision(
                    image, spec, name, -magnitude if signed and negative else magnitude
                )
                params = draw_policy(spec, numbers_for(spec, op, level, negative), height, width)
                ours = apply_with_pillow(image, params)
                assert ours.tobytes() == expected.tobytes(), (name, level, negative)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("bins", [2, 10, 31])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (160, 177), (33, 416)])
def test_rand_augment_equals_the_scalar_formulas(
    space: Any, bins: int, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Magnitudes, and the very matrices that reach Pillow, bit for bit."""
    image = Image.new("RGB", (width, height))
    handed: list[tuple[float, ...]] = []

    def record(
        self: Image.Image, size: Any, method: Any, data: Any = None, *_: Any, **__: Any
    ) -> Image.Image:
        handed.append(tuple(data))
        return self

    monkeypatch.setattr(Image.Image, "transform", record)
    for magnitude_index in {0, 1, bins // 2, bins - 1}:
        spec = RandAugment(num_ops=1, magnitude=magnitude_index, num_magnitude_bins=bins, space=space)
        for op, name in enumerate(POLICY_OPS):
            for negative in (False, True):
                params = draw_policy(spec, numbers_for(spec, op, 0, negative), height, width)
                magnitudes = torchvision_magnitudes(spec, name, height, width)
                magnitude = magnitudes[magnitude_index] * (-1.0 if negative else 1.0) if magnitudes else 0.0
                value, matrix = float(params.values[0, 0]), tuple(params.matrices[0, 0].tolist())
                if NAMES[int(params.ops[0, 0])] == "affine":
                    handed.clear()
                    apply_with_torchvision(image, spec, name, magnitude)
                    # Pillow copies for a rotation by 0 degrees instead of warping.
                    assert matrix == (handed[0] if handed else (1, 0, 0, 0, 1, 0)), (name, magnitude)
                    assert bool(handed) == (name != "Rotate" or magnitude != 0.0)
                elif name in ("Brightness", "Color", "Contrast", "Sharpness"):
                    assert value == 1.0 + magnitude
                elif name == "Posterize":
                    assert value == int(abs(magnitude))
                elif name == "Solarize":
                    assert value == abs(magnitude) * (255.0 if space == "torchvision_v2" else 1.0)
                else:
                    assert (value, matrix) == (0.0, (1, 0, 0, 0, 1, 0))


def test_v1_and_v2_solarize_differ() -> None:
    """The reason why v2 is a space of its own: at level 2 of 31, v2 also inverts level 238."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3))
    pixels = []
    for space in ("torchvision", "torchvision_v2"):
        spec = RandAugment(num_ops=1, magnitude=2, space=space)
        params = draw_policy(spec, numbers_for(spec, POLICY_OPS.index("Solarize"), 0, False), 1, 256)
        pixels.append(np.asarray(apply_with_pillow(ramp, params))[0, :, 0])
    assert np.flatnonzero(pixels[0] != pixels[1]).tolist() == [238]


def test_shapes_dtypes_and_constants() -> None:
    spec = RandAugment(num_ops=3, space="torchvision", interpolation="bilinear", fill=(1, 2, 255))
    params = draw_policy(spec, np.random.default_rng(0).random((5, num_uniforms(spec))), 20, 30)
    shapes = [
        array.shape
        for array in (params.ops, params.values, params.matrices, params.interpolations, params.fills)
    ]
    assert shapes == [(5, 3), (5, 3), (5, 3, 6), (5, 3), (5, 3)]
    dtypes = [
        array.dtype
        for array in (params.ops, params.values, params.matrices, params.interpolations, params.fills)
    ]
    assert dtypes == [np.int16, np.float64, np.float64, np.uint8, np.uint8]
    assert set(params.interpolations.ravel().tolist()) == {INTERPOLATIONS["bilinear"]}
    assert params.fills.tolist() == [[1, 2, 255]] * 5


def test_no_operations() -> None:
    spec = RandAugment(num_ops=0, space="torchvision")
    params = draw_policy(spec, np.zeros((4, 0)), 8, 8)
    assert params.ops.shape == (4, 0) and params.fills.shape == (4, 3)


@pytest.mark.parametrize("spec", [RandAugment(space="torchvision"), TrivialAugmentWide()])
def test_the_ends_of_the_unit_interval(spec: Any) -> None:
    last = np.nextafter(1.0, 0.0)
    params = draw_policy(spec, np.array([[0.0] * num_uniforms(spec), [last] * num_uniforms(spec)]), 16, 16)
    assert NAMES[int(params.ops[0, 0])] == "identity" and NAMES[int(params.ops[1, 0])] == "equalize"


@pytest.mark.parametrize("shape", [(4, 3), (4,), (2, 4, 1)])
def test_wrong_number_of_uniforms(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"uniforms must have the shape \[B, 4\]"):
        draw_policy(RandAugment(space="torchvision"), np.zeros(shape), 8, 8)


def test_draws_from_no_global_generator() -> None:
    before = torch.get_rng_state()
    draw_policy(TrivialAugmentWide(), np.zeros((2, 3)), 57, 61)
    assert torch.equal(before, torch.get_rng_state())


def outcomes(spec: Any, num: int, seed: int) -> OpParams:
    return draw_policy(spec, np.random.default_rng(seed).random((num, num_uniforms(spec))), 64, 64)


def signature(params: OpParams) -> list[tuple[float, ...]]:
    """What was drawn at the first position, as one hashable row per image."""
    return [
        (op, value, *matrix)
        for op, value, matrix in zip(
            params.ops[:, 0].tolist(),
            params.values[:, 0].tolist(),
            params.matrices[:, 0].tolist(),
            strict=True,
        )
    ]


def test_operations_are_uniform_and_independent() -> None:
    """Pairs of first and second operation: five of the fourteen are warps, each other one of fourteen."""
    params = outcomes(RandAugment(num_ops=2, space="torchvision"), 40_000, seed=3)
    codes = np.unique(params.ops)
    assert len(codes) == 10
    shares = np.array([5 if NAMES[code] == "affine" else 1 for code in codes.tolist()]) / 14
    places = np.searchsorted(codes, params.ops)
    pairs = np.bincount(places[:, 0] * 10 + places[:, 1], minlength=100)
    assert stats.chisquare(pairs, np.outer(shares, shares).ravel() * 40_000).pvalue > ALPHA


def test_signs_are_balanced_and_do_not_depend_on_the_operation() -> None:
    params = outcomes(RandAugment(num_ops=1, space="torchvision"), 40_000, seed=4)
    names = np.array([NAMES[code] for code in params.ops[:, 0].tolist()])
    for name in ("brightness", "color", "contrast", "sharpness"):
        factors = params.values[names == name, 0]
        assert sorted(set(factors.tolist())) == pytest.approx([0.73, 1.27], abs=1e-6)
        assert stats.binomtest(int((factors < 1).sum()), len(factors)).pvalue > ALPHA
    shears = params.matrices[names == "affine", 0, 1]
    rotations_and_shears = shears[shears != 0.0]
    assert stats.binomtest(int((rotations_and_shears < 0).sum()), len(rotations_and_shears)).pvalue > ALPHA


def test_levels_of_trivial_augment_are_uniform() -> None:
    params = outcomes(TrivialAugmentWide(), 60_000, seed=5)
    names = np.array([NAMES[code] for code in params.ops[:, 0].tolist()])
    _, solarize = np.unique(params.values[names == "solarize", 0], return_counts=True)
    assert len(solarize) == 31 and stats.chisquare(solarize).pvalue > ALPHA
    factors, counts = np.unique(params.values[names == "color", 0], return_counts=True)
    # Level 0 has no sign: 61 factors, the middle one twice as likely.
    assert len(factors) == 61
    expected = np.where(factors == 1.0, 2.0, 1.0) * counts.sum() / 62
    assert stats.chisquare(counts, expected).pvalue > ALPHA
    bits, counts = np.unique(params.values[names == "posterize", 0], return_counts=True)
    space = v1.TrivialAugmentWide()._augmentation_space(31)["Posterize"][0].numpy()
    published, shares = np.unique(space, return_counts=True)
    assert bits.tolist() == published.tolist()
    assert stats.chisquare(counts, shares * counts.sum() / 31).pvalue > ALPHA


@pytest.mark.parametrize("make", ["rand", "trivial"])
def test_frequencies_equal_torchvision(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples, ours and torchvision's, of (operation, signed magnitude) come from one distribution."""
    drawn: list[tuple[str, float]] = []

    def record(image: Any, name: str, magnitude: float, **_: Any) -> Any:
        drawn.append((name, magnitude))
        return image

    monkeypatch.setattr(autoaugment, "_apply_op", record)
    spec: Any = (
        RandAugment(num_ops=1, space="torchvision")
        if make == "rand"
        else TrivialAugmentWide(num_magnitude_bins=4)
    )
    theirs = v1.RandAugment(num_ops=1) if make == "rand" else v1.TrivialAugmentWide(num_magnitude_bins=4)
    image = Image.new("RGB", (64, 64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        for _ in range(6_000):
            theirs(image)
    monkeypatch.undo()
    # Translate torchvision's sample to parameters through the operation, level and sign that it drew.
    cells: dict[tuple[float, ...], list[int]] = {}
    for row in signature(outcomes(spec, 6_000, seed=7)):
        cells.setdefault(row, [0, 0])[0] += 1
    for (name, magnitude), num in Counter(drawn).items():
        magnitudes = torchvision_magnitudes(spec, name, 64, 64)
        level = magnitudes.index(abs(magnitude)) if magnitudes else 0
        numbers = numbers_for(spec, POLICY_OPS.index(name), level, magnitude < 0)
        cells.setdefault(signature(draw_policy(spec, numbers, 64, 64))[0], [0, 0])[1] += num
    counts = np.array(list(cells.values()))
    assert len(counts) == (23 if make == "rand" else 70)
    assert stats.chi2_contingency(counts.T).pvalue > ALPHA
