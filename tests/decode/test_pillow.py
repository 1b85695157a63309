"""Decoding: torchvision's pixels for every odd file, and a clear error for every broken one."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import pil_loader

from fastpipe.decode import decode_rgb, read
from fastpipe.errors import SampleError


def _photo(mode="RGB", size=(37, 23)):
    levels = np.random.default_rng(4).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels).convert(mode)


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _sixteen_bit():
    return Image.fromarray(np.random.default_rng(5).integers(0, 65536, (23, 37), dtype=np.uint16))


def _palette_with_alpha():
    image = _photo("P")
    image.info["transparency"] = 3
    return image


ODD = {
    "rgb.jpg": (_photo(), {"format": "JPEG"}),
    "grey.jpg": (_photo("L"), {"format": "JPEG"}),
    "cmyk.jpg": (_photo("CMYK"), {"format": "JPEG"}),
    "progressive.jpg": (_photo(), {"format": "JPEG", "progressive": True}),
    "444.jpg": (_photo(), {"format": "JPEG", "subsampling": 0, "quality": 96}),
    "rotated.jpg": (_photo(), {"format": "JPEG", "exif": _exif(6)}),
    "png_named.jpg": (_photo(), {"format": "PNG"}),
    "palette_alpha.png": (_palette_with_alpha(), {"format": "PNG"}),
    "rgba.png": (_photo("RGBA"), {"format": "PNG"}),
    "grey_alpha.png": (_photo("LA"), {"format": "PNG"}),
    "sixteen_bit.png": (_sixteen_bit(), {"format": "PNG"}),
    "bilevel.png": (_photo("1"), {"format": "PNG"}),
    "one_pixel.png": (_photo(size=(1, 1)), {"format": "PNG"}),
    "strip.png": (_photo(size=(5000, 1)), {"format": "PNG"}),
    "gif.gif": (_photo("P"), {"format": "GIF"}),
    "bmp.bmp": (_photo(), {"format": "BMP"}),
    "webp.webp": (_photo(), {"format": "WEBP", "lossless": True}),
    "größe 写真.jpg": (_photo(), {"format": "JPEG"}),
}


@pytest.mark.parametrize("name", ODD)
def test_pixels_are_torchvisions(tmp_path, name):
    image, options = ODD[name]
    path = tmp_path / name
    image.save(path, **options)
    ours = decode_rgb(read(str(path)), str(path))
    expected = pil_loader(str(path))
    assert ours.mode == "RGB"
    assert ours.size == expected.size
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected))


def test_exif_orientation_is_not_applied(tmp_path):
    """Pillow and torchvision leave it; OpenCV and DALI would rotate: 37 x 23 must stay 37 x 23."""
    path = tmp_path / "rotated.jpg"
    _photo().save(path, exif=_exif(6))
    assert decode_rgb(read(str(path))).size == (37, 23)


def test_trailing_junk_is_ignored():
    buffer = io.BytesIO()
    _photo().save(buffer, "JPEG")
    clean = decode_rgb(buffer.getvalue())
    np.testing.assert_array_equal(np.asarray(clean), np.asarray(decode_rgb(buffer.getvalue() + b"junk" * 99)))


def _jpeg_bytes():
    buffer = io.BytesIO()
    _photo(size=(200, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"this is not an image", "knows no such format"),
        (_jpeg_bytes()[:1500], "truncated"),
        (_jpeg_bytes()[:3], "knows no such format"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, ""),
    ],
    ids=["text", "truncated", "stub", "png-garbage"],
)
def test_broken_bytes_name_the_file_and_the_remedy(data, word):
    with pytest.raises(SampleError, match=r"holiday\.jpg") as caught:
        decode_rgb(data, "holiday.jpg")
    assert word in str(caught.value)
    assert "on_error" in str(caught.value)
    assert caught.value.path == "holiday.jpg"


def test_unreadable_and_empty_files(tmp_path):
    with pytest.raises(SampleError, match=r"gone\.jpg.*No such file"):
        read(str(tmp_path / "gone.jpg"))
    with pytest.raises(SampleError, match="Is a directory"):
        read(str(tmp_path))
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(SampleError, match=r"empty\.jpg.*zero bytes"):
        read(str(tmp_path / "empty.jpg"))


def test_sample_errors_are_what_scripts_catch_and_cross_processes_whole():
    error = pickle.loads(pickle.dumps(SampleError("broken", path="a.jpg", sample_id=7)))
    assert isinstance(error, OSError)
    assert isinstance(error, ValueError)
    assert (str(error), error.path, error.sample_id) == ("broken", "a.jpg", 7)
