"""CPU, memory, storage and GPU probes on made-up /proc and /sys trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastpipe.profiling.host.cpu import cpu_facts, cpu_notes
from fastpipe.profiling.host.gpu import gpu_facts, gpu_notes
from fastpipe.profiling.host.memory import memory_facts, memory_notes
from fastpipe.profiling.host.storage import storage_facts, storage_notes

GIB = 1 << 30


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def cpu_tree(root: Path, threads: int = 2) -> Path:
    """One socket of 4 cores with `threads` threads each, numbered as Linux does."""
    files = {
        "proc/cpuinfo": "processor : 0\nmodel name : Imagined 9000\nflags : fpu sse4_2 avx2\n",
        "sys/devices/system/cpu/online": f"0-{4 * threads - 1}\n",
        "sys/devices/system/cpu/smt/active": f"{int(threads > 1)}\n",
        "sys/devices/system/node/node0/cpulist": f"0-{4 * threads - 1}\n",
    }
    for cpu in range(4 * threads):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{folder}/core_id"] = f"{cpu % 4}\n"
        files[f"{folder}/physical_package_id"] = "0\n"
    return plant(root, files)


def test_cores_threads_and_vectors(tmp_path: Path) -> None:
    found = cpu_facts(cpu_tree(tmp_path), affinity=set(range(8)))
    assert (found["model"], found["cores"], found["online"], found["sockets"]) == ("Imagined 9000", 4, 8, 1)
    assert found["smt_active"] is True and found["threads_per_core"] == 2
    assert (found["usable"], found["quota"], found["vectors"]) == (8.0, None, ["avx2", "sse4_2"])
    assert found["numa_nodes"] == {"0": "0-7"}
    (note,) = cpu_notes(found)
    assert "8 CPUs are 4 cores with SMT" in note


def test_without_smt_a_quiet_machine_has_nothing_to_note(tmp_path: Path) -> None:
    found = cpu_facts(cpu_tree(tmp_path, threads=1), affinity={0, 1, 2, 3})
    assert found["smt_active"] is False and found["cores"] == 4
    assert cpu_notes(found) == []


V2 = {"proc/self/cgroup": "0::/pod/box\n", "sys/fs/cgroup/pod/box/cpu.max": "150000 100000\n"}
V1 = {
    "proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/pod/box\n",
    "sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(("files", "version"), [(V2, 2), (V1, 1)])
def test_a_quota_below_nproc_is_found_and_said(tmp_path: Path, files: dict[str, str], version: int) -> None:
    plant(cpu_tree(tmp_path, threads=1), files)
    found = cpu_facts(tmp_path, affinity={0, 1, 2})
    assert (found["quota"], found["quota_version"], found["usable"]) == (1.5, version, 1.5)
    notes = " ".join(cpu_notes(found))
    assert "quota is 1.5 CPUs, but nproc says 3" in notes
    assert "Affinity leaves this process 3 of 4" in notes


def test_an_empty_tree_is_not_an_error(tmp_path: Path) -> None:
    assert cpu_facts(tmp_path, affinity={0})["cores"] is None
    assert storage_facts("/data", tmp_path)["kind"] == "unknown"
    found = memory_facts(tmp_path, usage=_no_shm)
    assert found["total"] is None and "no /dev/shm" in " ".join(memory_notes(found))


def _no_shm(path: Path) -> tuple[int, int, int]:
    raise FileNotFoundError(path)


def test_a_small_shm_and_a_memory_limit_are_said(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\nHugePages_Total:  0\n",
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        },
    )
    found = memory_facts(tmp_path, usage=lambda path: (64 << 20, 1 << 20, 63 << 20))
    assert (found["total"], found["cgroup_limit"], found["shm_free"]) == (8 * GIB, 2 * GIB, 63 << 20)
    assert found["transparent_huge_pages"] == "madvise"
    notes = " ".join(memory_notes(found))
    assert "2.0 of 8.0 GiB" in notes and "63 MiB free" in notes and "--shm-size" in notes


def disk_tree(
    root: Path, device: str, rotational: int, fstype: str = "ext4", partition: bool = False
) -> Path:
    """/data on `device`, as its partition 1 or whole."""
    name = f"{device}p1" if partition else device
    folder = f"sys/devices/block/{device}"
    files = {
        "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/other rw\n"
        f"23 22 259:7 / /data rw,relatime shared:1 - {fstype} /dev/{name} rw\n",
        f"{folder}/queue/rotational": f"{rotational}\n",
        "sys/dev/block/.keep": "",
    }
    if partition:
        files[f"{folder}/{name}/partition"] = "1\n"
    plant(root, files)
    target = root / folder / name if partition else root / folder
    (root / "sys/dev/block/259:7").symlink_to(target)
    return root


@pytest.mark.parametrize(
    ("device", "rotational", "partition", "kind"),
    [
        ("nvme0n1", 0, True, "nvme"),
        ("nvme0n1", 0, False, "nvme"),
        ("sda", 0, False, "flash"),
        ("sda", 1, True, "rotational"),
    ],
)
def test_the_device_below_a_folder(
    tmp_path: Path, device: str, rotational: int, partition: bool, kind: str
) -> None:
    found = storage_facts("/data/train", disk_tree(tmp_path, device, rotational, partition=partition))
    assert (found["mount"], found["filesystem"], found["device"]) == ("/data", "ext4", device)
    assert found["kind"] == kind and found["rotational"] is (rotational == 1)


@pytest.mark.parametrize(
    ("fstype", "kind", "word"),
    [("nfs4", "network", "network"), ("fuse.s3fs", "network", "network"), ("overlay", "overlay", "overlay")],
)
def test_network_and_overlay_are_named(tmp_path: Path, fstype: str, kind: str, word: str) -> None:
    found = storage_facts("/data", disk_tree(tmp_path, "sda", 0, fstype))
    assert found["kind"] == kind and word in " ".join(storage_notes(found))


def test_the_last_and_longest_mount_wins_and_names_are_unescaped(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
            "2 1 0:9 / /my\\040data rw - xfs /dev/sdb rw\n"
            "3 1 0:9 / /my\\040data rw - tmpfs none rw\n"
        },
    )
    assert storage_facts("/my data/train", tmp_path)["kind"] == "memory"
    assert storage_facts("/my database", tmp_path)["filesystem"] == "ext4"


def test_a_mapper_is_followed_to_its_disk(tmp_path: Path) -> None:
    disk_tree(tmp_path, "dm-0", 0)
    disk = tmp_path / "sys/devices/block/nvme1n1"
    plant(tmp_path, {"sys/devices/block/nvme1n1/queue/rotational": "0\n"})
    slaves = tmp_path / "sys/devices/block/dm-0/slaves"
    slaves.mkdir()
    (slaves / "nvme1n1").symlink_to(disk)
    assert storage_facts("/data", tmp_path)["device"] == "nvme1n1"


class FakeCuda:
    """Copies 25 GB/s pinned and 5 GB/s pageable."""

    def count(self) -> int:
        return 1

    def describe(self, device: int) -> dict[str, Any]:
        return {"name": "Imagined GPU", "memory": 80 * GIB, "capability": "9.0", "pci": "0000:1b:00.0"}

    def copy_seconds(self, device: int, num_bytes: int, *, pinned: bool) -> float:
        return num_bytes / (25e9 if pinned else 5e9)


def test_a_gpu_with_its_link_node_and_copies(tmp_path: Path) -> None:
    folder = "sys/bus/pci/devices/0000:1b:00.0"
    plant(
        tmp_path,
        {
            f"{folder}/numa_node": "1\n",
            f"{folder}/current_link_width": "8\n",
            f"{folder}/max_link_width": "16\n",
            f"{folder}/current_link_speed": "32.0 GT/s PCIe\n",
        },
    )
    (found,) = gpu_facts(tmp_path, FakeCuda())
    assert found["numa_node"] == 1 and found["current_link_speed"] == "32.0 GT/s PCIe"
    assert found["copy_bytes_per_s"]["pinned"]["median"] == pytest.approx(25e9)
    assert found["copy_bytes_per_s"]["pageable"]["median"] == pytest.approx(5e9)
    assert "x8 of x16" in " ".join(gpu_notes([found], tmp_path))


def test_no_gpu_is_said_and_one_that_torch_cannot_use_too(tmp_path: Path) -> None:
    class NoCuda(FakeCuda):
        def count(self) -> int:
            return 0

    assert gpu_facts(tmp_path, NoCuda()) == []
    assert gpu_notes([], tmp_path) == ["Copies to a GPU were not measured: no GPU."]
    (tmp_path / "proc/driver/nvidia/gpus/0000:1b:00.0").mkdir(parents=True)
    assert "torch cannot use them" in " ".join(gpu_notes([], tmp_path))
