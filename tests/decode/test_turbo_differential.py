"""Generated files through our decoder and Pillow: the same pixels, or a status that hands a file to Pillow.

Regular files must not be handed over: the tests fail in both directions.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastpipe.decode.jpeg_entropy import Scan
from fastpipe.decode.jpeg_writer import ADOBE_RGB, JFIF, Layout, Pixels, simple_scans, write

turbo = pytest.importorskip("fastpipe._turbo", reason="the native module is not built: pip install -e .")

DONE = 0
FACTORS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4))
ORDINARY = [(factors, (1, 1), (1, 1)) for factors in FACTORS]
# Both chroma components have factors of their own, or luma is the smaller one.
ODD = [((2, 2), (2, 1), (1, 2)), ((2, 2), (1, 2), (1, 1)), ((1, 1), (2, 1), (1, 1)), ((3, 1), (1, 1), (1, 1))]


@pytest.fixture(params=("scalar", "best"), autouse=True)
def simd(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test with scalar code and with the best that the machine has."""
    used = turbo.used_simd()
    if request.param == "best" and turbo.best_simd() == 0:
        pytest.skip("no SIMD code for this machine")
    turbo.use_simd(turbo.best_simd() if request.param == "best" else 0)
    yield
    turbo.use_simd(used)


def picture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Soft colours, noise, or levels at both ends of the range, which every clamp must meet."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    grid = rng.integers(0, 256, (-(-height // 7) + 1, -(-width // 7) + 1, 3), dtype=np.uint8)
    if kind == 1:
        grid = np.where(grid < 128, 0, 255).astype(np.uint8)
    smooth = kind > 1
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(grid).resize((width, height), method))


def sides(rng: np.random.Generator) -> tuple[int, int]:
    height, width = rng.integers(1, 71, 2).tolist()
    return height, width


def pillow(pixels: Pixels, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def by_pillow(data: bytes) -> Pixels | None:
    """Pillow's pixels; None where it refuses the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None


def check(data: bytes, rng: np.random.Generator, about: object) -> int:
    """The status of the whole image; where it is done, its pixels and those of a crop must be Pillow's."""
    status, pixels = turbo.decode(data)
    if status == DONE:
        expected = by_pillow(data)
        assert expected is not None, f"Pillow refuses {about}: {data.hex()}"
        np.testing.assert_array_equal(pixels, expected, err_msg=f"{about}")
        top, left = (int(rng.integers(0, side)) for side in expected.shape[:2])
        height, width = (
            int(rng.integers(1, side - at + 1))
            for side, at in zip(expected.shape[:2], (top, left), strict=True)
        )
        status, crop = turbo.decode(data, (left, top, width, height))
        assert status == DONE, f"a crop of {about} has status {status}"
        np.testing.assert_array_equal(
            crop, expected[top : top + height, left : left + width], err_msg=f"{about}"
        )
    return int(status)


def pillow_options(rng: np.random.Generator) -> dict[str, Any]:
    options: dict[str, Any] = {
        "mode": "L" if rng.random() < 0.15 else "RGB",
        "quality": int(rng.integers(1, 101)),
        "subsampling": int(rng.integers(3)),
        "progressive": bool(rng.random() < 0.4),
        "optimize": bool(rng.random() < 0.3),
    }
    if rng.random() < 0.3:
        options["restart_marker_blocks"] = int(rng.integers(1, 9))
    elif rng.random() < 0.2:
        options["restart_marker_rows"] = int(rng.integers(1, 4))
    if rng.random() < 0.2:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(1, 9))
        options |= {"exif": exif, "comment": b"a comment", "icc_profile": bytes(300), "dpi": (72, 72)}
    return options


@pytest.mark.parametrize("part", range(4))
def test_pillows_own_files(part: int) -> None:
    rng = np.random.default_rng(part)
    for number in range(200):
        options = pillow_options(rng)
        data = pillow(picture(rng, *sides(rng)), **options)
        assert check(data, rng, (part, number, options)) == DONE, options


@pytest.mark.parametrize("sampling", ORDINARY + ODD, ids=lambda value: "_".join(f"{h}x{v}" for h, v in value))
def test_samplings(sampling: tuple[tuple[int, int], ...]) -> None:
    rng = np.random.default_rng(sum(h + 5 * v for h, v in sampling))
    found = Counter(
        check(write(picture(rng, *sides(rng)), layout), rng, layout)
        for scans, restart, optimised, quality in itertools.product(
            ((), simple_scans(3)), (0, 1, 5), (False, True), (40, 97)
        )
        for layout in [
            Layout(sampling=sampling, restart=restart, optimised=optimised, quality=quality, scans=scans)
        ]
    )
    if sampling in ORDINARY:
        assert set(found) == {DONE}, found


def test_grey_whatever_its_factors() -> None:
    rng = np.random.default_rng(3)
    for factors, scans, restart in itertools.product(FACTORS, ((), simple_scans(1)), (0, 3)):
        layout = Layout(sampling=(factors,), scans=scans, restart=restart, quality=70)
        assert check(write(picture(rng, *sides(rng)), layout), rng, layout) == DONE


def script(rng: np.random.Generator, components: int) -> tuple[Scan, ...]:
    """A regular script of scans: cuts of the band, refinements and an order that are all allowed."""
    lanes: list[list[Scan]] = []
    low = int(rng.integers(0, 3))
    groups = [tuple(range(components))] if rng.random() < 0.5 else [(c,) for c in range(components)]
    dc = [Scan(group, 0, 0, 0, low) for group in groups]
    lanes.append([Scan(g, 0, 0, at + 1, at) for at in range(low - 1, -1, -1) for g in groups])
    for c in range(components):
        cuts = [0, *sorted(rng.choice(np.arange(1, 63), int(rng.integers(0, 4)), replace=False).tolist()), 63]
        for first, last in itertools.pairwise(cuts):
            low = int(rng.integers(0, 4))
            lane = [Scan((c,), first + 1, last, 0, low)]
            lanes.append(lane + [Scan((c,), first + 1, last, at + 1, at) for at in range(low - 1, -1, -1)])
    rest: list[Scan] = []
    while lanes := [lane for lane in lanes if lane]:
        rest.append(lanes[int(rng.integers(len(lanes)))].pop(0))
    return (*dc, *rest)


@pytest.mark.parametrize("part", range(4))
def test_progressive_scripts(part: int) -> None:
    rng = np.random.default_rng(100 + part)
    for _ in range(40):
        sampling = ORDINARY[int(rng.integers(len(ORDINARY)))] if rng.random() < 0.8 else ((1, 1),)
        layout = Layout(
            sampling=sampling,
            scans=script(rng, len(sampling)),
            restart=int(rng.integers(0, 8)) if rng.random() < 0.4 else 0,
            quality=int(rng.integers(20, 100)),
        )
        assert check(write(picture(rng, *sides(rng)), layout), rng, layout) == DONE, layout


def test_missing_scans_are_pillows_to_smooth() -> None:
    rng = np.random.default_rng(5)
    handed = 0
    for count in range(1, len(simple_scans(3))):
        layout = Layout(scans=simple_scans(3)[:count])
        handed += check(write(picture(rng, 40, 50), layout), rng, layout) != DONE
    assert handed == len(simple_scans(3)) - 1


def test_scans_out_of_order() -> None:
    rng = np.random.default_rng(6)
    scans = simple_scans(3)
    for _ in range(40):
        shuffled = tuple(scans[at] for at in rng.integers(0, len(scans), len(scans) + 3))
        layout = Layout(scans=shuffled)
        assert check(write(picture(rng, *sides(rng)), layout), rng, layout) != DONE


@pytest.mark.parametrize(
    "layout", (Layout(head=ADOBE_RGB, ycc=False), Layout(head=b"", ids=(82, 71, 66), ycc=False))
)
def test_rgb_files(layout: Layout) -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        assert check(write(picture(rng, *sides(rng)), layout), rng, layout) == DONE


MARKERS = {
    "fill": b"\xff\xff\xff\xff\xfe\x00\x03x",
    "comment": b"\xff\xfe\x00\x02",
    "app_bytes": b"\xff\xe5\x00\x06\xff\xd9\xff\xda",
    "exif": b"\xff\xe1\x00\x10Exif\0\0MM\0*\0\0\0\x08",
    "broken_exif": b"\xff\xe1\x00\x0aExif\0\0??",
    "xmp": b"\xff\xe1\x00\x20http://ns.adobe.com/xap/1.0/\0\0",
    "icc": b"\xff\xe2\x00\x12ICC_PROFILE\0\x01\x01xy",
    "photoshop": b"\xff\xed\x00\x20Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x04abcd",
    "short_photoshop": b"\xff\xed\x00\x14Photoshop 3.0\0" + b"8BIM",
}


@pytest.mark.parametrize("name", MARKERS)
def test_markers_and_trailing_bytes(name: str) -> None:
    rng = np.random.default_rng(8)
    for progressive, tail in itertools.product((False, True), (b"", b"\0\0", b"\xff\xd8\xff", bytes(5000))):
        scans = simple_scans(3) if progressive else ()
        data = write(picture(rng, *sides(rng)), Layout(head=JFIF + MARKERS[name], scans=scans)) + tail
        assert check(data, rng, (name, progressive)) == DONE


def damaged(rng: np.random.Generator) -> bytes:
    restart = int(rng.integers(0, 4))
    scans = simple_scans(3) if rng.random() < 0.5 else ()
    factors = FACTORS[int(rng.integers(4))]
    layout = Layout(sampling=(factors, (1, 1), (1, 1)), restart=restart, scans=scans, quality=75)
    return write(picture(rng, *sides(rng)), layout)


@pytest.mark.parametrize("part", range(3))
def test_truncation(part: int) -> None:
    rng = np.random.default_rng(200 + part)
    for _ in range(25):
        whole = damaged(rng)
        for length in range(0, len(whole), 64):
            data = whole[:length]
            assert check(data, rng, (part, length)) != DONE


def flipped(rng: np.random.Generator, whole: npt.NDArray[np.uint8]) -> bytes:
    data = whole.copy()
    at = rng.integers(0, len(data), int(rng.integers(1, 4)))
    data[at] ^= np.left_shift(1, rng.integers(0, 8, len(at))).astype(np.uint8)
    return data.tobytes()


def flip(seed: int, files: int, times: int) -> Counter[int]:
    rng = np.random.default_rng(seed)
    found: Counter[int] = Counter()
    for number in range(files):
        whole = np.frombuffer(damaged(rng), np.uint8)
        found.update(check(flipped(rng, whole), rng, (seed, number, time)) for time in range(times))
    return found


@pytest.mark.parametrize("part", range(3))
def test_flipped_bits(part: int) -> None:
    found = flip(300 + part, files=20, times=30)
    # A bit of a coefficient's value, or of a table, leaves a regular file with other pixels.
    assert found[DONE] > 30 and len(found) > 2, found


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_more_flipped_bits(part: int) -> None:
    found = flip(1000 + part, files=100, times=100)
    assert found[DONE] > 500, found


@pytest.mark.slow
@pytest.mark.parametrize("height", range(1, 71))
def test_every_size(height: int) -> None:
    rng = np.random.default_rng(height)
    for width, subsampling, progressive in itertools.product(range(1, 71), range(3), (False, True)):
        data = pillow(
            picture(rng, height, width), subsampling=subsampling, progressive=progressive, quality=85
        )
        assert check(data, rng, (height, width, subsampling, progressive)) == DONE
