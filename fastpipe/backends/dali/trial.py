"""Whether DALI's GPU decoding works here: tried once, in a separate process, before it is used.

nvImageCodec 0.9.0 fails to decode a region on an A100 and ends the process on H100 and B200; DALI 2.4 needs
that version. So each form (a region; the whole frame, then a slice) decodes 64 images next to the CPU's
decoder, and a form that fails, crashes, hangs or gives other pixels is not used. The answer is stored by
device, driver and wheels.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
import torch
from PIL import Image

from fastpipe.errors import DataError
from fastpipe.system.files import file_lock, make_dir, replace_file, user_cache_dir
from fastpipe.system.proc import text

_log = logging.getLogger("fastpipe")

MixedForm = Literal["region", "whole"]
FORMS: Final[tuple[MixedForm, ...]] = ("region", "whole")
TIMEOUT_S: Final = 60.0
NUM_IMAGES: Final = 64
# Limits for each image, compared with the CPU's decoder, as stated in docs/conformance.md.
MAX_MEAN: Final = 1.0  # levels
MAX_SHARE: Final = 0.01  # the share of bytes that may be more than 8 levels off
_WHEELS = re.compile(r"nvidia-(dali|nvimgcodec|nvjpeg)")
_answers: dict[tuple[MixedForm, int], str] = {}


def mixed_form(device: int) -> tuple[MixedForm | None, dict[str, str]]:
    """The first form that works on this device, or None; and why those before it do not. Warns about them."""
    reasons: dict[str, str] = {}
    for form in FORMS:
        reason = refusal_of(form, device)
        if not reason:
            return form, reasons
        reasons[form] = reason
    return None, reasons


def refusal_of(
    form: MixedForm,
    device: int,
    *,
    run: Callable[[MixedForm, int], str] | None = None,
    key: str | None = None,
) -> str:
    """Why this form must not be used on this device, "" if it may. Runs the trial if no answer is stored.

    run: the trial, `try_form`. key: what the answer depends on, else device, driver and wheels.
    """
    if run is None and (known := _answers.get((form, device))) is not None:
        return known
    if run is None and not torch.cuda.is_available():
        _answers[form, device] = "torch finds no CUDA device"
        _log.warning("DALI decodes on the CPU: torch finds no CUDA device")
        return _answers[form, device]
    digest = hashlib.sha256(f"{form} {key or _machine(device)}".encode()).hexdigest()[:24]
    path = user_cache_dir() / "dali_mixed" / f"{digest}.json"
    answer = _stored(path)
    if answer is None:
        answer = _tried(path, form, device, run or try_form)
    if answer:
        _log.warning(
            "DALI does not decode on the GPU in the form %r; the next form or the CPU serves: %s "
            "(kept in %s; delete that file to try again)",
            form,
            answer,
            path,
        )
    if run is None:
        _answers[form, device] = answer
    return answer


def _tried(path: Path, form: MixedForm, device: int, run: Callable[[MixedForm, int], str]) -> str:
    """Try it under a lock, so that only one rank tries, and store the answer if possible."""
    try:
        make_dir(path.parent)
        with file_lock(path.with_suffix(".lock")):
            answer = _stored(path)
            if answer is None:
                answer = run(form, device)
                entry = json.dumps({"form": form, "answer": answer}).encode()
                replace_file(str(path), lambda file: _write(file, entry))
            return answer
    except (OSError, DataError) as error:
        _log.warning("the trial of DALI's GPU decoding cannot be stored, so every process runs it: %s", error)
        return run(form, device)


def _write(file: BinaryIO, entry: bytes) -> None:
    file.write(entry)


def _stored(path: Path) -> str | None:
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def _machine(device: int) -> str:
    """The key of an answer: everything that it depends on."""
    wheels = sorted(
        f"{name} {found.version}"
        for found in importlib.metadata.distributions()
        if _WHEELS.match(name := str(found.name).lower().replace("_", "-"))
    )
    name = torch.cuda.get_device_name(device) if torch.cuda.is_available() else "no device"
    driver = text(Path("/proc/driver/nvidia/version")) or torch.version.cuda
    return json.dumps([name, driver, wheels])


def try_form(
    form: MixedForm, device: int, *, command: Sequence[str] | None = None, timeout_s: float = TIMEOUT_S
) -> str:
    """Decode 64 images in another process; "" if they match the CPU's, else what went wrong.

    command: what to start instead of this module, for tests.
    """
    arguments = [sys.executable, "-P", "-m", __name__] if command is None else list(command)
    try:
        done = subprocess.run(
            [*arguments, form, str(device)], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the trial took longer than {timeout_s:g} s"
    except OSError as error:
        return f"the trial could not start: {error}"
    if done.returncode < 0:
        return f"the trial's process was ended by signal {-done.returncode}"
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return f"the trial failed: {(lines or ['it gave no reason'])[-1][:200]}"
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        num, mean, share = int(found["images"]), float(found["mean"]), float(found["share"])
    except (ValueError, KeyError, TypeError, IndexError):
        return "the trial ended without a result"
    if num != NUM_IMAGES or not (mean <= MAX_MEAN and share <= MAX_SHARE):
        return f"its pixels differ: {mean:.2f} levels in the mean, {share:.2%} of the bytes by more than 8"
    return ""


def photos() -> list[bytes]:
    """64 JPEGs of the common samplings, 60 to 400 pixels a side."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(NUM_IMAGES):
        height, width = (int(side) for side in rng.integers(60, 401, 2))
        y, x = np.mgrid[0:height, 0:width]
        waves = np.stack([np.sin(x / (9 + c + i % 7) + y / (11 + i % 5)) * 70 + 120 for c in range(3)], -1)
        buffer = io.BytesIO()
        image = Image.fromarray((waves + rng.normal(0, 4, waves.shape)).clip(0, 255).astype(np.uint8))
        image.save(buffer, "JPEG", quality=90, subsampling=i % 3)
        made.append(buffer.getvalue())
    return made


def compare(form: MixedForm, device: int) -> dict[str, Any]:
    """The worst mean, and the worst share of bytes more than 8 levels off, of boxes of 64 images."""
    from fastpipe.backends.dali.pipeline import Graph, Runner
    from fastpipe.backends.dali.samples import jpeg_size

    files = photos()
    sizes = np.array([jpeg_size(data) for data in files], dtype=np.int32)
    start, shape = sizes // 5, sizes // 2
    inputs = ([np.frombuffer(data, np.uint8) for data in files], start, shape)
    images = []
    for graph in (Graph(), Graph(mixed=form, device=device)):
        runner = Runner(graph, batch_size=len(files), threads=1, depth=1)
        runner.provide = iter([inputs]).__next__
        runner.submit()
        made = runner.result()
        made = made.as_cpu() if hasattr(made, "as_cpu") else made
        images.append([np.asarray(made[i]).astype(np.int16) for i in range(len(files))])
    off = [np.abs(one - other) for one, other in zip(*images, strict=True)]
    means, shares = [float(one.mean()) for one in off], [float((one > 8).mean()) for one in off]
    return {"images": len(off), "mean": max(means), "share": max(shares)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compare(sys.argv[1], int(sys.argv[2]))) + "\n")  # type: ignore[arg-type]
