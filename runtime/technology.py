"""A technology: areas and energies of the parts of an accelerator, read from TOML."""

from dataclasses import dataclass

from dcomc.toml_files import Description, from_table, read_toml, shipped_file
from runtime.bounds import Bounds, check_bounds


@dataclass(frozen=True)
class ArrayArea:
    """Cells of 8 x 8 binary16 multipliers with adders and operand registers, in um2, by the element type of sums."""

    trees_binary32: int
    trees_binary16: int
    systolic_binary32: int
    systolic_binary16: int


@dataclass(frozen=True)
class Area:
    placed_over_cells: Bounds
    sram_um2_per_bit: Bounds


@dataclass(frozen=True)
class Energy:
    """In fJ: of a product with its sums, and of a byte."""

    mac_trees: int
    mac_systolic: int
    mac_uncertainty: Bounds
    """A factor of both."""
    buffer_byte: Bounds
    """The energy of a byte of a cluster's buffer, read or written."""
    large_over_buffer: Bounds
    """A byte of a memory of a megabyte over one of a buffer."""
    wire_byte_mm: Bounds
    """The energy of moving a byte over a millimetre."""
    bank_byte: Bounds
    """The energy of a byte of a bank, in DRAM."""


@dataclass(frozen=True)
class GpuDie:
    """A GPU whose area is published."""

    die_mm2: int
    multipliers: int
    flops_per_second: int
    area_here_over_there: Bounds
    """Its area in this technology over that in its own."""


@dataclass(frozen=True)
class Technology(Description):
    """A manufacturing process, as areas and energies of an accelerator's parts."""

    array_um2: ArrayArea
    area: Area
    energy_fj: Energy
    gpu: GpuDie


def load_technology(name_or_file: str) -> Technology:
    """A technology by the name of a shipped table, or from a TOML file.

    Raises:
        DcomError: neither a known name nor a readable, valid file, or a range that is upside down.
    """
    file, hint = shipped_file("technologies", name_or_file)
    technology = from_table(Technology, read_toml(file, hint), name_or_file, "15nm.toml")
    check_bounds(technology, name_or_file)
    return technology
