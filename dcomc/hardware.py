"""Area and energy of a D-com, and of a systolic array with as many multipliers and as much memory: first order.

Logic is that of synthesised arrays of 8 x 8 multipliers, in proportion to their number; memory is SRAM, by the bit and
by the access. The control of either, the links of a D-com, and leakage are left out.
"""

from math import sqrt
from typing import Literal

from runtime.machine import Machine
from runtime.technology import Technology

Array = Literal["trees", "systolic"]
Sums = Literal["binary32", "binary16"]
Memory = Literal["beside", "one"]
"""The memory of a systolic array: a buffer beside each tile of multipliers, as a D-com has, or one for all."""

_SYNTHESISED = 8 * 8
"""Multipliers of the synthesised arrays."""
_ELEMENT_BYTES, _SUM_BYTES = 2, 4


def memory_bytes(machine: Machine) -> int:
    """Bytes of all buffers and the global memory; the banks are DRAM."""
    return machine.grid.rows * machine.grid.cols * machine.cluster.buffer_bytes + machine.global_memory.bytes


def area_mm2(machine: Machine, technology: Technology, array: Array = "trees", sums: Sums = "binary32") -> float:
    """Placed logic and SRAM, in mm2; with `systolic`, of a systolic array of the same size."""
    cells = getattr(technology.array_um2, f"{array}_{sums}") * machine.multipliers / _SYNTHESISED
    logic = cells * technology.area.placed_over_cells.middle
    return 1e-6 * (logic + 8 * memory_bytes(machine) * technology.area.sram_um2_per_bit.middle)


def matvec_energy_fj(machine: Machine, technology: Technology) -> float:
    """Of one product of a matrix-vector product with its sums, in fJ, in a D-com that holds the matrix in its buffers.

    Each element of a tile is read once, an element of the vector serves a column of the tile, and a row leaves one sum.
    """
    return _mac(technology, "trees") + _tile_bytes(machine) * technology.energy_fj.buffer_byte.middle


def systolic_matvec_energy_fj(machine: Machine, technology: Technology, memory: Memory) -> float:
    """The same in a systolic array, in fJ; one memory is made of megabytes, and an element crosses half of the chip."""
    energy = technology.energy_fj
    if memory == "beside":
        return _mac(technology, "systolic") + _tile_bytes(machine) * energy.buffer_byte.middle
    side = sqrt(machine.multipliers)
    distance_mm = sqrt(area_mm2(machine, technology, "systolic")) / 2
    of_byte = energy.buffer_byte.middle * energy.large_over_buffer.middle + distance_mm * energy.wire_byte_mm.middle
    return _mac(technology, "systolic") + (_ELEMENT_BYTES * (1 + 1 / side) + _SUM_BYTES / side) * of_byte


def _tile_bytes(machine: Machine) -> float:
    """Bytes to and from a buffer for each product of a tile with a vector."""
    return _ELEMENT_BYTES * (1 + 1 / machine.cluster.mac_rows) + _SUM_BYTES / machine.cluster.mac_cols


def area_over_systolic(machine: Machine, technology: Technology, sums: Sums) -> float:
    """A D-com's area over that of the systolic array."""
    return area_mm2(machine, technology, "trees", sums) / area_mm2(machine, technology, "systolic", sums)


def power_over_systolic(machine: Machine, technology: Technology, memory: Memory) -> float:
    """A D-com's power over that of the systolic array, at as many products a second of matrices with vectors."""
    return matvec_energy_fj(machine, technology) / systolic_matvec_energy_fj(machine, technology, memory)


def gpu_share_over_dcom(machine: Machine, technology: Technology) -> float:
    """The area of the GPU for as many operations a second as a D-com's peak, over the D-com's area."""
    gpu = technology.gpu
    share = 2 * machine.multipliers * machine.clock.hz / gpu.flops_per_second
    return share * gpu.die_mm2 * gpu.area_here_over_there.middle / area_mm2(machine, technology)


def memory_for_area_ratio(machine: Machine, technology: Technology, ratio: float, sums: Sums = "binary32") -> float:
    """Bytes of equal SRAM a cluster with which a D-com takes `ratio` times the systolic array's area."""
    cells = technology.array_um2
    per_array = technology.area.placed_over_cells.middle * machine.multipliers / _SYNTHESISED
    trees, systolic = (per_array * getattr(cells, f"{array}_{sums}") for array in ("trees", "systolic"))
    bits = (trees - ratio * systolic) / (ratio - 1) / technology.area.sram_um2_per_bit.middle
    return bits / 8 / (machine.grid.rows * machine.grid.cols)


def _mac(technology: Technology, array: Array) -> float:
    """A product with its sums, in fJ."""
    energy = technology.energy_fj
    return (energy.mac_trees if array == "trees" else energy.mac_systolic) * energy.mac_uncertainty.middle
