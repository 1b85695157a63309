"""Whatever a decoder raises for a file's bytes is a broken sample; a bug of the script stays one."""

from __future__ import annotations

import io
import logging
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, features
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.io import decode_image, read_image

from fastpipe import DataLoader, FolderDataset, SampleError
from fastpipe.broken import decoding, is_broken_file
from fastpipe.decode import decode_rgb
from fastpipe.storage import image_sizes, open_index, write_beton

pytestmark = pytest.mark.filterwarnings(
    "ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning"
)

TRAIN = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])


def photo(seed: int = 0, side: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def patched(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


def scribbled_avif() -> bytes:
    data = bytearray(encoded(photo(), "AVIF"))
    at = data.index(b"mdat") + 4
    data[at : at + 50] = b"\xff" * 50
    return bytes(data)


# What Pillow raises for these is neither OSError nor ValueError, nor SyntaxError.
DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    "DDS": (lambda: patched(encoded(photo(), "DDS"), 80, 137), "NotImplementedError"),
    "BLP": (lambda: patched(encoded(photo().convert("P"), "BLP"), 4, 114), "BLPFormatError"),
}
if features.check("avif"):
    DAMAGED["AVIF"] = (scribbled_avif, "RuntimeError")


@pytest.fixture(params=DAMAGED)
def damaged(request: pytest.FixtureRequest) -> bytes:
    make, name = DAMAGED[request.param]
    data = make()
    with pytest.raises(Exception) as caught:
        Image.open(io.BytesIO(data)).convert("RGB")
    assert type(caught.value).__name__ == name
    return data


@pytest.fixture
def folder(tmp_path: Path, damaged: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight photos of two classes; the sixth is damaged."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    for i in range(8):
        target = tmp_path / "data" / "ab"[i // 4] / f"{i}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(damaged if i == 5 else encoded(photo(i)))
    return tmp_path / "data"


def test_the_decoder_names_the_file(damaged: bytes) -> None:
    with pytest.raises(SampleError, match=r"x\.jpg") as caught:
        decode_rgb(damaged, "x.jpg")
    assert caught.value.lasting and caught.value.path == "x.jpg"


def served(loader: DataLoader) -> int:
    return sum(len(batch[0]) for batch in loader)


@pytest.mark.parametrize("backend", ["torchvision", pytest.param("dali", marks=pytest.mark.dali)])
def test_skip_and_replace_go_on(folder: Path, backend: str) -> None:
    if backend == "dali":
        pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
    dataset = ImageFolder(str(folder), TRAIN)
    options: dict[str, Any] = {"seed": 1, "backend": backend, "quarantine": False, "max_bad": 1.0}
    assert served(DataLoader(dataset, 4, on_error="skip", **options)) == 7
    assert served(DataLoader(dataset, 4, on_error="replace", **options)) == 8
    with pytest.raises(SampleError, match=r"5\.jpg"):
        served(DataLoader(dataset, 4, **options))


class Mine(Dataset[Any]):
    """A data set of the script's own, which no backend reads for it."""

    def __init__(self, folder: Path, load: Callable[[Path], Any]) -> None:
        self.paths = sorted(folder.glob("*/*"))
        self.load = load

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return TRAIN(self.load(self.paths[index]))


def by_pillow(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def lazily(path: Path) -> Image.Image:
    """Decoded by the first step of the transform."""
    return Image.open(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("load", [by_pillow, lazily])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_own_data_set_skips_it(folder: Path, load: Callable[[Path], Any], workers: int) -> None:
    options: dict[str, Any] = {"quarantine": False, "max_bad": 1.0, "num_workers": workers}
    loader = DataLoader(Mine(folder, load), 4, on_error="skip", **options)
    assert sum(len(batch) for batch in loader) == 7


def test_the_writer_skips_it(folder: Path, tmp_path: Path) -> None:
    written = write_beton(folder, tmp_path / "x.beton", num_workers=0, on_error="skip")
    assert written.num_images == 7
    with pytest.raises(SampleError, match=r"5\.jpg"):
        write_beton(folder, tmp_path / "y.beton", num_workers=0)


def test_a_folder_data_set_names_it(folder: Path) -> None:
    with pytest.raises(SampleError, match=r"5\.jpg"):
        FolderDataset(folder, TRAIN)[5]


def test_the_size_of_it_is_an_error_of_ours(folder: Path, damaged: bytes) -> None:
    try:
        Image.open(io.BytesIO(damaged))
    except Exception:
        with pytest.raises(SampleError, match=r"5\.jpg"):
            image_sizes(open_index(folder), [5])
    else:  # only the pixels are at fault
        assert image_sizes(open_index(folder), [5]).shape == (1, 2)


def bug_of_a_transform(path: Path) -> Any:
    return by_pillow(path).resize((0, -3))


def bug_in_a_call_of_pillow(path: Path) -> Any:
    return by_pillow(path).crop("everything")  # type: ignore[arg-type]


def bug_in_an_open(path: Path) -> Any:
    return Image.open(17)  # type: ignore[arg-type]


def bug_in_a_save(path: Path) -> Any:
    by_pillow(path).save(io.BytesIO(), "JPEG", quality="very good")


def bug_in_a_convert(path: Path) -> Any:
    return Image.open(io.BytesIO(path.read_bytes())).convert("NONSENSE")


def bug_in_a_converted_array(path: Path) -> Any:
    return Image.fromarray(np.zeros((2, 2, 7), np.float64))


def bug_of_its_own(path: Path) -> Any:
    raise ValueError("my bug")


def bug_after_a_struct(path: Path) -> Any:
    return struct.unpack("<I", b"")


def bug_in_a_file_object(path: Path) -> Any:
    class Mine(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return {}["my key"]  # type: ignore[no-any-return]

    return Image.open(Mine(path.read_bytes()))


def bug_in_an_import(path: Path) -> Any:
    return compile("x =", "mine.py", "exec")


def floats_for_bytes(path: Path) -> Any:
    return decode_image(torch.zeros(50))


def no_such_mode(path: Path) -> Any:
    return read_image(str(path), mode="NONSENSE")  # type: ignore[arg-type]


BUGS = [
    function for name, function in list(globals().items()) if name.startswith(("bug_", "floats", "no_such"))
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_bug_of_the_script_stays_one(tmp_path: Path, bug: Callable[[Path], Any]) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0.jpg").write_bytes(encoded(photo()))
    with pytest.raises(Exception) as caught:
        bug(tmp_path / "c" / "0.jpg")
    assert not is_broken_file(caught.value)
    with pytest.raises(type(caught.value)) as again:
        list(DataLoader(Mine(tmp_path, bug), 1, on_error="skip", max_bad=1.0, quarantine=False))
    assert not isinstance(again.value, SampleError)


def from_bytes(data: bytes) -> torch.Tensor:
    return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8))


@pytest.mark.parametrize("data", [b"no image at all", encoded(photo())[:400], encoded(photo(), "PNG")[:900]])
def test_what_torchvision_io_refuses_is_a_broken_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(data)
    for read in (lambda: from_bytes(data), lambda: read_image(tmp_path / "x.jpg")):
        with pytest.raises(RuntimeError) as caught:
            read()
        assert is_broken_file(caught.value)
    with pytest.raises(RuntimeError, match="No such file") as gone:
        read_image(str(tmp_path / "gone.jpg"))
    assert is_broken_file(gone.value)


def test_a_plug_in_of_somebody_else_is_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(ImageFile.ImageFile):
        format = "ODD"
        format_description = "of this test"

        def _open(self) -> None:
            self._size, self._mode = (2, 2), "RGB"
            raise RuntimeError("no palette")

    Image.init()
    monkeypatch.setitem(Image.OPEN, "ODD", (Odd, lambda prefix: prefix.startswith(b"ODD")))
    Image.ID.insert(0, "ODD")
    try:
        with pytest.raises(RuntimeError) as caught:
            Image.open(io.BytesIO(b"ODD" * 9))
        assert is_broken_file(caught.value)
        with pytest.raises(SampleError, match="no palette"):
            decode_rgb(b"ODD" * 9)
    finally:
        Image.ID.remove("ODD")


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt, SystemExit, UserWarning])
def test_what_is_no_fault_of_the_bytes_passes_through(kind: type[BaseException]) -> None:
    with pytest.raises(kind), decoding(lambda error: SampleError(f"{error}")):
        raise kind("not the file's")
    if issubclass(kind, Exception):
        assert not is_broken_file(kind("not the file's"))


class Slow(io.BytesIO):
    """Sends a signal while Pillow reads it."""

    def read(self, size: int | None = -1) -> bytes:
        signal.raise_signal(signal.SIGALRM)
        return super().read(size)


@pytest.fixture
def time_limit() -> Iterator[None]:
    def limit(number: int, frame: Any) -> None:
        raise RuntimeError("time is up")

    before = signal.signal(signal.SIGALRM, limit)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("time_limit")
def test_a_signal_that_comes_while_a_decoder_runs_is_not_the_files_fault() -> None:
    expected = pytest.raises(RuntimeError, match="time is up")
    with expected as caught, decoding(lambda error: SampleError(f"{error}")):
        Image.open(Slow(encoded(photo())))
    assert not is_broken_file(caught.value)


def every_format() -> dict[str, bytes]:
    """A file of each format that this Pillow writes, in each mode that it writes it in."""
    Image.init()
    found = {}
    for kind in sorted(set(Image.SAVE) & set(Image.OPEN)):
        for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16"):
            image = photo(side=40).convert("I").convert("I;16") if mode == "I;16" else photo().convert(mode)
            try:
                found[f"{kind} {mode}"] = encoded(image, kind)
            except (OSError, ValueError, KeyError, RuntimeError, TypeError):
                continue  # no such mode in this format, or no plug-in that writes it (BUFR, GRIB, HDF5)
    return found


def mutations(data: bytes, num: int, seed: int) -> Iterator[bytes]:
    """Truncated, with bytes changed, or both; changes fall into the header as often as elsewhere."""
    rng = np.random.default_rng(seed)
    for _ in range(num):
        damaged, kind = bytearray(data), rng.integers(4)
        if kind in (0, 2):
            del damaged[rng.integers(1, len(data)) :]
        if kind:
            end = min(len(damaged), 200) if kind == 3 else len(damaged)
            for at in rng.integers(0, end, rng.integers(1, 8)):
                damaged[at] = rng.integers(256)
        yield bytes(damaged)


def check_every_damage(num: int, seed: int) -> None:
    logging.disable(logging.WARNING)  # the TIFF plug-in's
    seen: set[str] = set()
    formats = every_format()
    assert {"JPEG RGB", "PNG P", "GIF RGB", "BMP RGB", "DDS RGB", "BLP P", "TIFF RGB"} <= set(formats)
    for number, (name, data) in enumerate(formats.items()):
        if name.startswith("EPS"):
            continue  # Pillow starts Ghostscript
        for one in mutations(data, num, seed + number):
            try:
                decode_rgb(one, name)
            except SampleError as error:
                seen.add(type(error.__cause__).__name__)
            except MemoryError:
                continue
            try:
                Image.open(io.BytesIO(one)).convert("RGB")
            except MemoryError:
                continue
            except Exception as error:
                assert is_broken_file(error), (name, repr(error))
    assert len(seen) > 3, seen


@pytest.fixture
def quiet() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("ignore")
def test_no_damage_to_any_format_gets_past() -> None:
    check_every_damage(8, zlib.crc32(b"seconds"))


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("ignore")
def test_no_damage_to_any_format_gets_past_for_long() -> None:
    check_every_damage(200, zlib.crc32(b"minutes"))
