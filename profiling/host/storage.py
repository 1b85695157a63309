"""The storage of a path: file system, device, and whether that is a disk, flash, a network or memory.

/proc/self/mountinfo as in man 5 proc_pid_mountinfo; devices as in Documentation/ABI/stable/sysfs-block.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpipe.system.proc import ROOT, lines, number

_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "lustre", "gpfs", "beegfs", "afs", "glusterfs"),
    *("9p", "virtiofs", "wekafs", "panfs", "pvfs2", "orangefs"),
}
_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    point: str
    device: str
    fstype: str
    source: str


def storage_facts(path: str, root: Path = ROOT) -> dict[str, Any]:
    """File system and device of `path`.

    kind: "memory", "network", "overlay", "nvme", "flash", "rotational" or "unknown"; rotational is what the
    kernel says of the device, None without a device.
    """
    where = os.path.realpath(path)
    mount = _mount_of(where, root)
    if mount is None:
        empty = dict.fromkeys(("mount", "filesystem", "source", "device", "rotational"))
        return {"path": where, **empty, "kind": "unknown"}
    device = _block_device(mount, root)
    rotational = None if device is None else _rotational(device)
    return {
        "path": where,
        "mount": mount.point,
        "filesystem": mount.fstype,
        "source": mount.source,
        "device": None if device is None else device.name,
        "rotational": rotational,
        "kind": _kind(mount.fstype, device, rotational),
    }


def _kind(fstype: str, device: Path | None, rotational: bool | None) -> str:
    if fstype in _MEMORY:
        return "memory"
    if fstype in _NETWORK or fstype.startswith("fuse."):
        return "network"
    if fstype == "overlay":
        return "overlay"
    if device is None or rotational is None:
        return "unknown"
    if device.name.startswith("nvme"):
        return "nvme"
    return "rotational" if rotational else "flash"


def _mount_of(where: str, root: Path) -> _Mount | None:
    """The mount with the longest point above `where`; of several on one point the last."""
    best: _Mount | None = None
    for line in lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 2:
            continue
        mount = _Mount(
            point=_unescaped(fields[4]), device=fields[2], fstype=kinds[0], source=_unescaped(kinds[1])
        )
        inside = where == mount.point or where.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


def _block_device(mount: _Mount, root: Path) -> Path | None:
    """The /sys folder of the whole device below the mount; a partition's disk, a mapper's first part."""
    by_number = root / "sys/dev/block" / mount.device
    # btrfs and zfs have a device number of their own; the source still names one of the disks.
    by_name = root / "sys/class/block" / Path(mount.source).name
    folder = next((place for place in (by_number, by_name) if place.exists()), None)
    if folder is None:
        return None
    folder = folder.resolve()
    if (folder / "partition").exists():
        folder = folder.parent
    for _ in range(4):  # encryption on a volume on a RAID on a disk
        parts = sorted((folder / "slaves").glob("*"))
        if not parts:
            break
        folder = parts[0].resolve()
        if (folder / "partition").exists():
            folder = folder.parent
    return folder


def _rotational(device: Path) -> bool | None:
    found = number(device / "queue/rotational")
    return None if found is None else found == 1


def storage_notes(facts: dict[str, Any]) -> list[str]:
    """The meaning of the kind for random reads."""
    kind, device = facts["kind"], facts["device"]
    if kind == "network":
        return ["The data lies on a network: its speed depends on the server and on its other users."]
    if kind == "overlay":
        return ["The data lies in a container's overlay; the disk below its layers is not visible here."]
    if kind == "rotational" and str(device).startswith("vd"):
        return [
            f"{device} is virtual: the kernel calls it rotational, but only reading shows how fast it is."
        ]
    if kind == "rotational":
        return ["A rotating disk seeks for every file: a .beton read in page order avoids that."]
    return []
