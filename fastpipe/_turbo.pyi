"""The native module: JPEG crops with libjpeg-turbo's pixels, resized with Pillow's.

Sources: fastpipe/decode/native. Where there was no compiler, the module is missing.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

STATUSES: tuple[str, ...]
"""What became of one image, by its number: "done" is 0; every other one hands the image to Pillow."""

INTERFACE: int
"""Of the functions below: a module that an older source was compiled to has another one, or none."""

class Step:
    """A decode step: RandomResizedCrop ("resized_crop"), ResizeCrop ("resize_crop"), or none ("whole").

    tall_rows_first: the resize's order of passes; Pillow has it since 13.0, where the height shrinks most.
    fast: decode at 1/2, 1/4 or 1/8 where the result is smaller by that; such pixels are not Pillow's.
    """

    def __init__(
        self,
        kind: Literal["whole", "resized_crop", "resize_crop"],
        *,
        size: tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 4 / 3),
        resize: int | tuple[int, int] | None = None,
        crop: tuple[int, int] | None = None,
        where: Literal["center", "random"] = "center",
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bilinear",
        tall_rows_first: bool = True,
        fast: bool = False,
    ) -> None: ...
    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every result; None if it depends on the image."""

    @property
    def num_uniforms(self) -> int:
        """Uniform numbers an image needs: 22, 2 or 0."""

    def boxes(self, sizes: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """draw_box for each (height, width): int64 [N,4] of top, left, height, width. ValueError as there, or
        for a box without pixels."""

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size to which ResizeCrop resizes a whole image."""

class Worker:
    """One thread's decoder and resizer, which keep their memory. The arrays' rows belong to the images.

    uniforms: float64 [N,K] in [0, 1), K = step.num_uniforms (ignored where that is 0). images: writeable,
    C-contiguous uint8 [N,H,W,3], of the step's size; where the step has none, images of another size get the
    status "crop". A row whose status is not "done" has undefined pixels. An exception means wrong arguments.
    """

    def __init__(self) -> None: ...
    def fill(
        self,
        files: list[bytes],
        file: npt.NDArray[np.int64],
        offset: npt.NDArray[np.int64],
        length: npt.NDArray[np.int64],
        step: Step,
        uniforms: npt.NDArray[np.float64],
        images: npt.NDArray[np.uint8],
        max_pixels: int,
    ) -> npt.NDArray[np.uint8]:
        """Read, decode, crop and resize without the GIL; returns the statuses.

        Image i is `length[i]` bytes (-1: to the end) from `offset[i]` of `files[file[i]]`, a path as
        os.fsencode gives it.
        """

    def fill_bytes(
        self,
        data: Sequence[Buffer],
        step: Step,
        uniforms: npt.NDArray[np.float64],
        images: npt.NDArray[np.uint8],
        max_pixels: int,
        *,
        sizes: npt.NDArray[np.int64] | None = None,
        opened: bool = False,
    ) -> npt.NDArray[np.uint8]:
        """The same for bytes at hand.

        sizes: (height, width) of each as a table has it, (0, 0) unknown. opened: Pillow read each header.
        """

    def measure(
        self,
        data: Buffer,
        step: Step,
        uniforms: npt.NDArray[np.float64],
        max_pixels: int,
        *,
        opened: bool = False,
    ) -> tuple[int, int, int]:
        """(status, height, width) of one image's result, from its header and `uniforms` [K]."""

    def seconds(self) -> tuple[float, float, float]:
        """Seconds spent reading, decoding and resizing since the last call.

        Decoding contains the passes of the resize that run as rows arrive.
        """

def decode(
    data: Buffer, region: tuple[int, int, int, int] | None = None, max_pixels: int = ...
) -> tuple[int, npt.NDArray[np.uint8] | None]:
    """(status, uint8 [H,W,3]) of a region (left, top, width, height), or of the whole image: for tests."""

class Resizer:
    """Pillow's resize, for tests and benchmarks."""

    def __init__(self) -> None: ...
    def resize(
        self,
        image: npt.NDArray[np.uint8],
        size: tuple[int, int],
        window: tuple[int, int, int, int],
        filter: int,
        ahead: int = 1,
        tall_rows_first: bool = True,
    ) -> npt.NDArray[np.uint8]:
        """The window (left, top, width, height) of an image [H,W,3 or 4] resized to (height, width): [H,W,3].

        filter: 0 nearest, 1 bilinear, 2 bicubic, 3 box, 4 hamming, 5 lanczos. ahead: rows at a time.
        ValueError where the native code leaves a resize to Pillow.
        """

def pillow_opens(data: Buffer) -> bool:
    """Whether Pillow opens the file without an error or a warning, by its segments: for tests."""

def use_simd(simd: int) -> None:
    """For the whole process: 0 scalar, 1 AVX2, 2 NEON. Ignored where the machine lacks it."""

def used_simd() -> int:
    """The instruction set in use."""

def best_simd() -> int:
    """The best instruction set of the machine."""
