"""A sample of the data set's files: sizes, pixels, kinds of JPEG, and what cannot be decoded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from fastpipe.decode import read
from fastpipe.errors import SampleError
from fastpipe.storage.image import open_image, to_rgb

# At least this many files are inspected, however slow the disk is.
_LEAST = 16
_PERCENTILES = (1, 25, 50, 75, 99)
# Sum of the luminance table of ITU-T T.81, K.1, which a quality scales (libjpeg, jcparam.c).
_LUMINANCE_SUM = 3688
_SAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}


def file_facts(paths: Sequence[str], *, seconds: float) -> dict[str, Any]:
    """Facts of as many of `paths` as can be decoded in `seconds`, at least 16.

    Percentiles of bytes and pixels; counts of formats, samplings and JPEG kinds; `broken` cannot be decoded,
    `first_broken` says why. quality: median of the IJG scale, from the luminance table.
    """
    sizes: list[int] = []
    pixels: list[int] = []
    counts: Counter[tuple[str, str]] = Counter()
    qualities: list[float] = []
    broken: list[SampleError] = []
    end_s = time.perf_counter() + seconds
    tried = 0
    for path in paths:
        if tried >= _LEAST and time.perf_counter() > end_s:
            break
        tried += 1
        try:
            data = read(path)
            image = open_image(data, path)
            counts.update(_kinds(image))
            qualities += _quality(image)
            pixels.append(image.width * image.height)
            sizes.append(len(data))
            to_rgb(image, path)
        except SampleError as error:
            broken.append(error)
    return {
        "sampled": tried,
        "bytes": _percentiles(sizes),
        "pixels": _percentiles(pixels),
        "formats": _counted(counts, "format"),
        "samplings": _counted(counts, "sampling"),
        "progressive": counts["jpeg", "progressive"],
        "cmyk": counts["jpeg", "cmyk"],
        "grey": counts["jpeg", "grey"],
        "quality": float(np.median(qualities)) if qualities else None,
        "broken": len(broken),
        "first_broken": str(broken[0]) if broken else None,
    }


def _kinds(image: Image.Image) -> list[tuple[str, str]]:
    found = [("format", image.format or "unknown")]
    if image.format not in ("JPEG", "MPO"):
        return found
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    found += [("jpeg", "progressive")] if image.info.get("progressive") else []
    found += [("jpeg", "cmyk")] if image.mode == "CMYK" else []
    if len(layers) == 1:
        return [*found, ("jpeg", "grey"), ("sampling", "grey")]
    across, down = layers[0][1], layers[0][2]
    least = min(layer[1] for layer in layers), min(layer[2] for layer in layers)
    name = _SAMPLINGS.get((across // least[0], down // least[1]), "other")
    return [*found, ("sampling", name)]


def _quality(image: Image.Image) -> list[float]:
    table = getattr(image, "quantization", {}).get(0)
    if not table:
        return []
    scale = 100 * sum(table) / _LUMINANCE_SUM
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return [min(100.0, max(1.0, quality))]


def _percentiles(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    found = np.percentile(values, _PERCENTILES).tolist()
    named = {f"p{percent}": value for percent, value in zip(_PERCENTILES, found, strict=True)}
    return {"mean": float(np.mean(values)), **named}


def _counted(counts: Counter[tuple[str, str]], group: str) -> dict[str, int]:
    return {name: num for (kind, name), num in counts.most_common() if kind == group}


def file_notes(facts: dict[str, Any]) -> list[str]:
    """Files that cost more, or that stop a run."""
    notes = []
    sampled = max(1, facts["sampled"])
    if facts["broken"]:
        notes.append(
            f"{facts['broken']} of {sampled} sampled files cannot be decoded; the first: "
            f"{facts['first_broken']}"
        )
    if facts["progressive"] / sampled >= 0.05:
        notes.append(
            f"{facts['progressive'] / sampled:.0%} of the files are progressive JPEGs, which decode at a "
            "third of the speed: jpegtran (without -progressive) rewrites them without loss."
        )
    if facts["cmyk"]:
        notes.append(f"{facts['cmyk']} sampled files are CMYK: only Pillow's conversion handles them.")
    return notes
