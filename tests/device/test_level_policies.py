"""Composer's and timm's RandAugment: the published definitions written out again; timm's own functions."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from fastpipe.device.draws.levels import COMPOSER_OPS, TIMM_OPS, op_names
from fastpipe.device.draws.params import OpParams
from fastpipe.device.draws.policies import draw_policy, num_uniforms
from fastpipe.errors import ArgumentError
from fastpipe.kernels import OPS, apply_op
from fastpipe.transforms import RandAugment, timm_rand_augment

NAMES = {code: name for name, code in OPS.items()}
ALPHA = 1e-4  # per test, at fixed seeds
HEIGHT, WIDTH = 160, 176
COMPOSER = ["composer", "composer-original", "composer-safe"]


def numbers_for(spec: RandAugment, name: str, level: float, side: float, apply: float = 0.0) -> np.ndarray:
    """Uniform numbers that draw this operation and these numbers at every position."""
    names = op_names(spec)
    row = [(names.index(name) + 0.5) / len(names), level, side]
    return np.array([[*row, apply, 0.0] * spec.length if spec.space == "timm" else row * spec.length])


def drawn(spec: RandAugment, num: int, seed: int) -> OpParams:
    numbers = np.random.default_rng(seed).random((num, num_uniforms(spec)))
    return draw_policy(spec, numbers, HEIGHT, WIDTH)


def outcome(params: OpParams, place: int = 0, depth: int = 0) -> tuple[str, float, tuple[float, ...]]:
    """The kernel's operation, its value, its matrix."""
    matrix = tuple(params.matrices[place, depth].tolist())
    return NAMES[int(params.ops[place, depth])], float(params.values[place, depth]), matrix


# Composer: what facts say about version 0.7.1, one function for each operation, from a level u and a sign.
STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def published(name: str, u: float, negative: bool, severity: float, original: bool) -> tuple[str, Any]:
    """(operation, argument) at level u; for the symmetric enhancers `u` is the factor itself."""
    sign = -1 if negative else 1
    if name == "Posterize":
        return "posterize", 4 - int(u * 4 / 10)
    if name == "Solarize":
        return "solarize", 256 - int(u * 256 / 10)
    if name == "Rotate":
        return "affine", sign * int(u * 30 / 10)
    if name in ("ShearX", "ShearY"):
        shear = sign * u * 0.3 / 10
        return "affine", (1.0, shear, 0.0, 0.0, 1.0, 0.0) if name == "ShearX" else (
            1.0,
            0.0,
            0.0,
            shear,
            1.0,
            0.0,
        )
    if name == "TranslateX":
        return "affine", (1.0, 0.0, float(sign * int(u * (WIDTH / 3) / 10)), 0.0, 1.0, 0.0)
    if name == "TranslateY":
        return "affine", (1.0, 0.0, 0.0, 0.0, 1.0, float(sign * int(u * (HEIGHT / 3) / 10)))
    if name in ("AutoContrast", "Equalize"):
        return name.lower(), 0.0
    if original:
        return name.lower(), u * 1.8 / 10 + 0.1
    return name.lower(), u * 0.75 if name == "Brightness" and u > 1 else u


@pytest.mark.parametrize("space", COMPOSER)
@pytest.mark.parametrize("severity", [10.0, 9.0, 1.0, 0.5])
def test_composers_formulas(space: Any, severity: float) -> None:
    spec = RandAugment(space=space, severity=severity)
    original = space == "composer-original"
    for name in op_names(spec):
        for share in (0.0, 0.0371, 0.25, 0.49, 0.5, 0.777, 0.999):
            for negative in (False, True):
                side = 0.25 if negative else 0.75
                op, value, matrix = outcome(
                    draw_policy(spec, numbers_for(spec, name, share, side), HEIGHT, WIDTH)
                )
                level = 0.1 + (severity - 0.1) * share
                if name in COMPOSER_OPS[9:] and not original:
                    low = 1 - 0.09 * severity
                    level = 1 + (severity - 1) * share if negative else low + (1 - low) * share
                expected_op, argument = published(name, level, negative, severity, original)
                assert op == expected_op, name
                if name == "Rotate":
                    expected = ImageRotation.matrix(argument)
                    assert matrix == expected, (name, share, negative)
                elif op == "affine":
                    assert matrix == argument, (name, share, negative)
                else:
                    assert (value, matrix) == (argument, STILL), (name, share, negative)


class ImageRotation:
    """The matrix that `Image.rotate` hands to Pillow's transform."""

    @staticmethod
    def matrix(degrees: float) -> tuple[float, ...]:
        handed: list[tuple[float, ...]] = []
        image = Image.new("RGB", (WIDTH, HEIGHT))

        class Recorder(type(image)):  # type: ignore[misc]
            def transform(self, size: Any, method: Any, data: Any = None, *_: Any, **__: Any) -> Any:
                handed.append(tuple(data))
                return self

        image.__class__ = Recorder
        image.rotate(degrees, resample=Image.Resampling.BILINEAR)
        return handed[0] if handed else STILL  # Pillow copies for 0 degrees


@pytest.mark.parametrize("space", COMPOSER)
def test_composers_operations_are_equally_likely(space: Any) -> None:
    spec = RandAugment(space=space, depth=2)
    num = 20_000
    params = drawn(spec, num, seed=1)
    codes, expected = kernel_shares(op_names(spec))
    places = np.searchsorted(codes, params.ops)
    pairs = np.bincount(places[:, 0] * len(codes) + places[:, 1], minlength=len(codes) ** 2)
    assert stats.chisquare(pairs, np.outer(expected, expected).ravel() * num).pvalue > ALPHA
    warps = params.ops == OPS["affine"]
    kinds = np.stack([params.matrices[..., place] != STILL[place] for place in (1, 3, 2, 5)])
    # A rotation touches all four coefficients, shears and translations one each; few are the identity.
    rotations = kinds.all(0)[warps].sum()
    one_each = [(kinds[place] & ~kinds.all(0))[warps].sum() for place in range(4)]
    still = warps.sum() - rotations - sum(one_each)
    assert still < 0.06 * warps.sum()
    assert stats.chisquare([one_each[0], one_each[1]]).pvalue > ALPHA
    assert (
        stats.chisquare([one_each[2], one_each[3]]).pvalue > 1e-6
    )  # W and H differ in the zero translations


def kernel_shares(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The kernel codes that the operations come to, sorted, and the share of each."""
    warps = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
    spelled = {"SolarizeAdd": "solarize_add"}
    codes = [OPS["affine" if name in warps else spelled.get(name, name.lower())] for name in names]
    unique, counts = np.unique(codes, return_counts=True)
    return unique, counts / len(names)


def test_composers_levels_are_uniform_and_signs_balanced() -> None:
    spec = RandAugment(severity=9.0)
    params = drawn(spec, 60_000, seed=2)
    ops, values, matrices = params.ops[:, 0], params.values[:, 0], params.matrices[:, 0]
    shears = matrices[(ops == OPS["affine"]) & (matrices[:, 1] != 0) & (matrices[:, 3] == 0), 1]
    low, high = 0.1 * 0.3 / 10, 9.0 * 0.3 / 10
    assert stats.kstest(np.abs(shears), stats.uniform(low, high - low).cdf).pvalue > ALPHA
    assert stats.binomtest(int((shears < 0).sum()), len(shears)).pvalue > ALPHA
    bits, counts = np.unique(values[ops == OPS["posterize"]], return_counts=True)
    assert bits.tolist() == [1.0, 2.0, 3.0, 4.0]
    # int(u * 0.4) for u in U(0.1, 9): 3 from 7.5 on, 2 from 5, 1 from 2.5, else 0.
    shares = np.array([9 - 7.5, 2.5, 2.5, 2.5 - 0.1]) / 8.9
    assert stats.chisquare(counts, shares * counts.sum()).pvalue > ALPHA
    for name in ("color", "contrast", "sharpness", "brightness"):
        factors = values[ops == OPS[name]]
        scale = 0.75 if name == "brightness" else 1.0

        def cdf(x: np.ndarray, scale: float = scale) -> np.ndarray:
            below = stats.uniform(0.19, 0.81).cdf(x)
            above = stats.uniform(scale, 8 * scale).cdf(x)
            return (below + above) / 2

        assert stats.kstest(factors, cdf).pvalue > ALPHA, name
    # The quirk: some that were drawn above 1 now darken.
    assert 0.75 <= values[ops == OPS["brightness"]].max() <= 6.75


def test_composers_fill_is_black_and_its_warps_bilinear() -> None:
    params = drawn(RandAugment(), 10, seed=0)
    assert params.fills.tolist() == [[0, 0, 0]] * 10 and set(params.interpolations.ravel().tolist()) == {1}


TIMM_CONFIGS = [
    "rand-m9",
    "rand-m9-inc1",
    "rand-m10-n1",
    "rand-m3-p1.0",
    "rand-m20-mmax20-inc1",
    "rand-m20-mmax20",
]


def noise(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("config", TIMM_CONFIGS)
def test_timms_pixels_on_the_same_draws(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation and both signs, through timm's own AugmentOp and through our kernels."""
    auto_augment = pytest.importorskip("timm.data.auto_augment", reason="timm is not installed")
    image = noise(31, 44)
    hparams = {"img_mean": (128, 128, 128), "interpolation": Image.Resampling.BILINEAR}
    theirs = auto_augment.rand_augment_transform(config, hparams)
    spec = timm_rand_augment(config)
    assert len(theirs.ops) == len(TIMM_OPS) and theirs.num_layers == spec.num_ops
    for op, name in zip(theirs.ops, TIMM_OPS, strict=True):
        assert op.name.removesuffix("Rel").removesuffix("Increasing") == name
        assert op.prob == spec.p
        for negative in (False, True):
            # timm draws whether to apply first (0: yes), then the sign (above 0.5: negative).
            answers = [0.0] * (op.prob < 1.0) + [0.9 if negative else 0.1] * 2
            monkeypatch.setattr(random, "random", lambda answers=answers: answers.pop(0))
            # Pillow 13 refuses fewer than 1 bit, where Pillow before it gave black.
            none_left = name == "Posterize" and spec.increasing and config != "rand-m9-inc1"
            expected = Image.new("RGB", image.size) if none_left else op(image)
            params = draw_policy(spec, numbers_for(spec, name, 0.3, 0.25 if negative else 0.75), 31, 44)
            assert apply_with_kernels(image, params) == expected.tobytes(), (name, negative)


def apply_with_kernels(image: Image.Image, params: OpParams) -> bytes:
    op, value, matrix = outcome(params)
    result = apply_op(
        np.asarray(image),
        op,
        value,
        matrix=matrix if op == "affine" else None,
        fill=params.fills[0].tolist(),
        interpolation="bilinear" if params.interpolations[0, 0] else "nearest",
    )
    return result.tobytes()


@pytest.mark.parametrize("increasing", [False, True])
def test_timms_arguments_at_random_levels(increasing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform levels (mstd above 100), turned into arguments by timm's own functions."""
    auto_augment = pytest.importorskip("timm.data.auto_augment", reason="timm is not installed")
    spec = timm_rand_augment(f"rand-m10-mstd101-inc{int(increasing)}")
    theirs = auto_augment.rand_augment_ops(
        transforms=auto_augment._RAND_INCREASING_TRANSFORMS if increasing else None
    )
    coefficients = {"ShearX": (1, 1), "ShearY": (3, 1), "TranslateX": (2, WIDTH), "TranslateY": (5, HEIGHT)}
    for op, name in zip(theirs, TIMM_OPS, strict=True):
        if op.level_fn is None:
            continue
        for share in np.linspace(0.0, 0.999, 41).tolist():
            for negative in (False, True):
                monkeypatch.setattr(random, "random", lambda negative=negative: 0.9 if negative else 0.1)
                (argument,) = op.level_fn(10.0 * share, {})
                row = numbers_for(spec, name, share, 0.25 if negative else 0.75)
                _, value, matrix = outcome(draw_policy(spec, row, HEIGHT, WIDTH))
                if name == "Rotate":
                    assert matrix == ImageRotation.matrix(argument)
                elif name in coefficients:
                    place, side = coefficients[name]
                    assert matrix[place] == argument * side
                else:
                    assert value == argument, (name, share)


def test_timms_noise_is_normal_and_clipped() -> None:
    spec = RandAugment(space="timm", num_ops=1, magnitude=7, mstd=1.5, p=1.0)
    params = drawn(spec, 40_000, seed=5)
    matrices = params.matrices[params.ops[:, 0] == OPS["affine"], 0]
    shears = matrices[(matrices[:, 1] != 0) & (matrices[:, 3] == 0), 1]
    levels = np.abs(shears) * 10 / 0.3
    assert levels.max() == pytest.approx(10.0)  # the normal law's upper end is cut off at mmax
    inner = levels[levels < 9.999]
    law = stats.truncnorm(-7 / 1.5, 3 / 1.5, loc=7, scale=1.5)
    assert stats.kstest(inner, law.cdf).pvalue > ALPHA
    clipped = int((levels >= 9.999).sum())
    assert stats.binomtest(clipped, len(levels), stats.norm.sf(2.0)).pvalue > ALPHA
    assert stats.binomtest(int((shears < 0).sum()), len(shears)).pvalue > ALPHA


@pytest.mark.parametrize("p", [0.5, 0.2, 1.0, 0.0])
def test_timms_frequencies(p: float) -> None:
    spec = RandAugment(space="timm", num_ops=1, p=p)
    num = 30_000
    ops = drawn(spec, num, seed=6).ops[:, 0]
    identity = int((ops == OPS["identity"]).sum())
    assert stats.binomtest(identity, num, 1 - p).pvalue > ALPHA
    if p == 0.0:
        return
    codes, shares = kernel_shares(TIMM_OPS)
    counts = np.array([(ops == code).sum() for code in codes])
    assert counts.sum() == num - identity
    assert stats.chisquare(counts, shares * counts.sum()).pvalue > ALPHA


def test_a_skipped_operation_leaves_no_trace() -> None:
    spec = RandAugment(space="timm", num_ops=1)
    row = numbers_for(spec, "Rotate", 0.9, 0.2, apply=0.51)
    assert outcome(draw_policy(spec, row, 8, 8)) == ("identity", 0.0, STILL)


@pytest.mark.parametrize("space", [*COMPOSER, "timm"])
def test_the_ends_of_the_unit_interval(space: Any) -> None:
    """No draw is out of range for the kernels, whatever the numbers."""
    spec = RandAugment(space=space)
    names = op_names(spec)
    last = np.nextafter(1.0, 0.0)
    for number in (0.0, last):
        row = np.full((1, num_uniforms(spec)), number)
        params = draw_policy(spec, row, 16, 16)
        assert outcome(params)[0] in {NAMES[code] for code in kernel_shares(names)[0]} | {"identity"}
        for name in names:
            op, value, matrix = outcome(draw_policy(spec, numbers_for(spec, name, number, number), 16, 16))
            apply_op(np.zeros((4, 4, 3), np.uint8), op, value, matrix=matrix if op == "affine" else None)


def test_timm_strings() -> None:
    assert timm_rand_augment("rand-m7-mstd0.5-inc1") == RandAugment(
        space="timm", magnitude=7, mstd=0.5, increasing=True
    )
    full = timm_rand_augment("rand-m12-n3-p0.25-mmax15-inc0", interpolation="nearest", fill=(1, 2, 3))
    assert full == RandAugment(
        space="timm", magnitude=12, num_ops=3, p=0.25, mmax=15, interpolation="nearest", fill=(1, 2, 3)
    )
    assert timm_rand_augment("rand").magnitude == 10
    assert timm_rand_augment("rand-mstd101").mstd == math.inf
    assert timm_rand_augment("rand-mmax0").mmax == 10.0


@pytest.mark.parametrize(
    "config",
    ["augmix-m3", "", "rand-x3", "rand-m", "rand-m7-tweights", "rand-m1.5", "rand-m7--inc1", "rand-p."],
)
def test_bad_timm_strings(config: str) -> None:
    with pytest.raises(ArgumentError, match="config"):
        timm_rand_augment(config)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandAugment(space="imagenet"), "space must be one of 'composer', .*Found: 'imagenet'"),  # type: ignore[arg-type]
        (lambda: RandAugment(severity=math.nan), r"severity must be in \[0, 10\]. Found: nan"),
        (lambda: RandAugment(severity=10.5), "severity must be"),
        (lambda: RandAugment(depth=0), "depth must be >= 1"),
        (
            lambda: RandAugment(num_ops=2),
            "num_ops is not a setting of space='composer', which has depth, sev",
        ),
        (lambda: RandAugment(space="timm", severity=3.0), "severity is not a setting of space='timm'"),
        (lambda: RandAugment(space="torchvision", depth=2), "depth is not a setting"),
        (lambda: RandAugment(space="torchvision", magnitude=9.5), "magnitude must be in 0..30"),
        (lambda: RandAugment(space="timm", p=-0.1), r"p must be a probability"),
        (lambda: RandAugment(space="timm", mstd=math.nan), "mstd must be"),
        (lambda: RandAugment(space="timm", magnitude=math.inf), "magnitude must be a finite level"),
        (lambda: RandAugment(space="timm", mmax=-1.0), "mmax must be a finite level"),
        (lambda: RandAugment(interpolation="bicubic"), "interpolation must be"),  # type: ignore[arg-type]
        (lambda: RandAugment(fill=(0, 0, 256)), "fill must be three levels"),
    ],
)
def test_bad_settings(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()


def test_repr_names_the_settings_of_the_space_only() -> None:
    text = repr(RandAugment(depth=2))
    assert text == (
        "RandAugment(space='composer', depth=2, severity=10.0, interpolation='bilinear', fill=(0, 0, 0))"
    )
    assert eval(text) == RandAugment(depth=2)


def test_composer_through_pillow() -> None:
    """Drawn parameters through Pillow's own calls, as Composer makes them, against the kernels."""
    image = noise(HEIGHT, WIDTH)
    spec = RandAugment()
    calls: dict[str, Any] = {
        "Posterize": lambda u, s: ImageOps.posterize(image, 4 - int(u * 4 / 10)),
        "Solarize": lambda u, s: ImageOps.solarize(image, 256 - int(u * 256 / 10)),
        "Rotate": lambda u, s: image.rotate(s * int(u * 30 / 10), resample=Image.Resampling.BILINEAR),
        "ShearX": lambda u, s: affine(image, (1, s * u * 0.3 / 10, 0, 0, 1, 0)),
        "ShearY": lambda u, s: affine(image, (1, 0, 0, s * u * 0.3 / 10, 1, 0)),
        "TranslateX": lambda u, s: affine(image, (1, 0, s * int(u * (WIDTH / 3) / 10), 0, 1, 0)),
        "TranslateY": lambda u, s: affine(image, (1, 0, 0, 0, 1, s * int(u * (HEIGHT / 3) / 10))),
        "AutoContrast": lambda u, s: ImageOps.autocontrast(image),
        "Equalize": lambda u, s: ImageOps.equalize(image),
    }
    for name, call in calls.items():
        for share, sign in ((0.15, 1), (0.6, -1), (0.98, 1)):
            params = draw_policy(spec, numbers_for(spec, name, share, 0.75 - 0.5 * (sign < 0)), HEIGHT, WIDTH)
            assert apply_with_kernels(image, params) == call(0.1 + 9.9 * share, sign).tobytes(), (name, share)
    params = draw_policy(spec, numbers_for(spec, "Brightness", 0.02, 0.25), HEIGHT, WIDTH)
    expected = ImageEnhance.Brightness(image).enhance((1 + 9.0 * 0.02) * 0.75)
    assert apply_with_kernels(image, params) == expected.tobytes()


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
