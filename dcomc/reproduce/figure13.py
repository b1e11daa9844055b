"""Figure 13: area and power against a systolic array of equal multipliers and memory, and against an A100."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

from dcomc.hardware import (
    Array,
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
from dcomc.reproduce.workbench import Workbench, described
from runtime.bounds import spread
from runtime.machine import Machine
from runtime.technology import Technology, load_technology

_SUMS: tuple[Sums, ...] = get_args(Sums)
_MEMORIES: dict[Memory, str] = {"one": "its memory in one", "beside": "buffers as D-com's"}


def reproduce(bench: Workbench) -> Result:
    """Area and power, by either element type of sums and place of the systolic array's memory; the share of an A100."""
    machine, technology = bench.machine, load_technology("15nm")
    paper = paper_claims()["claims"]

    def claim(what: str, key: str, readings: Mapping[str, Callable[[Technology], float]], why: str) -> Claim:
        """By the reading without a name; the range is over all of them."""
        spans = {name: spread(technology, of) for name, of in readings.items()}
        _, lows, highs = zip(*spans.values(), strict=True)
        others = {name: middle for name, (middle, *_) in spans.items() if name}
        middle = spans[""][0]
        return Claim(what, paper[key], middle, 0.25, min(lows), max(highs), others, why=why, headline=True)

    def percent(over: Callable[[Technology], float]) -> Callable[[Technology], float]:
        return lambda at: 100 * (over(at) - 1)

    claims = [
        claim(
            "area over a systolic array's, +%",
            "area_vs_systolic_percent",
            {
                "" if sums == "binary32" else f"sums in {sums}": percent(
                    partial(area_over_systolic, machine, sums=sums)
                )
                for sums in _SUMS
            },
            _why_area(machine, technology, paper["area_vs_systolic_percent"]),
        ),
        claim(
            "power over a systolic array's, +%",
            "power_vs_systolic_percent",
            {
                "" if memory == "one" else what: percent(partial(power_over_systolic, machine, memory=memory))
                for memory, what in _MEMORIES.items()
            },
            "matrix-vector products from memory on the chip, as many a second on both (the paper states no workload), "
            "and the systolic array's memory is in one place, as the paper says that D-com's distributed memory saves",
        ),
        claim(
            "area of an equal share of an A100 over D-com's (section 5.1)",
            "area_advantage_vs_a100_share",
            {"": partial(gpu_share_over_dcom, machine)},
            _why_share(machine, technology),
        ),
    ]
    ours = technology.gpu.multipliers / machine.multipliers
    claims.append(
        Claim(
            "multipliers of an A100 over D-com's",
            paper["area_advantage_vs_a100_share"],
            ours,
            0.1,
            why="the same number in section 6.5, where the scale of D-com is a seventh of that of an accelerator "
            "of one A100's compute capability",
        )
    )
    setting = (
        f"{machine.multipliers:,} multipliers at {machine.clock.hz / 1e9:g} GHz and "
        f"{memory_bytes(machine) / 2**20:.2f} MiB of SRAM in either; logic by our own synthesis without wires, SRAM "
        "and wires of the order of published figures; control, links and leakage left out."
    )
    configuration = bench.configuration(technology=described(technology, technology.hash))
    return Result("figure13", claims, setting, _plots(bench, technology), configuration)


def _why_area(machine: Machine, technology: Technology, percent: float) -> str:
    """How much more the logic takes, and with how much equal memory beside it the paper's number would come out."""
    cells = technology.array_um2
    logic = [100 * (cells.trees_binary32 / cells.systolic_binary32 - 1)]
    logic += [100 * (cells.trees_binary16 / cells.systolic_binary16 - 1)]
    wanted = [
        spread(technology, lambda at, s=sums: memory_for_area_ratio(machine, at, 1 + percent / 100, s) / 1024)[0]
        for sums in _SUMS
    ]
    have = machine.cluster.buffer_bytes / 1024
    return (
        "trees for rows and columns take {:.0f}% more cells than a systolic array with sums in binary32, {:.0f}% with "
        "sums in binary16; equal memory beside either makes it less, of which the paper's value needs {:.0f} or {:.0f} "
        "KiB a cluster, and D-com has {:.0f}"
    ).format(*logic, *wanted, have)


def _why_share(machine: Machine, technology: Technology) -> str:
    """What the areas are, and of which a D-com is made."""
    share = gpu_share_over_dcom(machine, technology)
    whole = area_mm2(machine, technology)
    memory = 8e-6 * memory_bytes(machine) * technology.area.sram_um2_per_bit.middle
    return (
        f"as much of the A100's whole die as has D-com's peak rate is {share * whole:.0f} mm2, in the middle between "
        f"its own technology and 15 nm, and D-com {whole:.0f} mm2, {memory / whole:.0%} of it SRAM; the paper does not "
        "say what of the die it counts"
    )


def _plots(bench: Workbench, technology: Technology) -> list[Plot]:
    """Areas in mm2, by the element type of sums; watts with all multipliers busy; both with their ranges."""
    machine = bench.machine
    power = 1e-15 * machine.multipliers * machine.clock.hz

    def curve(name: str, quantities: Sequence[Callable[[Technology], float]], unit: float = 1.0) -> Curve:
        spans = [spread(technology, of) for of in quantities]
        middles, lows, highs = ([unit * value for value in values] for values in zip(*spans, strict=True))
        return Curve(name, range(len(spans)), middles, lows, highs)

    areas = [
        curve(f"sums in {sums}", [partial(area_mm2, machine, array=array, sums=sums) for array in get_args(Array)])
        for sums in _SUMS
    ]
    energies = [
        partial(matvec_energy_fj, machine),
        *(partial(systolic_matvec_energy_fj, machine, memory=memory) for memory in _MEMORIES),
    ]
    names = ["D-com", *(f"systolic, {what}" for what in _MEMORIES.values())]
    return [
        Plot("Area", "", "mm2", areas, ["D-com", "systolic array"]),
        Plot("Power with all multipliers busy", "", "W", [curve("", energies, power)], names),
    ]
