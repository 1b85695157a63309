"""Versions, the global lock, and whether the JPEG decoder uses vector instructions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import PIL
import PIL.features
import torch

from fastpipe.installed import VERSION

_PACKAGES = (
    *("torch", "torchvision", "pillow", "pillow-simd", "numpy", "numba", "numba-cuda"),
    *("ffcv", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110", "opencv-python", "kornia"),
    "timm",
)
# Below this gain the vector code is missing: it brought 1.5 on an AMD EPYC.
_SIMD_GAIN = 1.15
_DECODE = """
import io, random, time
from PIL import Image
random.seed(0)
image = Image.frombytes("RGB", (64, 64), random.randbytes(64 * 64 * 3)).resize((1024, 768))
file = io.BytesIO()
image.save(file, "JPEG", quality=90)
best = 1e9
for _ in range(20):
    start = time.process_time()
    Image.open(file).load()
    best = min(best, time.process_time() - start)
print(best)
"""


def software_facts() -> dict[str, Any]:
    """Versions of the software involved; packages that are not installed are left out of `packages`."""
    turbo = PIL.features.version_feature("libjpeg_turbo")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "gil": gil_state(),
        "packages": {"fastpipe": VERSION} | {name: found for name in _PACKAGES if (found := _version(name))},
        "pillow_jpeg": f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {PIL.features.version('jpg')}",
        "torchvision_jpeg": _torchvision_jpeg(),
        "torch_cuda": torch.version.cuda,
        "torch_vectors": torch.backends.cpu.get_cpu_capability(),
        "preloaded": os.environ.get("LD_PRELOAD") or None,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def gil_state() -> str:
    """ "on", "off" in a free-threaded Python, or "on in a free-threaded build"."""
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    if not enabled:
        return "off"
    return "on in a free-threaded build" if sysconfig.get_config_var("Py_GIL_DISABLED") else "on"


def _torchvision_jpeg() -> bool:
    """Whether torchvision.io can decode JPEGs here."""
    from torchvision.io import image

    return bool(image._has_image_ops())


def jpeg_simd_gain(environment: Mapping[str, str] = os.environ) -> float | None:
    """How much faster Pillow decodes with libjpeg-turbo's vector code than without it; None if not measured.

    libjpeg-turbo leaves it out under JSIMD_FORCENONE=1, so the same decoding runs in two processes.
    """
    plain = {name: value for name, value in environment.items() if not name.startswith("JSIMD_")}
    seconds = [_decode_seconds({**plain, **extra}) for extra in ({}, {"JSIMD_FORCENONE": "1"})]
    fast, slow = seconds
    return None if fast is None or slow is None else slow / max(fast, 1e-9)


def _decode_seconds(environment: dict[str, str]) -> float | None:
    command = [sys.executable, "-c", _DECODE]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return float(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def software_notes(facts: dict[str, Any]) -> list[str]:
    """Software that makes decoding slower than necessary."""
    notes = []
    gain = facts.get("jpeg_simd_gain")
    if "turbo" not in facts["pillow_jpeg"]:
        notes.append(
            "Pillow is built without libjpeg-turbo; pip's wheels include it, and decode 2 to 4 times as fast."
        )
    elif gain is not None and gain < _SIMD_GAIN:
        notes.append(
            f"libjpeg-turbo's vector code brings {gain:.2f}x here, so it is missing or switched off "
            "(a build without nasm, JSIMD_FORCENONE?)."
        )
    if facts["gil"] == "on in a free-threaded build":
        notes.append("This Python is free-threaded, but an extension has switched the global lock on.")
    return notes
