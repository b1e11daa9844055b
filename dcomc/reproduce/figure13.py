"""Figure 13: area and power against a systolic array of equal multipliers and memory, and against an A100."""

from collections.abc import Callable
from functools import partial
from typing import get_args

from dcomc.hardware import (
    Memory,
    Sums,
    area_mm2,
    area_over_systolic,
    gpu_share_over_dcom,
    matvec_energy_fj,
    memory_bytes,
    memory_for_area_ratio,
    power_over_systolic,
    systolic_matvec_energy_fj,
)
from dcomc.reproduce.claims import Claim, Curve, Plot, Result, paper_claims
from dcomc.reproduce.workbench import Workbench
from runtime.bounds import spread
from runtime.technology import Technology, load_technology

_SUMS: tuple[Sums, ...] = get_args(Sums)
_MEMORIES: dict[Memory, str] = {"one": "its memory in one", "beside": "buffers as D-com's"}


def reproduce(bench: Workbench) -> Result:
    """Areas by the sums' element type, power by where the systolic array's memory is, and two readings of the share."""
    machine, technology = bench.machine, load_technology("15nm")
    paper, claims = paper_claims()["claims"], list[Claim]()

    def claim(what: str, value: float, of: Callable[[Technology], float], why: str) -> None:
        middle, low, high = spread(technology, of)
        claims.append(Claim(what, value, middle, 0.25, low, high, why=why))

    def percent(over: Callable[[Technology], float], at: Technology) -> float:
        return 100 * (over(at) - 1)

    more = paper["area_vs_systolic_percent"]
    for sums in _SUMS:
        wanted = spread(technology, lambda at, s=sums: memory_for_area_ratio(machine, at, 1 + more / 100, s) / 1024)
        claim(
            f"area over a systolic array's, +% (sums in {sums})",
            more,
            partial(percent, partial(area_over_systolic, machine, sums=sums)),
            "{:.0f} KiB of equal memory a cluster would give the paper's ({:.0f} to {:.0f})".format(*wanted),
        )
    for memory, what in _MEMORIES.items():
        claim(
            f"power over a systolic array's, +% ({what})",
            paper["power_vs_systolic_percent"],
            partial(percent, partial(power_over_systolic, machine, memory=memory)),
            "matrix-vector products from memory on the chip, as many a second on both; the paper states no workload",
        )
    seven = paper["area_advantage_vs_a100_share"]
    claim(
        "area of an equal share of an A100 over D-com's",
        seven,
        partial(gpu_share_over_dcom, machine),
        "of the whole die, by peak rates; from each in its own technology to the A100 brought to 15 nm",
    )
    ours = technology.gpu.multipliers / machine.multipliers
    why = "another reading: 6.5 calls D-com 7 times smaller than an accelerator of one A100's compute capability"
    claims.append(Claim("multipliers of an A100 over D-com's", seven, ours, 0.1, why=why))
    setting = (
        f"{machine.multipliers:,} multipliers at {machine.clock.hz / 1e9:g} GHz and "
        f"{memory_bytes(machine) / 2**20:.2f} MiB of SRAM in either; logic by our own synthesis without wires, SRAM "
        "and wires of the order of published figures; control, links and leakage left out."
    )
    configuration = {**bench.configuration, "technology": {"name": technology.name, "hash": technology.hash}}
    return Result("figure13", claims, setting, _plots(bench, technology), configuration)


def _plots(bench: Workbench, technology: Technology) -> list[Plot]:
    """Areas in mm2, by the element type of sums; watts with all multipliers busy."""
    machine = bench.machine
    areas = [
        Curve(
            f"sums in {sums}",
            range(2),
            [area_mm2(machine, technology, "trees", sums), area_mm2(machine, technology, "systolic", sums)],
        )
        for sums in _SUMS
    ]
    energies = [
        matvec_energy_fj(machine, technology),
        *(systolic_matvec_energy_fj(machine, technology, memory) for memory in _MEMORIES),
    ]
    watts = [1e-15 * energy * machine.multipliers * machine.clock.hz for energy in energies]
    names = ["D-com", *(f"systolic, {what}" for what in _MEMORIES.values())]
    return [
        Plot("Area", "", "mm2", areas, ["D-com", "systolic array"]),
        Plot("Power with all multipliers busy", "", "W", [Curve("", range(len(names)), watts)], names),
    ]
