"""Whether the fused engine may serve on a CUDA device: determined once per process and device.

    start: driver, kernels compiled, loaded --fails--> torch serves: "could not start"
    check: pixels against the CPU kernels   --differ-> torch serves: "does not give the CPU kernels' pixels"
                                            --raises-> the caller's error; nothing counts as checked

A successful check is recorded on disk, next to the kernels, for this device with this driver, torch and
source; the next process only starts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

_log = logging.getLogger(__name__)

_doubts: dict[torch.device, str] = {}
_turn = threading.Lock()
_DRIVER_FILE = Path("/sys/module/nvidia/version")


def doubt(device: torch.device, differences: Callable[[], str]) -> str:
    """Why the fused engine may not serve on `device`, in words; empty if it may.

    differences: compares it with the CPU kernels and says what differs, or nothing. Its exceptions go to the
    caller: out of memory, or an error of the device or of ours, says nothing about pixels.
    """
    with _turn:
        found = _doubts.get(device)
        if found is None:
            found = _examined(device, differences)
            _doubts[device] = found
        return found


def known_doubt(device: torch.device) -> str | None:
    """As `doubt`, but without a check: None if this process has no answer yet."""
    return _doubts.get(device)


def forget() -> None:
    """Forget the answers of this process."""
    _doubts.clear()


def _examined(device: torch.device, differences: Callable[[], str]) -> str:
    from fastpipe.kernels.cuda.driver import DriverError

    reason = _start(device)
    if reason:
        return f"could not start: {reason}"
    record = record_file(device)
    if record.is_file():
        return ""
    try:
        found = differences()
    except DriverError as error:  # a kernel that this driver or device refuses
        if error.sticky:
            raise
        return f"could not start: {error}"
    if found:
        return f"does not give the CPU kernels' pixels: {found}"
    _remember(device, record)
    return ""


def _start(device: torch.device) -> str:
    """Why driver and kernels do not start, in words; empty if they do."""
    from fastpipe.kernels.cuda.driver import Driver, DriverError

    try:
        Driver.shared()
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    # Outside the block below: if torch has no device, no engine has one.
    torch.cuda.get_device_capability(device)
    try:
        from fastpipe.kernels.cuda.ops import load_kernels

        load_kernels(device)
    except torch.OutOfMemoryError:
        raise
    except DriverError as error:
        if error.sticky:
            raise
        return str(error)
    except (RuntimeError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def record_file(device: torch.device) -> Path:
    """The file that records a successful check of `device`."""
    from fastpipe.kernels.cuda.cache import kernel_folder

    facts = _facts(device)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return kernel_folder(torch.cuda.get_device_capability(device)) / f"checked-{digest}.json"


def _facts(device: torch.device) -> dict[str, str]:
    from fastpipe.kernels.cuda.cache import kernel_hash
    from fastpipe.kernels.cuda.driver import Driver

    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "uuid": str(getattr(properties, "uuid", "")),
        "cuda_of_driver": str(Driver.shared().version()),
        "driver": _DRIVER_FILE.read_text().strip() if _DRIVER_FILE.is_file() else "",
        "kernels": kernel_hash(),
        "engine": _engine_hash(),
        "torch": torch.__version__,
    }


@cache
def _engine_hash() -> str:
    """A hash of the whole device room: draws and engines make a batch together."""
    room = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(room.rglob("*.py")):
        digest.update(path.relative_to(room).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _remember(device: torch.device, record: Path) -> None:
    try:
        record.write_text(json.dumps(_facts(device), indent=1) + "\n", encoding="utf-8")
    except OSError as error:  # ptx_files has warned that the folder cannot be written
        _log.info("the self-check on %s is not remembered (%s): the next process repeats it", device, error)
