"""Energy of what a stream did, first order: its multiplications, and its bytes to and from buffers and banks.

A multiplication counts as one of a dense stream of binary16 products with their sums, whatever its use. Links, the
global memory, scalars, control and leakage are left out.
"""

from collections.abc import Iterable

from runtime.bounds import Bounds
from runtime.counts import Counts
from runtime.technology import Technology

_JOULES = 1e-15


def energies(counts: Counts, technology: Technology) -> dict[str, Bounds]:
    """Joules of the arrays, the buffers and the banks."""
    energy = technology.energy_fj
    mac = Bounds(*(energy.mac_trees * end for end in (energy.mac_uncertainty.low, energy.mac_uncertainty.high)))
    return {
        "arrays": _times(counts.products.total(), mac),
        "buffers": _times(counts.operands.total(), energy.buffer_byte),
        "banks": _times(counts.all_bank_bytes, energy.bank_byte),
    }


def together(parts: Iterable[Bounds]) -> Bounds:
    """The sum: least where all parts are at their least, largest where all are at their largest."""
    parts = list(parts)
    return Bounds(sum(part.low for part in parts), sum(part.high for part in parts))


def _times(count: int, femtojoules: Bounds) -> Bounds:
    return Bounds(_JOULES * count * femtojoules.low, _JOULES * count * femtojoules.high)
