"""The version that PTX names in its first line: the lowest its target allows, so old drivers accept it.

A driver refuses PTX of a later version than its own CUDA's, whatever the instructions are. NVVM writes its
own version, 9.0 for CUDA 13.0, which needs driver 580 even for a GPU that an older driver serves.
"""

from __future__ import annotations

import re

LOWEST = {
    75: (6, 3),
    80: (7, 0),
    86: (7, 1),
    87: (7, 4),
    89: (7, 8),
    90: (7, 8),
    100: (8, 6),
    103: (8, 8),
    120: (8, 7),
    121: (8, 8),
}
"""By target (sm_75 is 75): the first version that ptxas takes for it. A driver for such a GPU knows it."""


def with_lowest_version(ptx: str) -> str:
    """The same PTX, its version lowered. A target that is not in `LOWEST` keeps the compiler's."""
    version = re.search(r"^\.version (\d+)\.(\d+)$", ptx, re.MULTILINE)
    target = re.search(r"^\.target sm_(\d+)\b", ptx, re.MULTILINE)
    if version is None or target is None:
        raise RuntimeError(f"PTX must begin with .version and .target. Found: {ptx[:200]!r}")
    written = int(version[1]), int(version[2])
    lowest = min(LOWEST.get(int(target[1]), written), written)
    return f"{ptx[: version.start()]}.version {lowest[0]}.{lowest[1]}{ptx[version.end() :]}"
