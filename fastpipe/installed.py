"""Which distribution this package came in, and whether another project's `fastpipe` is in the same place.

PyPI has a distribution `fastpipe` that is not ours and installs a package with the same import name. If both
are installed, the later one has overwritten files of the earlier one, or the editable one is hidden.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Final

from fastpipe.errors import NameClashError

__all__ = ["VERSION"]

DISTRIBUTION: Final = "fastpipe-vision"
_OLD: Final = "fastpipe"  # our own name up to 0.1.0; on PyPI it belongs to the other project
_OUR_COMMAND: Final = "fastpipe-train"  # marks our old installs; the other project has no commands
_FOLDER: Final = os.path.dirname(os.path.realpath(__file__))


def find_version(path: Sequence[str], *, folder: str = _FOLDER, imported: str | None = None) -> str:
    """The version of the installed distribution; "unknown" for a bare folder that nothing installed.

    path: where distributions are searched, like sys.path. folder: where this package is. imported: the file
    that `import fastpipe` gave, if known. Raises NameClashError if the other project is in the way.
    """
    ours, old = _named(DISTRIBUTION, path), _named(_OLD, path)
    ours += [found for found in old if _is_ours(found)]
    places = {os.path.realpath(folder + "/.."), *(_place(found) for found in ours[:1])}
    for other in old:
        if not _is_ours(other) and _place(other) in places:
            raise NameClashError(f"the distribution {_OLD!r} {other.version} in {_place(other)!r}")
    if imported is not None and os.path.dirname(os.path.realpath(imported)) != folder:
        raise NameClashError(f"the package that `import fastpipe` finds, {imported!r},")
    return ours[0].version if ours else "unknown"


def _named(name: str, path: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """The installed distributions of a name, in search order. An empty folder that pip left does not count.

    A listing of each folder, which importlib keeps: under a millisecond.
    """
    found = importlib.metadata.distributions(name=name, path=list(path))
    return [one for one in found if one.read_text("METADATA") or one.read_text("PKG-INFO")]


def _is_ours(found: importlib.metadata.Distribution) -> bool:
    return any(point.name == _OUR_COMMAND for point in found.entry_points)


def _place(found: importlib.metadata.Distribution) -> str:
    return os.path.realpath(str(found.locate_file("")))


VERSION: Final = find_version(sys.path, imported=getattr(sys.modules.get("fastpipe"), "__file__", None))
