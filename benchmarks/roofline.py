"""Predicted times of the CUDA kernels, from bytes and from the instructions that the compiler wrote. No GPU.

    .venv/bin/python -P benchmarks/roofline.py

Prints the tables of roofline.md. Nothing here measures time. Needs the `cuda` extra, ptxas and nvdisasm.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fastpipe.extras import install_command
from fastpipe.kernels.cuda.cache import ptx_files
from fastpipe.kernels.cuda.compile import assemble, find_tool, missing_package
from fastpipe.kernels.cuda.finish_plan import MIXED, finish_names
from fastpipe.kernels.cuda.schedule import kernel_names

NUM, SIDE = 256, 224
PIXELS = NUM * SIDE * SIDE
READ = 3 * PIXELS
ACHIEVED = 0.85
SCHEDULERS = 4


@dataclass(frozen=True)
class Machine:
    """Peak figures of the data sheet. doubles, conversions: float64 lanes a clock and multiprocessor."""

    name: str
    cc: tuple[int, int]
    bytes_per_second: float
    multiprocessors: int
    clock: float
    doubles: int
    conversions: int


MACHINES = (
    Machine("A100-80", (8, 0), 2.039e12, 108, 1.41e9, 32, 16),
    Machine("H100", (9, 0), 3.35e12, 132, 1.755e9, 64, 16),
    Machine("H200", (9, 0), 4.8e12, 132, 1.755e9, 64, 16),
    Machine("RTX 4090", (8, 9), 1.008e12, 128, 2.52e9, 2, 2),
    Machine("T4", (7, 5), 0.32e12, 40, 1.59e9, 2, 2),
)
# Of these everything is printed, of the others the bilinear warps.
DETAILED = ("A100-80", "H100")
# Pixels that one pass over a kernel's code handles: a word of four elements, four pixels, or one.
PER_PASS = {"packed_nhwc": 4 / 3, "packed_nchw": 4.0}
# Turns of each thread's loop: set by the schedule, or an image of 224 x 224 by 4 blocks of 256 threads.
TURNS = {"packed_nhwc": 16, "packed_nchw": 16, "mixed": 16, "statistics": SIDE * SIDE // 1024}
# Turns of the loops outside: 768 entries, or two tables of 771, by 256 threads.
OUTSIDE = {"mixed": 6}
KEPT = int(0.95 * SIDE)
SMALL = 176
MEMORY = ("LDG", "STG", "LDS", "STS", "ATOMS", "LD", "ST")


@dataclass(frozen=True)
class Code:
    """Instructions of one kernel: all, to the load and store unit, float64, conversions from and to it."""

    total: float
    memory: float
    doubles: float
    conversions: float
    per_pass: float

    def limits(self, pixels: float, machine: Machine) -> dict[str, float]:
        """Seconds by what may bind: 4 instructions a clock, 1 of them to memory, float64 at its own rate."""
        warps = pixels / self.per_pass / 32
        clocks = {
            "issue": self.total / SCHEDULERS,
            "memory unit": self.memory,
            "float64": self.doubles * 32 / machine.doubles,
            "conversions": self.conversions * 32 / machine.conversions,
        }
        rate = machine.multiprocessors * machine.clock
        return {name: warps * each / rate for name, each in clocks.items()}

    def seconds(self, pixels: float, machine: Machine) -> float:
        """The longest of the limits."""
        return max(self.limits(pixels, machine).values())


def disassemble(cubin: bytes) -> list[str]:
    """The instructions in the order of the code, without padding: DADD, I2F.F64 and so on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        text = subprocess.run(
            [str(find_tool("nvdisasm")), "-c", str(path)], check=True, capture_output=True, text=True
        ).stdout
    lines = re.findall(r"^\s+/\*[0-9a-f]{4}\*/\s+(.*?);", text, re.MULTILINE)
    found = [re.sub(r"^@!?U?P\w+\s+", "", line).split()[0] for line in lines]
    return [name for name in found if name != "NOP"]


def per_turn(kind: str, instructions: list[str]) -> tuple[float, float]:
    """All instructions and those of the memory unit that one turn takes, at most.

    Kernels with shared memory have a barrier before their loop; what lies outside (768 entries by 256
    threads: 3 turns of its own) is shared by the loop's turns. Of two sides of a branch both are counted.
    The loop over a resize's taps is written out four times by the compiler, and is counted as it is.
    """
    turns = TURNS.get(kind)
    if turns is None:
        return float(len(instructions)), float(sum(name in MEMORY for name in instructions))
    bars = [place for place, name in enumerate(instructions) if name == "BAR"] + [len(instructions)]
    loop = instructions[bars[0] : bars[1]]
    inside = sum(name in MEMORY for name in loop)
    outside = sum(name in MEMORY for name in instructions) - inside
    share = OUTSIDE.get(kind, 3) / turns
    return len(loop) + (len(instructions) - len(loop)) * share, inside + outside * share


def every_kernel() -> list[str]:
    """The names of all kernels of the library."""
    names = {name for bits in (8, 16, 32) for name in (*kernel_names(bits), *finish_names(bits))}
    return sorted(names | {f"mixed_{dtype}" for dtype in MIXED})


def codes_of(machine: Machine, names: list[str]) -> tuple[dict[str, Code], list[str]]:
    """The kernels' instructions, and the lines of the table of gates."""
    codes, lines = {}, []
    for name, file in ptx_files(machine.cc, names).items():
        needs = assemble(file.read_text(), machine.cc, find_tool("ptxas") or Path())
        written = disassemble(needs.cubin)
        found = [full.split(".")[0] for full in written]
        kind = name.rpartition("_")[0] or name
        total, memory = per_turn(kind, found)
        wide = sum(full.startswith(("I2F", "F2I", "FRND")) and ".F64" in full for full in written)
        doubles = sum(key in ("DADD", "DMUL", "DFMA", "DSETP", "DMNMX") for key in found)
        codes[name] = Code(total, memory, doubles, wide, PER_PASS.get(kind, 1.0))
        fused = found.count("FFMA")
        conversions = sum(key.startswith(("I2F", "F2I", "FRND")) for key in found)
        lines.append(
            f"| {name} | {needs.registers} | {needs.spills} | {needs.shared} | {len(found)} | {total:.0f} "
            f"| {memory:.0f} | {conversions} | {fused} | {doubles} |"
        )
    return codes, lines


def rows(machine: Machine, codes: dict[str, Code], bits: int, layout: str) -> list[tuple[str, float, float]]:
    """(case, bytes, seconds) of whole batches: the kernels of a batch run one after another."""
    write = 3 * PIXELS * bits // 8
    bandwidth = machine.bytes_per_second * ACHIEVED

    def one(kernel: str, share: float, extra: float = 0.0) -> float:
        moved = share * (READ + write) + extra
        return max(moved / bandwidth, codes[kernel].seconds(share * PIXELS, machine))

    def batch(points: float, nearest: float, bilinear: float, blended: float, counted: float) -> float:
        time = one(f"packed_{layout}_{bits}", points) + one(f"blended_{bits}", blended)
        time += one(f"nearest_{bits}", nearest) + one(f"bilinear_{bits}", bilinear)
        counting = codes["statistics"].seconds(counted * PIXELS, machine)
        return time + max(counted * READ / bandwidth, counting)

    def passed(kernel: str, share: float, read: float, written: float) -> float:
        """One of the last passes: `share` of the pixels written, so many bytes read and written."""
        return max((read + written) / bandwidth, codes[kernel].seconds(share * PIXELS, machine))

    moved = READ + write
    kept, mixing = (KEPT / SIDE) ** 2, f"mixed_float{bits}"
    middle, small = SMALL / SIDE, (SMALL / SIDE) ** 2
    policy = (
        max((READ * 6 / 13) * 2 / bandwidth, codes["packed_nhwc_8"].seconds(6 / 13 * PIXELS, machine))
        + max((READ * 3 / 13) * 2 / bandwidth, codes["bilinear_8"].seconds(3 / 13 * PIXELS, machine))
        + max((READ * 2 / 13) * 2 / bandwidth, codes["nearest_8"].seconds(2 / 13 * PIXELS, machine))
        + max((READ * 2 / 13) * 2 / bandwidth, codes["blended_8"].seconds(2 / 13 * PIXELS, machine))
        + max(READ * 3 / 13 / bandwidth, codes["statistics"].seconds(3 / 13 * PIXELS, machine))
    )
    columns = passed("resize_columns", middle, READ, READ * middle)
    return [
        ("read once, write once (floor)", moved, moved / bandwidth),
        ("flip, or any table: all photometric", moved, batch(1, 0, 0, 0, 0)),
        ("autocontrast for all (statistics too)", moved + READ, batch(1, 0, 0, 0, 1)),
        ("all nearest warps", moved, batch(0, 1, 0, 0, 0)),
        ("all bilinear warps", moved, batch(0, 0, 1, 0, 0)),
        ("all sharpness", moved, batch(0, 0, 0, 1, 0)),
        (
            "RandAugment depth 1, 14 operations, nearest",
            moved + READ * 3 / 14,
            batch(7 / 14, 5 / 14, 0, 2 / 14, 3 / 14),
        ),
        (
            # Five are warps, two of those by whole pixels, which the nearest kernel does.
            "RandAugment depth 1, 13 operations, bilinear",
            moved + READ * 3 / 13,
            batch(6 / 13, 2 / 13, 3 / 13, 2 / 13, 3 / 13),
        ),
        (
            f"ColOut 0.05: {KEPT} of {SIDE} rows and columns",
            kept * moved,
            passed(f"picked_{bits}", kept, kept * READ, kept * write),
        ),
        ("MixUp", moved + READ, passed(mixing, 1.0, 2 * READ, write)),
        (
            "the last RandAugment, ColOut 0.05, MixUp",
            READ * (2 + 3 / 13) + kept * (2 * READ + write),
            policy + passed(mixing, kept, kept * 2 * READ, kept * write),
        ),
        (
            f"bilinear resize to {SMALL}",
            READ * (1 + 2 * middle) + small * write,
            columns + passed(f"resize_rows_{bits}", small, READ * middle, small * write),
        ),
    ]


def bilinear_row(machine: Machine, codes: dict[str, Code]) -> str:
    """What bounds a batch of nothing but bilinear warps with 16-bit output, in microseconds."""
    moved = READ + 2 * READ
    limits = {"bytes": moved / (machine.bytes_per_second * ACHIEVED)}
    limits |= codes["bilinear_16"].limits(PIXELS, machine)
    each = " | ".join(f"{seconds * 1e6:.0f}" for seconds in limits.values())
    longest = max(limits, key=lambda name: limits[name])
    return f"| {machine.name} | {each} | **{limits[longest] * 1e6:.0f}** ({longest}) |"


def print_details(machine: Machine, codes: dict[str, Code], lines: list[str]) -> None:
    """The compiler's account of every kernel, and the predicted times of whole batches."""
    print(f"\n### {machine.name} (sm_{machine.cc[0]}{machine.cc[1]}): what the compiler says\n")
    print(
        "| kernel | registers | spilled bytes | shared bytes "
        "| SASS | per turn | memory | conversions | FFMA | f64 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))
    for bits, layout in ((16, "nhwc"), (16, "nchw"), (32, "nhwc")):
        kind = "channels_last" if layout == "nhwc" else "contiguous"
        print(f"\n### {machine.name}, {bits}-bit output, {kind}: predicted\n")
        print("| batch | MB | predicted us | of the floor |\n|---|---|---|---|")
        table = rows(machine, codes, bits, layout)
        for case, moved, seconds in table:
            ratio = seconds / table[0][2]
            print(f"| {case} | {moved / 1e6:.1f} | {seconds * 1e6:.0f} | {ratio:.2f} |")


def main() -> int:
    """Print the tables for every machine."""
    missing = missing_package() or next((t for t in ("ptxas", "nvdisasm") if find_tool(t) is None), None)
    if missing:
        print(f"roofline: skipped, {missing} is absent ({install_command('cuda')}; triton has the tools)")
        return 0
    accounts = {
        machine.name: codes_of(machine, every_kernel() if machine.name in DETAILED else ["bilinear_16"])
        for machine in MACHINES
    }
    print("\n### All bilinear warps, 16-bit output: predicted us by what binds\n")
    print("| device | bytes (floor) | issue | memory unit | float64 | conversions | predicted |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(bilinear_row(machine, accounts[machine.name][0]) for machine in MACHINES))
    for machine in MACHINES:
        if machine.name in DETAILED:
            print_details(machine, *accounts[machine.name])
    print("\n### sm_100: registers, spilled bytes, shared bytes\n\n| kernel | registers | spilled | shared |")
    print("|---|---|---|---|")
    for name, file in ptx_files((10, 0), every_kernel()).items():
        needs = assemble(file.read_text(), (10, 0), find_tool("ptxas") or Path())
        print(f"| {name} | {needs.registers} | {needs.spills} | {needs.shared} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
