"""The host card for people: label and text for each line, for the terminal and the page alike."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

Line = tuple[str, str, str]
"""Group, label, text."""


def card_lines(card: dict[str, Any]) -> list[Line]:
    """Every line of the card. Unknown values are marked as unknown, not left out."""
    return [
        *_cpu(card["cpu"]),
        *_memory(card["memory"]),
        *_gpus(card["gpus"]),
        *_storage(card["storage"]),
        *_data(card["data"]),
        *_software(card["software"]),
    ]


def render_card(card: dict[str, Any], console: Console) -> None:
    """Print the card and its notes."""
    table = Table(show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = None
    for name, label, shown in card_lines(card):
        if group is not None and name != group:
            table.add_section()
        group = name
        table.add_row(label, shown)
    console.print(table, markup=False, highlight=False)
    for note in card["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)


def _cpu(cpu: dict[str, Any]) -> list[Line]:
    cores = f"{cpu['cores']} cores" if cpu["cores"] else "cores unknown"
    smt = {True: "SMT on", False: "SMT off", None: "SMT unknown"}[cpu["smt_active"]]
    quota = "none" if cpu["quota"] is None else f"{cpu['quota']:g} CPUs (cgroup v{cpu['quota_version']})"
    nodes = ", ".join(f"{node}: CPUs {cpus}" for node, cpus in cpu["numa_nodes"].items())
    return [
        ("cpu", "CPU", f"{cpu['model']}{_with(', '.join(cpu['vectors']), '; ')}"),
        ("cpu", "cores", f"{cores}, {cpu['online']} CPUs online, {smt}, {cpu['sockets'] or '?'} socket(s)"),
        ("cpu", "usable", f"{cpu['usable']:g} CPUs (affinity {cpu['affinity']}, quota {quota})"),
        ("cpu", "NUMA nodes", nodes or "unknown"),
    ]


def _memory(memory: dict[str, Any]) -> list[Line]:
    limit = "none" if memory["cgroup_limit"] is None else _size(memory["cgroup_limit"])
    shm = (
        "none"
        if memory["shm_total"] is None
        else f"{_size(memory['shm_total'])}, {_size(memory['shm_free'])} free"
    )
    return [
        ("memory", "RAM", f"{_size(memory['total'])}, {_size(memory['available'])} available"),
        ("memory", "cgroup limit", limit),
        ("memory", "/dev/shm", shm),
        ("memory", "huge pages", memory["transparent_huge_pages"] or "unknown"),
    ]


def _gpus(gpus: list[dict[str, Any]]) -> list[Line]:
    if not gpus:
        return [("gpu", "GPU", "none that torch can use"), ("gpu", "host to GPU", "not measured: no GPU")]
    lines = []
    for place, gpu in enumerate(gpus):
        node = "unknown" if gpu["numa_node"] is None else gpu["numa_node"]
        link = f"{gpu['current_link_speed'] or '?'} x{gpu['current_link_width'] or '?'}"
        rates = gpu["copy_bytes_per_s"]
        copies = (
            "not measured"
            if rates is None
            else ", ".join(
                f"{name} {rates[name]['median'] / 1e9:.1f} GB/s" for name in ("pinned", "pageable")
            )
        )
        lines += [
            ("gpu", f"GPU {place}", f"{gpu['name']}, {_size(gpu['memory'])}, compute {gpu['capability']}"),
            ("gpu", "PCIe", f"{link}, NUMA node {node}"),
            ("gpu", "host to GPU", copies),
        ]
    return lines


def _storage(storage: dict[str, Any]) -> list[Line]:
    device = f"{storage['device'] or 'no block device'} ({storage['kind']})"
    found = [
        ("storage", "data lies on", f"{storage['filesystem'] or 'unknown'} at {storage['mount']}, {device}")
    ]
    reads = storage["reads"]
    if reads is None:
        return [*found, ("storage", "reads", "not measured here: fastpipe-profile host DATA does")]
    cold = {True: "cold", False: "NOT cold", None: "cold?"}[reads["cold"]]
    names = (
        ("in_order", f"in order, {cold}"),
        ("random", f"at random, {cold}"),
        ("random_threads", f"  by {reads['threads']} threads"),
        ("warm", "at random, warm"),
    )
    return [*found, *(("storage", label, _rates(reads[key])) for key, label in names)]


def _rates(rates: dict[str, Any]) -> str:
    per_s, files = rates["bytes_per_s"], rates["reads_per_s"]["median"]
    return (
        f"{_megabytes(per_s['median'])} MB/s ({_megabytes(per_s['low'])} to {_megabytes(per_s['high'])}), "
        f"{files:,.0f} reads/s, p99 {rates['latency_ms']['p99']:.3g} ms, n = {rates['reads']}"
    )


def _megabytes(rate: float) -> str:
    return f"{rate / 1e6:,.0f}" if rate >= 1e7 else f"{rate / 1e6:.3g}"


def _data(data: dict[str, Any] | None) -> list[Line]:
    if data is None:
        return []
    listed = ", ".join(f"{name} {num}" for name, num in data["formats"].items()) or "none that opens"
    sampling = ", ".join(f"{name} {num}" for name, num in data["samplings"].items()) or "none"
    quality = "unknown" if data["quality"] is None else f"{data['quality']:.0f}"
    return [
        ("data", "data", f"{data['name']}: {data['files']:,} files, {data['classes']} classes"),
        ("data", "sample", f"{data['sampled']} files: {listed}; {data['broken']} broken"),
        ("data", "file size", _percentiles(data["bytes"], 1e3, "kB")),
        ("data", "pixels", _percentiles(data["pixels"], 1e6, "megapixels")),
        ("data", "JPEGs", f"{data['progressive']} progressive, {data['cmyk']} CMYK, {data['grey']} grey"),
        ("data", "sampling", f"{sampling}; median quality {quality}"),
    ]


def _percentiles(found: dict[str, float] | None, unit: float, name: str) -> str:
    if found is None:
        return "unknown"
    shown = ", ".join(f"{key} {value / unit:,.3g}" for key, value in found.items())
    return f"{shown} {name}"


def _software(software: dict[str, Any]) -> list[Line]:
    gain = software.get("jpeg_simd_gain")
    simd = "vector code not measured" if gain is None else f"vector code brings {gain:.2g}x"
    torchvision = "with" if software["torchvision_jpeg"] else "without"
    packages = ", ".join(f"{name} {version}" for name, version in software["packages"].items())
    return [
        ("software", "JPEG", f"Pillow: {software['pillow_jpeg']}, {simd}; torchvision.io {torchvision} JPEG"),
        ("software", "Python", f"{software['python']}, GIL {software['gil']}; {software['system']}"),
        ("software", "packages", packages),
        (
            "software",
            "torch",
            f"CUDA {software['torch_cuda'] or 'none'}, CPU code {software['torch_vectors']}"
            f"{_with(software['preloaded'], '; LD_PRELOAD ')}",
        ),
    ]


def _size(num_bytes: float | None) -> str:
    if num_bytes is None:
        return "unknown"
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def _with(text: str | None, before: str) -> str:
    return f"{before}{text}" if text else ""
