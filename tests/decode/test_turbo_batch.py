"""The native batch function against Pillow's decode, crop and resize."""

import io
import os
import threading

import numpy as np
import psutil
import pytest
from PIL import Image

from fastpipe.decode import crop_and_resize, decode_rgb, num_uniforms
from fastpipe.decode.pillow import pixels
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop

turbo = pytest.importorskip("fastpipe._turbo", reason="turbo_built: fastpipe._turbo was not built")

NAMES = turbo.STATUSES
MOST = 1 << 40


def photo(height, width, seed=0, mode="RGB", **options):
    """A smooth picture with some noise, as JPEG bytes."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height), 3)
    levels = np.asarray(small, dtype=np.int16) + rng.integers(-20, 21, (height, width, 3))
    file = io.BytesIO()
    image = Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(file, "JPEG", **{"quality": 85, **options})
    return file.getvalue()


def native(spec):
    if spec is None:
        return turbo.Step("whole")
    if isinstance(spec, RandomResizedCrop):
        return turbo.Step(
            "resized_crop",
            size=spec.size,
            scale=spec.scale,
            ratio=spec.ratio,
            interpolation=spec.interpolation,
        )
    return turbo.Step(
        "resize_crop",
        resize=spec.resize,
        crop=spec.crop,
        where=spec.where,
        padding=spec.padding,
        interpolation=spec.interpolation,
    )


def draws(num, spec, seed=1):
    return np.random.default_rng(seed).random((num, num_uniforms(spec)))


def pillows(data, spec, row):
    return pixels(crop_and_resize(decode_rgb(data), spec, row.tolist()))


FILES = [
    photo(97, 131, 0, subsampling=2),
    photo(131, 97, 1, subsampling=0),
    photo(64, 200, 2, subsampling=1),
    photo(48, 48, 3, mode="L"),
    photo(300, 210, 4, quality=60),
    photo(33, 35, 5, quality=98),
    photo(120, 90, 6, restart_marker_blocks=3),
]

FIXED = [
    RandomResizedCrop(size=(40, 56)),
    RandomResizedCrop(size=(88, 88), scale=(0.3, 1.0), interpolation="bicubic"),
    RandomResizedCrop(size=(16, 24), ratio=(0.2, 5.0), interpolation="lanczos"),
    RandomResizedCrop(size=(31, 30), interpolation="nearest"),
    RandomResizedCrop(size=(33, 35), scale=(1.0, 1.0), ratio=(1.0, 1.0)),
    ResizeCrop(resize=36, crop=(32, 32)),
    ResizeCrop(resize=36, crop=(32, 32), interpolation="box"),
    ResizeCrop(resize=(50, 40)),
    ResizeCrop(resize=(50, 40), crop=(60, 44), interpolation="hamming"),
    ResizeCrop(resize=60, crop=(50, 70), where="random", padding=(10, 3, 15, 0)),
    ResizeCrop(crop=(32, 32), where="random", padding=(4, 4, 4, 4)),
    ResizeCrop(crop=(20, 36)),
    ResizeCrop(crop=(160, 161)),
]
FREE = [None, ResizeCrop(resize=77), ResizeCrop(resize=50, interpolation="nearest"), ResizeCrop()]


@pytest.mark.parametrize("spec", FIXED, ids=repr)
def test_pixels_are_pillows(spec):
    step = native(spec)
    data = FILES * 4
    numbers = draws(len(data), spec)
    images = np.full((len(data), *step.size, 3), 99, np.uint8)
    statuses = turbo.Worker().fill_bytes(data, step, numbers, images, MOST)
    assert [NAMES[status] for status in statuses] == ["done"] * len(data)
    for made, one, row in zip(images, data, numbers, strict=True):
        np.testing.assert_array_equal(made, pillows(one, spec, row))


@pytest.mark.parametrize("spec", FREE, ids=repr)
def test_pixels_are_pillows_where_the_size_depends_on_the_image(spec):
    step, worker = native(spec), turbo.Worker()
    assert step.size is None
    numbers = draws(1, spec)
    for one in FILES:
        want = pillows(one, spec, numbers[0])
        status, height, width = worker.measure(one, step, numbers[0], MOST)
        assert (NAMES[status], height, width) == ("done", *want.shape[:2])
        images = np.zeros((1, height, width, 3), np.uint8)
        assert worker.fill_bytes([one], step, numbers, images, MOST).tolist() == [0]
        np.testing.assert_array_equal(images[0], want)
        other = np.zeros((1, height + 1, width, 3), np.uint8)
        assert NAMES[worker.fill_bytes([one], step, numbers, other, MOST)[0]] == "crop"


def test_measure_knows_fixed_sizes_and_other_files():
    worker, step = turbo.Worker(), native(ResizeCrop(resize=40, crop=(8, 9)))
    assert worker.measure(FILES[0], step, np.zeros(0), MOST) == (0, 8, 9)
    assert NAMES[worker.measure(b"no picture", step, np.zeros(0), MOST)[0]] == "not_jpeg"


@pytest.mark.parametrize("where", ["whole files", "one packed file"])
def test_files_and_pieces_of_files(tmp_path, where):
    spec = RandomResizedCrop(size=(30, 30))
    numbers = draws(len(FILES), spec)
    if where == "whole files":
        paths = [tmp_path / f"bild ä {i}.jpg" for i in range(len(FILES))]
        for path, data in zip(paths, FILES, strict=True):
            path.write_bytes(data)
        file, offset, length = np.arange(len(FILES)), np.zeros(len(FILES), np.int64), np.full(len(FILES), -1)
    else:
        paths = [tmp_path / "packed"]
        paths[0].write_bytes(b"head" + b"".join(FILES))
        length = np.array([len(data) for data in FILES])
        file, offset = np.zeros(len(FILES), np.int64), 4 + np.cumsum(length) - length
        length[-1] = -1  # to the end
    images = np.zeros((len(FILES), 30, 30, 3), np.uint8)
    encoded, worker = [os.fsencode(path) for path in paths], turbo.Worker()
    statuses = worker.fill(encoded, file, offset, length, native(spec), numbers, images, MOST)
    assert statuses.tolist() == [0] * len(FILES)
    assert min(worker.seconds()) > 0.0
    for made, one, row in zip(images, FILES, numbers, strict=True):
        np.testing.assert_array_equal(made, pillows(one, spec, row))


def fill_one(path, offset=0, length=-1, most=MOST):
    images = np.zeros((1, 8, 8, 3), np.uint8)
    where = (np.array([0]), np.array([offset]), np.array([length]))
    step = native(ResizeCrop(resize=(8, 8)))
    return NAMES[turbo.Worker().fill([path], *where, step, np.zeros((1, 0)), images, most)[0]]


def test_what_cannot_be_read_is_unreadable(tmp_path):
    path = tmp_path / "one.jpg"
    path.write_bytes(FILES[0])
    good, size = os.fsencode(path), len(FILES[0])
    assert fill_one(good) == fill_one(good, 0, size) == "done"
    for offset, length in [(-1, -1), (0, size + 1), (1, size), (size + 1, -1), (0, -2), (1 << 62, 1 << 62)]:
        assert fill_one(good, offset, length) == "unreadable"
    assert fill_one(good, size, -1) == "not_jpeg"  # no bytes
    assert fill_one(os.fsencode(tmp_path)) == "unreadable"
    assert fill_one(os.fsencode(tmp_path / "none.jpg")) == "unreadable"
    assert fill_one(b"") == fill_one(good + b"\0more") == "unreadable"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert fill_one(os.fsencode(pipe)) == "unreadable"  # at once: nobody writes to it
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    assert fill_one(os.fsencode(sparse)) == "too_large"


def test_no_descriptor_stays_open(tmp_path):
    path = tmp_path / "one.jpg"
    path.write_bytes(FILES[0])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        fill_one(os.fsencode(path))
        fill_one(os.fsencode(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_every_image_has_its_own_status_and_place():
    spec = ResizeCrop(resize=(20, 20))
    data = [FILES[0], b"\xff\xd8rubbish", FILES[1], FILES[2][:400], photo(30, 30, mode="CMYK"), FILES[3]]
    images = np.zeros((len(data), 20, 20, 3), np.uint8)
    statuses = turbo.Worker().fill_bytes(data, native(spec), draws(len(data), spec), images, MOST)
    names = [NAMES[status] for status in statuses]
    assert [name == "done" for name in names] == [True, False, True, False, False, True]
    assert names[4] == "components"
    for i in (0, 2, 5):
        np.testing.assert_array_equal(images[i], pillows(data[i], spec, np.zeros(0)))


def test_the_bound_on_pixels_holds():
    spec = ResizeCrop(resize=(20, 20))
    images = np.zeros((1, 20, 20, 3), np.uint8)
    for most, name in [(97 * 131, "done"), (97 * 131 - 1, "too_large")]:
        status = turbo.Worker().fill_bytes([FILES[0]], native(spec), np.zeros((1, 0)), images, most)[0]
        assert NAMES[status] == name


def test_crops_that_pillow_must_judge():
    step = native(ResizeCrop(crop=(140, 140), where="random"))
    images = np.zeros((1, 140, 140, 3), np.uint8)
    status = turbo.Worker().fill_bytes([FILES[0]], step, np.full((1, 2), 0.5), images, MOST)[0]
    assert NAMES[status] == "crop"
    beside = native(ResizeCrop(crop=(4, 4), where="random", padding=(50, 50, 50, 50)))
    images = np.zeros((1, 4, 4, 3), np.uint8)
    assert NAMES[turbo.Worker().fill_bytes([FILES[0]], beside, np.zeros((1, 2)), images, MOST)[0]] == "crop"


def test_any_buffer_and_one_worker_for_all():
    worker, seen = turbo.Worker(), []
    for spec in FIXED * 3:
        step = native(spec)
        data = [bytearray(FILES[4]), memoryview(FILES[5]), np.frombuffer(FILES[0], np.uint8)]
        numbers = draws(3, spec, len(seen))
        images = np.zeros((3, *step.size, 3), np.uint8)
        assert worker.fill_bytes(data, step, numbers, images, MOST).tolist() == [0, 0, 0]
        for made, one, row in zip(images, data, numbers, strict=True):
            np.testing.assert_array_equal(made, pillows(bytes(one), spec, row))
        seen.append(images)


def test_seconds_are_counted_once():
    worker, spec = turbo.Worker(), RandomResizedCrop(size=(64, 64))
    images = np.zeros((len(FILES), 64, 64, 3), np.uint8)
    assert worker.seconds() == (0.0, 0.0, 0.0)
    worker.fill_bytes(FILES, native(spec), draws(len(FILES), spec), images, MOST)
    read, decode, resize = worker.seconds()
    assert read == 0.0 and decode > 0.0 and resize > 0.0
    assert worker.seconds() == (0.0, 0.0, 0.0)


def test_two_threads_may_not_share_a_worker():
    worker, spec = turbo.Worker(), ResizeCrop(resize=(8, 8))
    data = [photo(900, 900)] * 60
    images = np.zeros((len(data), 8, 8, 3), np.uint8)
    arguments = (data, native(spec), np.zeros((len(data), 0)), images, MOST)
    thread = threading.Thread(target=worker.fill_bytes, args=arguments)
    thread.start()
    refused = []
    while thread.is_alive() and not refused:
        try:
            worker.seconds()
        except RuntimeError as error:
            refused.append(str(error))
    thread.join()
    assert refused == ["this Worker is at work in another thread"]
    assert worker.seconds()[1] > 0.0


def wrong_arguments():
    good = np.zeros((2, 8, 8, 3), np.uint8)
    read_only = good.copy()
    read_only.flags.writeable = False
    yield "float images", {"images": good.astype(float)}, "images"
    yield "a view with gaps", {"images": np.zeros((2, 8, 9, 3), np.uint8)[:, :, :8]}, "images"
    yield "another size", {"images": np.zeros((2, 9, 8, 3), np.uint8)}, "height and width"
    yield "four channels", {"images": np.zeros((2, 8, 8, 4), np.uint8)}, "images"
    yield "read only", {"images": read_only}, "images"
    yield "a file too few", {"file": np.zeros(1, np.int64)}, "file"
    yield "no such file", {"file": np.array([0, 1])}, "out of range"
    yield "a negative file", {"file": np.array([0, -1])}, "out of range"
    yield "text for a path", {"files": ["a"]}, "bytes"
    yield "uniforms too few", {"uniforms": np.zeros((1, 2))}, "uniforms"
    yield "uniforms too narrow", {"uniforms": np.zeros((2, 1))}, "uniforms"
    yield "a uniform number of 1", {"uniforms": np.ones((2, 2))}, "uniforms"


@pytest.mark.parametrize(
    ("changed", "message"), [pytest.param(*case, id=name) for name, *case in wrong_arguments()]
)
def test_wrong_arguments_raise(changed, message):
    arguments = {
        "files": [b"/nowhere"],
        "file": np.zeros(2, np.int64),
        "offset": np.zeros(2, np.int64),
        "length": np.full(2, -1),
        "step": turbo.Step("resize_crop", crop=(8, 8), where="random"),
        "uniforms": np.zeros((2, 2)),
        "images": np.zeros((2, 8, 8, 3), np.uint8),
        "max_pixels": MOST,
    }
    worker = turbo.Worker()
    assert worker.fill(**arguments).tolist() == [NAMES.index("unreadable")] * 2
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        worker.fill(**{**arguments, **changed})
    assert worker.fill(**arguments).tolist() == [NAMES.index("unreadable")] * 2


def test_the_memory_of_an_unusual_image_is_given_back():
    """Its coefficients are 2 bytes a sample: 54 MB for 3000 x 3000 without subsampling."""
    levels = np.random.default_rng(0).integers(0, 256, (375, 375, 3)).astype(np.uint8)
    files = []
    for size in (3000, 60):
        stream = io.BytesIO()
        picture = Image.fromarray(levels).resize((size, size))
        picture.save(stream, "JPEG", progressive=True, subsampling=0)
        files.append(stream.getvalue())
    large, small = files
    worker, step = turbo.Worker(), turbo.Step("resize_crop", resize=(8, 8))
    images, draws = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 0))

    def used(data):
        assert worker.fill_bytes([data], step, draws, images, 1 << 40).tolist() == [0]
        return psutil.Process().memory_info().rss / 2**20

    before = used(small)
    used(large)
    assert used(small) - before < 20
