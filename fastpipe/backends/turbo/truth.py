"""Whether the native module has the pixels of the installed Pillow: compared once, and remembered.

Pillow may be built with another JPEG library (IJG's upsamples otherwise) or another resize (pillow-simd's
rounds otherwise). The answer is kept in the cache directory, by the versions of Pillow, its JPEG library and
this module.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, _imaging, features

from fastpipe.backends.turbo.native import new_worker, open_native, step_of
from fastpipe.decode import crop_and_resize, decode_rgb
from fastpipe.decode.pillow import pixels
from fastpipe.errors import BackendError, DataError
from fastpipe.system.files import file_lock, make_dir, replace_file, user_cache_dir
from fastpipe.transforms import RandomResizedCrop
from fastpipe.transforms.specs import Interpolation
from fastpipe.types import Spec

_log = logging.getLogger("fastpipe")

NUM_FILES: Final = 64
_FILTERS: Final[tuple[Interpolation, ...]] = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_NO_LIMIT: Final = 1 << 40


@lru_cache(maxsize=1)
def fault() -> str:
    """Why the module must not serve "exact" here, "" if it may. Compares if no answer is stored."""
    try:
        path = user_cache_dir() / "turbo" / f"{_key()}.json"
        found = _stored(path)
        if found is None:
            make_dir(path.parent)
            with file_lock(path.with_suffix(".lock")):
                found = _stored(path)
                if found is None:
                    found = differences()
                    entry = json.dumps({"fault": found, "versions": _versions()}).encode()
                    replace_file(str(path), lambda file: _write(file, entry))
    except BackendError as error:
        return str(error)
    except (OSError, DataError) as error:
        _log.info(
            "the comparison of turbo with Pillow cannot be stored, so every process makes it: %s", error
        )
        found = differences()
    return found


def differences() -> str:
    """What differs between the module and Pillow over `files`, "" if nothing does. 0.1 s."""
    worker, statuses = new_worker(), open_native().STATUSES
    for number, data in enumerate(files()):
        image = decode_rgb(data)
        size, filter_name = (40 + number % 5, 60 - number % 7), _FILTERS[number % len(_FILTERS)]
        cropped = RandomResizedCrop(size=size, interpolation=filter_name)
        draws = np.random.default_rng(number).random((1, 22))
        specs: tuple[Spec | None, ...] = (None, cropped)
        for spec in specs:
            expected = pixels(crop_and_resize(image, spec, draws[0].tolist()))
            found = np.empty_like(expected)
            step = step_of(spec)
            if step is None:
                return f"turbo has no form of {spec}"
            (status,) = worker.fill_bytes([data], step, draws, found[None], _NO_LIMIT)
            if statuses[status] == "done" and not np.array_equal(found, expected):
                return _words(number, spec, found, expected)
    return ""


def _words(number: int, spec: Spec | None, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> str:
    levels = int(np.abs(found.astype(np.int16) - expected).max())
    what = "decoded" if spec is None else "cropped and resized"
    return (
        f"its pixels are not those of the installed Pillow ({_versions()}): up to {levels} levels in "
        f"generated file {number}, {what}"
    )


def files() -> list[bytes]:
    """64 JPEGs: samplings that Pillow writes, grey, odd sizes, progressive, several qualities, restarts."""
    rng = np.random.default_rng(14)
    return [_file(rng, number) for number in range(NUM_FILES)]


def _file(rng: np.random.Generator, number: int) -> bytes:
    height, width = (int(side) for side in rng.integers(1 if number % 9 == 0 else 33, 100, 2))
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack(
        [np.sin(x / (3 + c + number % 7) + y / (4 + number % 5)) * 90 for c in range(3)], axis=-1
    )
    levels = waves + 128 + rng.normal(0, 8, waves.shape)
    image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    if number % 8 == 7:
        image = image.convert("L")
    options: dict[str, Any] = {"quality": (95, 75, 30, 100)[number // 3 % 4], "subsampling": number % 3}
    if number % 5 == 3:
        options["progressive"] = True
    if number % 7 == 2:
        options["restart_marker_blocks"] = 3
    if number % 4 == 1:
        options["optimize"] = True
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def _versions() -> str:
    jpeg = features.version_feature("libjpeg_turbo")
    library = f"libjpeg-turbo {jpeg}" if jpeg else f"libjpeg {features.version('jpg')}"
    return f"{PIL.__version__}, {library}"


def _key() -> str:
    native = open_native()
    parts = [_digest(Path(str(module.__file__))) for module in (native, _imaging)]
    facts = [_versions(), native.used_simd(), *parts]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stored(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["fault"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _write(file: BinaryIO, entry: bytes) -> None:
    file.write(entry)
