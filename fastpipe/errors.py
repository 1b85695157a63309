"""Every error fastpipe raises on purpose.

FastpipeError
├── DataError            the data on disk is not what was asked for    (also a ValueError)
│   ├── EmptyDatasetError    no folder, no class folder, no image
│   └── SampleError          one sample cannot be read or decoded; carries its path and id
├── ArgumentError        an argument is wrong: name, allowed, found, remedy  (also a ValueError)
├── MissingExtraError    an optional package is absent; prints the pip or apt command (also an ImportError)
├── NameClashError       another project's `fastpipe` is installed in the same place  (also an ImportError)
├── LiftError            strict_lift=True, and something cannot be lifted  (also a RuntimeError)
├── BackendError         a backend failed or cannot serve the plan     (also a RuntimeError)
├── DefaultDeviceError   the script's default device breaks a draw     (also a RuntimeError)
└── StateError           a saved state does not fit this loader        (also a RuntimeError)

NoEffectWarning (a UserWarning): an argument, or a method of a recipe, changes nothing here.
LiftWarning (a UserWarning): a sample broke a condition of lifting, which ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from fastpipe.extras import install_command

__all__ = [
    "ArgumentError",
    "BackendError",
    "DataError",
    "DefaultDeviceError",
    "EmptyDatasetError",
    "FastpipeError",
    "LiftError",
    "LiftWarning",
    "MissingExtraError",
    "NameClashError",
    "NoEffectWarning",
    "SampleError",
    "StateError",
    "nearest",
]


class FastpipeError(Exception):
    """Base of all errors that fastpipe raises on purpose."""


class ArgumentError(FastpipeError, ValueError):
    """An argument is wrong. The message names it, what is allowed, what was found and the remedy."""


class DataError(FastpipeError, ValueError):
    """The data on disk is not what was asked for."""


class EmptyDatasetError(DataError, FileNotFoundError):
    """There is no folder, no class folder or no image where a data set was expected."""


class SampleError(DataError, OSError):
    """One sample cannot be read or decoded. Also an OSError, which is what Pillow raises.

    lasting: the bytes are at fault, so a quarantine list may hold the sample; False for a failing disk or
    mount, and for a crop that does not fit.
    """

    def __init__(self, message: str, *, path: str = "", sample_id: int = -1, lasting: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.sample_id = sample_id
        self.lasting = lasting

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the fields when a worker process sends the error to its parent."""
        return _rebuild_sample_error, (self.message, self.path, self.sample_id, self.lasting)


def _rebuild_sample_error(message: str, path: str, sample_id: int, lasting: bool) -> SampleError:
    return SampleError(message, path=path, sample_id=sample_id, lasting=lasting)


class MissingExtraError(FastpipeError, ImportError):
    """An optional package is absent. The message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: {install_command(extra)}"
        )
        self.package = package
        self.extra = extra
        self.purpose = purpose

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the three fields, not from the joined message."""
        return MissingExtraError, (self.package, self.extra, self.purpose)


class NameClashError(FastpipeError, ImportError):
    """Another project's package `fastpipe` is installed in the same place. found: what was found of it."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"{found} belongs to another project with the same import name: each overwrites or hides "
            "files of the other. This package is the distribution 'fastpipe-vision'. Remove both, with: "
            "pip uninstall fastpipe fastpipe-vision. Then install this one again in its checkout, with: "
            "pip install ."
        )
        self.found = found

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from what was found, not from the message."""
        return NameClashError, (self.found,)


class LiftError(FastpipeError, RuntimeError):
    """strict_lift=True: nothing can be lifted, or a sample broke a condition. The message says which."""


class BackendError(FastpipeError, RuntimeError):
    """A backend failed, or cannot serve the plan it was asked to serve."""


class DefaultDeviceError(FastpipeError, RuntimeError):
    """`torch.set_default_device` prevents a sampler from drawing its ids."""


class StateError(FastpipeError, RuntimeError):
    """A saved loader state does not fit this loader, or the loader cannot be resumed mid-epoch."""


class LiftWarning(UserWarning):
    """A sample broke a condition of lifting: this batch and all later ones are made as torch makes them."""


class NoEffectWarning(UserWarning):
    """An argument, or a method of a recipe, changes nothing here. The message names it and says why."""


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at the nearest known name, or an empty string."""
    found = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""
