"""What instructions cost: cycles that a unit is busy, cycles until the result, and bytes of buffer that are touched.

Every formula takes the values of an instruction's operands and the machine. The instruction table points here.

Assumed, beside the machine's own values: an instruction of the array has the buffer's ports to itself, streams between
bank and buffer having theirs; all columns' bank ports work in step; a scalar reaches the control of the stream without
a delay of its own; the host scales an activation to binary16, and its Lanczos scalars back, outside these cycles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from runtime.machine import Machine
from runtime.operands import Values

PIECE_BITS = 11
"""How many of a binary32 factor's 24 significant bits a binary16 multiplier takes in a turn."""


@dataclass(frozen=True)
class Cost:
    """Cycles that the unit is busy, and cycles from then until the result can be used."""

    busy: Callable[[Values, Machine], int]
    latency: Callable[[Values, Machine], int]


def levels(count: int) -> int:
    """Levels of a binary tree over `count` leaves."""
    return (count - 1).bit_length()


def lanes(m: Machine) -> int:
    """Multipliers of a cluster."""
    return m.cluster.mac_rows * m.cluster.mac_cols


def chunks(v: Values, m: Machine) -> int:
    return ceil(v["length"] / lanes(m))


def step(m: Machine, passes: int, read: int, written: int) -> int:
    """Cycles of one step of the array: its multiplications, and its bytes through the buffer's ports."""
    ports = ceil(read / m.cluster.buffer_read_bytes_per_cycle), ceil(written / m.cluster.buffer_write_bytes_per_cycle)
    return max(passes, *ports)


def tile_step(m: Machine, inputs: int, sums: int) -> int:
    return step(m, 1, m.tile_bytes + 2 * inputs + 4 * sums, 4 * sums)


# An accumulator takes one addition each `add` cycles, so the tiles of different accumulators come one after another.


def row_busy(v: Values, m: Machine) -> int:
    cycles = tile_step(m, m.cluster.mac_cols, m.cluster.mac_rows)
    return int(v["cols"]) * max(int(v["rows"]) * cycles, m.latency_cycles.add) if v["rows"] else 0


def col_busy(v: Values, m: Machine) -> int:
    cycles = tile_step(m, m.cluster.mac_rows, m.cluster.mac_cols)
    return int(v["rows"]) * max(int(v["cols"]) * cycles, m.latency_cycles.add) if v["cols"] else 0


def tree_latency(m: Machine, leaves: int) -> int:
    return m.latency_cycles.multiply + levels(leaves) * m.latency_cycles.add + m.latency_cycles.add


def turns(v: Values) -> int:
    """Turns of the multipliers for a product with one binary32 factor, in the `pieces` that the instruction names."""
    return int(v["pieces"]) or ceil(24 / PIECE_BITS)


def dots_busy(v: Values, m: Machine) -> int:
    count = int(v["count"])
    cycles = step(m, count * turns(v), (2 * count + 4) * lanes(m), 0)
    return chunks(v, m) * max(cycles, m.latency_cycles.add) if count else 0


def norm_busy(v: Values, m: Machine) -> int:
    return chunks(v, m) * max(step(m, turns(v) ** 2, 4 * lanes(m), 0), m.latency_cycles.add)


def subtract_busy(v: Values, m: Machine) -> int:
    cycles = step(m, turns(v), (2 + 4) * lanes(m), 4 * lanes(m))
    return int(v["count"]) * max(chunks(v, m) * cycles, m.latency_cycles.add)


def scale_busy(v: Values, m: Machine) -> int:
    return chunks(v, m) * step(m, turns(v) ** 2, 4 * lanes(m), 2 * lanes(m))


def elementwise_busy(v: Values, m: Machine) -> int:
    return chunks(v, m) * step(m, 1, 8 * lanes(m), 4 * lanes(m))


def sum_busy(v: Values, m: Machine) -> int:
    return chunks(v, m) * max(step(m, 1, 4 * lanes(m), 0), m.latency_cycles.add)


PART = Cost(lambda v, m: step(m, 0, int(v["bytes"]), int(v["bytes"])), lambda v, m: 1)


def beats(v: Values, m: Machine) -> int:
    return ceil(4 * v["length"] / m.links.bytes_per_cycle)


def reduce(side: Callable[[Machine], int]) -> Cost:
    """A tree over clusters in a line. The link beside the root carries the sums of every level, one after another."""

    def latency(v: Values, m: Machine) -> int:
        count = span(v, side(m))
        crossed = sum(min(1 << level, count - 1) * m.links.hop_cycles for level in range(levels(count)))
        return crossed + levels(count) * m.latency_cycles.add

    return Cost(lambda v, m: levels(span(v, side(m))) * beats(v, m), latency)


def broadcast(side: Callable[[Machine], int]) -> Cost:
    """Along a line; to no other cluster it takes no time."""

    def latency(v: Values, m: Machine) -> int:
        return (span(v, side(m)) - 1) * m.links.hop_cycles

    return Cost(lambda v, m: beats(v, m) if span(v, side(m)) > 1 else 0, latency)


def all_reduce(side: Callable[[Machine], int]) -> Cost:
    """Along a line, from both ends to the middle and back: every link carries each sum once in each direction."""

    def latency(v: Values, m: Machine) -> int:
        half = ceil(span(v, side(m)) / 2)
        return half * (m.links.hop_cycles + m.latency_cycles.add) + (half - 1) * m.links.hop_cycles

    return Cost(lambda v, m: beats(v, m) if span(v, side(m)) > 1 else 0, latency)


def gather(side: Callable[[Machine], int]) -> Cost:
    """The cost of sending from each cluster of a line to all others: the links at its ends carry all pieces but one in
    one direction."""

    def busy(v: Values, m: Machine) -> int:
        return max(span(v, side(m)) - 1, 1) * ceil(v["bytes"] / m.links.bytes_per_cycle)

    return Cost(busy, lambda v, m: (span(v, side(m)) - 1) * m.links.hop_cycles)


def gathered(side: Callable[[Machine], int]) -> Callable[[Values, Machine], int]:
    """Bytes that a gather writes, where as many clusters take part as it names."""
    return lambda v, m: min(int(v["total"]), span(v, side(m)) * int(v["bytes"]))


def span(v: Values, side: int) -> int:
    """Clusters of a line that take part, of so many in it."""
    return min(int(v["span"]) or side, side)


def transfer_extent(v: Values, m: Machine) -> tuple[int, int]:
    """Cluster rows and columns that a stream between banks and buffers serves."""
    return int(v["rows"]) or m.grid.rows, int(v["cols"]) or m.grid.cols


TRANSFER = Cost(
    lambda v, m: transfer_extent(v, m)[0] * ceil(v["bytes"] / m.bank.stream_bytes_per_cycle),
    lambda v, m: m.bank.latency_cycles + (transfer_extent(v, m)[0] - 1) * m.links.hop_cycles,
)


def rectangle(v: Values, m: Machine) -> tuple[int, int]:
    """Rows and columns of clusters that an instruction of the global memory names."""
    return min(int(v["rows"]) or m.grid.rows, m.grid.rows), min(int(v["cols"]) or m.grid.cols, m.grid.cols)


def rectangles(v: Values, m: Machine) -> int:
    """The number of such rectangles in the grid."""
    rows, cols = rectangle(v, m)
    return ceil(m.grid.rows / rows) * ceil(m.grid.cols / cols)


def put_bytes(v: Values, m: Machine) -> int:
    return 4 * int(v["length"]) * rectangles(v, m)


def get_bytes(v: Values, m: Machine) -> int:
    rows, cols = rectangle(v, m)
    return 4 * int(v["length"]) * rows * cols


PUT = Cost(
    lambda v, m: rectangles(v, m) * ceil(4 * v["length"] / m.global_memory.write_bytes_per_cycle),
    lambda v, m: m.global_memory.write_latency_cycles,
)
GET = Cost(
    lambda v, m: ceil(get_bytes(v, m) / m.global_memory.read_bytes_per_cycle),
    lambda v, m: m.global_memory.read_latency_cycles,
)


def one(v: Values, m: Machine) -> int:
    return 1


def none(v: Values, m: Machine) -> int:
    return 0


def scalar(latency: Callable[[Machine], int]) -> Cost:
    return Cost(one, lambda v, m: latency(m))


CONTROL = Cost(none, none)
SCALAR_COPY = scalar(lambda m: 1)


def floats(count: str) -> Callable[[Values, Machine], int]:
    return lambda v, m: 4 * int(v[count])


def halves(count: str) -> Callable[[Values, Machine], int]:
    return lambda v, m: 2 * int(v[count])


def word(v: Values, m: Machine) -> int:
    return 4


def bytes(v: Values, m: Machine) -> int:
    return int(v["bytes"])


def total(v: Values, m: Machine) -> int:
    return int(v["total"])


def tiles(v: Values, m: Machine) -> int:
    return int(v["rows"]) * int(v["cols"]) * m.tile_bytes


def basis(v: Values, m: Machine) -> int:
    return 2 * int(v["count"]) * int(v["length"])


def tile_products(v: Values, m: Machine) -> int:
    return int(v["rows"]) * int(v["cols"]) * lanes(m)


def vector_products(v: Values, m: Machine) -> int:
    return int(v["length"])


def basis_products(v: Values, m: Machine) -> int:
    return int(v["count"]) * int(v["length"])


def tile_rows(size: int) -> Callable[[Values, Machine], int]:
    return lambda v, m: size * int(v["rows"]) * m.cluster.mac_rows


def tile_cols(size: int) -> Callable[[Values, Machine], int]:
    return lambda v, m: size * int(v["cols"]) * m.cluster.mac_cols


def rows(m: Machine) -> int:
    return m.grid.rows


def cols(m: Machine) -> int:
    return m.grid.cols
