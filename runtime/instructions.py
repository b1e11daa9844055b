"""The instruction table: each instruction once, with its operands, meaning, resource use and latency.

Encoder, decoder, assembler, disassembler, `isa` dialect, engines, timing and reference page all read this table.

A word has 128 bits: the opcode in bits 0 to 7, then the operands in their order, lowest bits first; the rest is
reserved and zero. All clusters of a stream's rectangle execute an instruction together, each on its own buffer.

Numbers: data is binary16, sums and scalars are binary32. A product of two binary16 values is exact in binary32; a
product with binary32 factors is rounded once to it, and takes the binary16 multipliers several turns (assumed: the
24-bit significand in 11-bit pieces). Where an instruction names `pieces`, 1 or 2, its binary32 factors are first
rounded to so many of them, 11 or 22 significant bits, and take fewer turns; 0 or 3 is all of them. `tree` adds
neighbours pairwise, level by level. Rounding is to nearest even; a store to a 16-bit location rounds once. A NaN that
is computed, which is all but a copy (`ld`, `st`, `put`, `get`, `part`, `bcast`, `gather`, `s.ld`, `s.st`), is 0x7E00
in binary16 and 0x7FC00000 in binary32.

Streams: a kernel has one stream over all clusters, or several, side by side, on a rectangle of clusters each. To its
stream a rectangle is the whole grid; with others it shares the ports of the banks of common columns, which have room
for the data of each, and the global memory with its ports. A port serves in the order in which instructions are ready
for it, of streams that are so at once the first first.

Memory: an address in a buffer or in the global memory, which all clusters share, and the bytes used there, are
multiples of the element's size, and bank addresses, strides and bytes are even. A result must not overlap another
operand of its instruction. All else is a fault before it is executed.
"""

from math import ceil

from runtime import costs
from runtime.instruction import OPCODE_BITS, WORD_BITS, Access, Instruction, Range, Unit
from runtime.operands import (
    BANK,
    BUFFER,
    BYTES,
    COUNT,
    EXTENT,
    FLAG,
    FLOAT,
    GLOBAL,
    IMMEDIATE,
    IREG,
    PIECES,
    SREG,
    STRIDE,
    TARGET,
    TOKEN,
)

_STREAM_OPERANDS = (
    ("buffer", BUFFER),
    ("bank", BANK),
    ("bytes", BYTES),
    ("stride", STRIDE),
    ("rows", EXTENT),
    ("cols", EXTENT),
    ("token", TOKEN),
)
_MATVEC_OPERANDS = (("y", BUFFER), ("a", BUFFER), ("x", BUFFER), ("rows", COUNT), ("cols", COUNT), ("accumulate", FLAG))
_LINE_OPERANDS = (("x", BUFFER), ("length", COUNT), ("span", EXTENT))
_GLOBAL_OPERANDS = (("x", BUFFER), ("g", GLOBAL), ("length", COUNT), ("rows", EXTENT), ("cols", EXTENT))
_PART_OPERANDS = (
    ("d", BUFFER),
    ("x", BUFFER),
    ("bytes", BYTES),
    ("total", BYTES),
    ("share", EXTENT),
    ("span", EXTENT),
)
_GATHER_OPERANDS = (("x", BUFFER), ("d", BUFFER), ("bytes", BYTES), ("total", BYTES), ("span", EXTENT))

INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction(
        "halt", 0x00, (), "End the stream once everything it started has finished.", Unit.CONTROL, costs.CONTROL
    ),
    Instruction("li", 0x01, (("d", IREG), ("value", IMMEDIATE)), "r[d] = value", Unit.CONTROL, costs.CONTROL),
    Instruction(
        "addi",
        0x02,
        (("d", IREG), ("a", IREG), ("value", IMMEDIATE)),
        "r[d] = r[a] + value",
        Unit.CONTROL,
        costs.CONTROL,
    ),
    Instruction(
        "loop",
        0x03,
        (("count", COUNT), ("end", TARGET)),
        "Execute the instructions from the next one to before `end` `count` times; none at all for 0.",
        Unit.CONTROL,
        costs.CONTROL,
    ),
    Instruction(
        "exit.ngt",
        0x04,
        (("a", SREG), ("b", SREG), ("target", TARGET)),
        "Unless s[a] > s[b] (in the first cluster), leave every loop that does not hold `target`, a later place, and "
        "go on there.",
        Unit.CONTROL,
        costs.CONTROL,
    ),
    Instruction(
        "wait",
        0x05,
        (("token", TOKEN),),
        "Wait until the last stream that names `token` is done.",
        Unit.CONTROL,
        costs.CONTROL,
    ),
    Instruction(
        "barrier",
        0x06,
        (),
        "Wait until all that the stream puts into and gets from the global memory is done, and every other stream of "
        "the kernel has come to a barrier, too. Streams use the same bytes of the global memory, one of them to write "
        "them, only with a barrier between.",
        Unit.CONTROL,
        costs.CONTROL,
    ),
    Instruction(
        "ld",
        0x10,
        _STREAM_OPERANDS,
        "In the first `cols` columns, the bank sends `bytes` bytes to `buffer` in each of the first `rows` clusters; "
        "cluster row i gets those at bank + i * stride. `token` is done with the last byte.",
        Unit.BANK,
        costs.TRANSFER,
        (Range("buffer", Access.WRITE, costs.bytes, 2, everywhere=False),),
    ),
    Instruction(
        "st",
        0x11,
        _STREAM_OPERANDS,
        "As `ld`, from the buffers to the bank.",
        Unit.BANK,
        costs.TRANSFER,
        (Range("buffer", Access.READ, costs.bytes, 2),),
    ),
    Instruction(
        "fill",
        0x12,
        (("x", BUFFER), ("bytes", BYTES)),
        "Set `bytes` bytes at x to zero.",
        Unit.ARRAY,
        costs.Cost(lambda v, m: ceil(v["bytes"] / m.cluster.buffer_write_bytes_per_cycle), costs.one),
        (Range("x", Access.WRITE, costs.bytes, 2),),
    ),
    Instruction(
        "put",
        0x13,
        _GLOBAL_OPERANDS,
        "The first cluster of each rectangle of `rows` x `cols` clusters (0: all of a side; the last may be smaller) "
        "writes its x to the global memory, from g on one after another, row of rectangles by row. The memory takes "
        "from one cluster at a time.",
        Unit.GLOBAL_WRITE,
        costs.PUT,
        (
            Range("x", Access.READ, costs.floats("length"), 4),
            Range("g", Access.WRITE, costs.put_bytes, 4, shared=True),
        ),
    ),
    Instruction(
        "get",
        0x14,
        _GLOBAL_OPERANDS,
        "The global memory sends rows * cols times `length` elements from g on to all clusters (0: the grid's side), "
        "each of which keeps `length` of them as x: cluster (r, c) the (r mod rows * cols + c mod cols)th.",
        Unit.GLOBAL_READ,
        costs.GET,
        (
            Range("x", Access.WRITE, costs.floats("length"), 4),
            Range("g", Access.READ, costs.get_bytes, 4, shared=True),
        ),
    ),
    Instruction(
        "mv.row",
        0x20,
        _MATVEC_OPERANDS,
        "y = A x (+ y where `accumulate`): row reduction. A is rows x cols tiles, tile after tile along a row; for "
        "each tile and each of its rows, y[row] += tree(A[row, :] * x), column tiles in order. x binary16, y binary32.",
        Unit.ARRAY,
        costs.Cost(costs.row_busy, lambda v, m: costs.tree_latency(m, m.cluster.mac_cols)),
        (
            Range("y", Access.UPDATE, costs.tile_rows(4), 4),
            Range("a", Access.READ, costs.tiles, 2),
            Range("x", Access.READ, costs.tile_cols(2), 2),
        ),
        products=costs.tile_products,
    ),
    Instruction(
        "mv.col",
        0x21,
        _MATVEC_OPERANDS,
        "y = A^T x (+ y where `accumulate`): column reduction of the same tiles; y[col] += tree(A[:, col] * x), row "
        "tiles in order. x binary16, y binary32.",
        Unit.ARRAY,
        costs.Cost(costs.col_busy, lambda v, m: costs.tree_latency(m, m.cluster.mac_rows)),
        (
            Range("y", Access.UPDATE, costs.tile_cols(4), 4),
            Range("a", Access.READ, costs.tiles, 2),
            Range("x", Access.READ, costs.tile_rows(2), 2),
        ),
        products=costs.tile_products,
    ),
    Instruction(
        "dots",
        0x22,
        (("d", BUFFER), ("basis", BUFFER), ("x", BUFFER), ("count", COUNT), ("length", COUNT), ("pieces", PIECES)),
        "d[i] = basis[i] . x for i < count: from zero, for each chunk of as many elements as the array has "
        "multipliers, in order, d[i] += tree(basis[i, chunk] * x[chunk]). basis binary16, row after row; x, in "
        "`pieces`, and d binary32. The array holds a chunk of x while the vectors of the basis pass.",
        Unit.ARRAY,
        costs.Cost(costs.dots_busy, lambda v, m: costs.tree_latency(m, costs.lanes(m))),
        (
            Range("d", Access.WRITE, costs.floats("count"), 4),
            Range("basis", Access.READ, costs.basis, 2),
            Range("x", Access.READ, costs.floats("length"), 4),
        ),
        products=costs.basis_products,
    ),
    Instruction(
        "norm2",
        0x23,
        (("d", BUFFER), ("x", BUFFER), ("length", COUNT), ("pieces", PIECES)),
        "d = x . x, chunk by chunk as `dots`; x, in `pieces`, and d binary32.",
        Unit.ARRAY,
        costs.Cost(costs.norm_busy, lambda v, m: costs.tree_latency(m, costs.lanes(m))),
        (Range("d", Access.WRITE, costs.word, 4), Range("x", Access.READ, costs.floats("length"), 4)),
        products=costs.vector_products,
    ),
    Instruction(
        "subtract",
        0x24,
        (("x", BUFFER), ("basis", BUFFER), ("c", BUFFER), ("count", COUNT), ("length", COUNT), ("pieces", PIECES)),
        "x -= c[i] * basis[i] for i = 0 to count - 1 in order, product and difference each rounded; basis binary16, x "
        "and c binary32, c in `pieces`.",
        Unit.ARRAY,
        costs.Cost(costs.subtract_busy, lambda v, m: m.latency_cycles.multiply + m.latency_cycles.add),
        (
            Range("x", Access.UPDATE, costs.floats("length"), 4),
            Range("basis", Access.READ, costs.basis, 2),
            Range("c", Access.READ, costs.floats("count"), 4),
        ),
        products=costs.basis_products,
    ),
    Instruction(
        "scale",
        0x25,
        (("d", BUFFER), ("x", BUFFER), ("by", SREG), ("length", COUNT), ("pieces", PIECES)),
        "d = binary16(x * s[by]), both in `pieces` and the product rounded to binary32 first; x binary32.",
        Unit.ARRAY,
        costs.Cost(costs.scale_busy, lambda v, m: m.latency_cycles.multiply + m.latency_cycles.convert),
        (Range("d", Access.WRITE, costs.halves("length"), 2), Range("x", Access.READ, costs.floats("length"), 4)),
        products=costs.vector_products,
    ),
    Instruction(
        "madd",
        0x26,
        (
            ("d", BUFFER),
            ("v", BUFFER),
            ("c", BUFFER),
            ("count", COUNT),
            ("length", COUNT),
            ("accumulate", FLAG),
            ("pieces", PIECES),
        ),
        "d (from zero unless `accumulate`) += c[i] * v for i = 0 to count - 1 in order, product and sum each rounded; "
        "v binary16, c, in `pieces`, and d binary32.",
        Unit.ARRAY,
        costs.Cost(costs.subtract_busy, lambda v, m: m.latency_cycles.multiply + m.latency_cycles.add),
        (
            Range("d", Access.UPDATE, costs.floats("length"), 4),
            Range("v", Access.READ, costs.halves("length"), 2),
            Range("c", Access.READ, costs.floats("count"), 4),
        ),
        products=costs.basis_products,
    ),
    Instruction(
        "sub",
        0x27,
        (("x", BUFFER), ("y", BUFFER), ("length", COUNT)),
        "x -= y, binary32.",
        Unit.ARRAY,
        costs.Cost(costs.elementwise_busy, lambda v, m: m.latency_cycles.add),
        (Range("x", Access.UPDATE, costs.floats("length"), 4), Range("y", Access.READ, costs.floats("length"), 4)),
    ),
    Instruction(
        "sum",
        0x28,
        (("d", BUFFER), ("x", BUFFER), ("length", COUNT)),
        "d = the sum of x, chunk by chunk as `dots`, past the multipliers; d and x binary32.",
        Unit.ARRAY,
        costs.Cost(costs.sum_busy, lambda v, m: (costs.levels(costs.lanes(m)) + 1) * m.latency_cycles.add),
        (Range("d", Access.WRITE, costs.word, 4), Range("x", Access.READ, costs.floats("length"), 4)),
    ),
    Instruction(
        "part.row",
        0x29,
        _PART_OPERANDS,
        "In each row, d of cluster i of each `span` neighbours = the (i div `share`)th `bytes` bytes of its own x "
        "(`share` 0: the first for all), where x has `total` bytes and zeros after them.",
        Unit.ARRAY,
        costs.PART,
        (Range("d", Access.WRITE, costs.bytes, 2), Range("x", Access.READ, costs.total, 2)),
    ),
    Instruction(
        "part.col",
        0x2A,
        _PART_OPERANDS,
        "As `part.row`, in each column.",
        Unit.ARRAY,
        costs.PART,
        (Range("d", Access.WRITE, costs.bytes, 2), Range("x", Access.READ, costs.total, 2)),
    ),
    Instruction(
        "reduce.row",
        0x30,
        _LINE_OPERANDS,
        "In each row, of each `span` neighbouring clusters (0: all; the last may be fewer): x[i] of the first = tree "
        "of x[i] over them, an odd one passing through.",
        Unit.ROW_LINKS,
        costs.reduce(costs.cols),
        (Range("x", Access.UPDATE, costs.floats("length"), 4),),
    ),
    Instruction(
        "reduce.col",
        0x31,
        _LINE_OPERANDS,
        "As `reduce.row`, over neighbouring clusters of each column.",
        Unit.COLUMN_LINKS,
        costs.reduce(costs.rows),
        (Range("x", Access.UPDATE, costs.floats("length"), 4),),
    ),
    Instruction(
        "bcast.row",
        0x32,
        _LINE_OPERANDS,
        "In each row, x of each `span` neighbouring clusters = x of the first of them.",
        Unit.ROW_LINKS,
        costs.broadcast(costs.cols),
        (Range("x", Access.UPDATE, costs.floats("length"), 4),),
    ),
    Instruction(
        "bcast.col",
        0x33,
        _LINE_OPERANDS,
        "In each column, x of each `span` neighbouring clusters = x of the first of them.",
        Unit.COLUMN_LINKS,
        costs.broadcast(costs.rows),
        (Range("x", Access.UPDATE, costs.floats("length"), 4),),
    ),
    Instruction(
        "allreduce.row",
        0x34,
        _LINE_OPERANDS,
        "In each row, x[i] of each of `span` neighbouring clusters (0: all; the last may be fewer) = the sum of x[i] "
        "over them: from the first to the middle one after another, and from the last to the middle, the first half "
        "the larger; then the first half's sum + the other's. Sums pass both ways at once, each direction on its own "
        "channel, and a cluster adds its own as they pass; the two in the middle exchange theirs and send the total "
        "back outwards. Each link carries each sum once in each direction. A cluster needs two rows of binary32 "
        "adders as wide as a link (assumed).",
        Unit.ROW_LINKS,
        costs.all_reduce(costs.cols),
        (Range("x", Access.UPDATE, costs.floats("length"), 4),),
    ),
    Instruction(
        "allreduce.col",
        0x35,
        _LINE_OPERANDS,
        "As `allreduce.row`, over neighbouring clusters of each column.",
        Unit.COLUMN_LINKS,
        costs.all_reduce(costs.rows),
        (Range("x", Access.UPDATE, costs.floats("length"), 4),),
    ),
    Instruction(
        "gather.row",
        0x36,
        _GATHER_OPERANDS,
        "In each row, x of each `span` neighbouring clusters = the `bytes` bytes at d of the first of them, of the "
        "second, and so on; of x at most the first `total` bytes are written.",
        Unit.ROW_LINKS,
        costs.gather(costs.cols),
        (
            Range("x", Access.WRITE, costs.gathered(costs.cols), 2, everywhere=False),
            Range("d", Access.READ, costs.bytes, 2),
        ),
    ),
    Instruction(
        "gather.col",
        0x37,
        _GATHER_OPERANDS,
        "As `gather.row`, of neighbouring clusters of each column.",
        Unit.COLUMN_LINKS,
        costs.gather(costs.rows),
        (
            Range("x", Access.WRITE, costs.gathered(costs.rows), 2, everywhere=False),
            Range("d", Access.READ, costs.bytes, 2),
        ),
    ),
    Instruction(
        "s.li",
        0x40,
        (("d", SREG), ("value", FLOAT)),
        "s[d] = value",
        Unit.SCALAR,
        costs.SCALAR_COPY,
    ),
    Instruction(
        "s.ld",
        0x41,
        (("d", SREG), ("x", BUFFER)),
        "s[d] = x",
        Unit.SCALAR,
        costs.SCALAR_COPY,
        (Range("x", Access.READ, costs.word, 4),),
    ),
    Instruction(
        "s.st",
        0x42,
        (("x", BUFFER), ("a", SREG)),
        "x = s[a]",
        Unit.SCALAR,
        costs.SCALAR_COPY,
        (Range("x", Access.WRITE, costs.word, 4),),
    ),
    Instruction(
        "s.mul",
        0x43,
        (("d", SREG), ("a", SREG), ("b", SREG)),
        "s[d] = s[a] * s[b]",
        Unit.SCALAR,
        costs.scalar(lambda m: m.latency_cycles.multiply),
    ),
    Instruction(
        "s.max",
        0x44,
        (("d", SREG), ("a", SREG), ("b", SREG)),
        "s[d] = s[a] where s[a] > s[b], else s[b]",
        Unit.SCALAR,
        costs.scalar(lambda m: m.latency_cycles.add),
    ),
    Instruction(
        "s.rsqrt",
        0x45,
        (("d", SREG), ("a", SREG)),
        "s[d] = 1 / sqrt(s[a]), computed in binary64 and rounded to binary32",
        Unit.SCALAR,
        costs.scalar(lambda m: m.latency_cycles.reciprocal_sqrt),
    ),
    Instruction(
        "s.where",
        0x46,
        (("d", SREG), ("a", SREG), ("b", SREG), ("c", SREG)),
        "s[d] = s[c] where s[a] > s[b], else 0",
        Unit.SCALAR,
        costs.scalar(lambda m: m.latency_cycles.add),
    ),
    Instruction(
        "s.div",
        0x47,
        (("d", SREG), ("a", SREG), ("b", SREG)),
        "s[d] = s[a] / s[b]",
        Unit.SCALAR,
        costs.scalar(lambda m: m.latency_cycles.divide),
    ),
)

BY_MNEMONIC = {instruction.mnemonic: instruction for instruction in INSTRUCTIONS}
BY_OPCODE = {instruction.opcode: instruction for instruction in INSTRUCTIONS}


def _check_table() -> None:
    """Fail at import where the table is ambiguous: two rows of one name or opcode, or a word that overflows."""
    if len(BY_MNEMONIC) != len(INSTRUCTIONS) or len(BY_OPCODE) != len(INSTRUCTIONS):
        raise ValueError("two instructions have the same mnemonic or opcode")
    for instruction in INSTRUCTIONS:
        names = [name for name, _ in instruction.operands]
        if len(set(names)) != len(names) or not {used.operand for used in instruction.ranges} <= set(names):
            raise ValueError(f"{instruction.mnemonic}: operand names are ambiguous or unknown")
        if OPCODE_BITS + sum(kind.bits for _, kind in instruction.operands) > WORD_BITS:
            raise ValueError(f"{instruction.mnemonic}: operands overflow the word")


_check_table()
