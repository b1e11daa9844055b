"""The reference engine against plain loops over scalars, bit by bit, on data with every kind of binary16 and binary32.

NaNs in binary32 are compared as NaNs: which NaN a sum gives is not part of the definition. In 16 bits it is.
"""

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from machines import issues, machine

from runtime.machine import Machine
from runtime.reference import ReferenceEngine, to_half, tree
from runtime.sequencer import MachineFault

F = np.float32
GRIDS = {
    "16x16 of 8x8": machine(buffer_bytes=4096),
    "3x5 of 4x2": machine(rows=3, cols=5, mac_rows=4, mac_cols=2, buffer_bytes=4096),
    "2x3 of 2x8": machine(rows=2, cols=3, mac_rows=2, mac_cols=8, buffer_bytes=4096),
    "1x1 of 1x1": machine(rows=1, cols=1, mac_rows=1, mac_cols=1, buffer_bytes=4096),
}
SMALL = [m for name, m in GRIDS.items() if name != "16x16 of 8x8"]
SPECIAL = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01, 0x7C01]
WIDE = [0, 1 << 31, 1, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001]


def halves(random: np.random.Generator, count: int, special: float) -> np.ndarray:
    """Binary16 values, a share of them special."""
    bits = random.standard_normal(count).astype(np.float16).view(np.uint16)
    return (
        np.where(random.random(count) < special, random.choice(SPECIAL, count), bits).astype(np.uint16).view(np.float16)
    )


def singles(random: np.random.Generator, count: int, special: float) -> np.ndarray:
    """Binary32 values over many magnitudes, a share of them special."""
    values = random.standard_normal(count) * 10.0 ** random.integers(-9, 9, count)
    bits = values.astype(F).view(np.uint32)
    return np.where(random.random(count) < special, random.choice(WIDE, count), bits).astype(np.uint32).view(F)


class Bench:
    """An engine with random buffers, and what each cluster held before."""

    def __init__(self, m: Machine, seed: int, bank_bytes: int = 1024) -> None:
        self.machine = m
        self.random = np.random.default_rng(seed)
        self.banks = self.random.integers(0, 256, (m.grid.cols, bank_bytes)).astype(np.uint8)
        self.engine = ReferenceEngine(m, self.banks)
        self.clusters = [(r, c) for r in range(m.grid.rows) for c in range(m.grid.cols)]
        self.engine.buffers[:] = self.random.integers(0, 256, self.engine.buffers.shape)

    def put(
        self, address: int, make: Callable[[np.random.Generator, int, float], np.ndarray], count: int, special: float
    ) -> None:
        for r, c in self.clusters:
            data = make(self.random, count, special).view(np.uint8)
            self.engine.buffers[r, c, address : address + data.size] = data

    def run(self, *lines: str) -> "Bench":
        self.before = self.engine.buffers.copy()
        for issue in issues(*lines, "halt"):
            self.engine.execute(issue)
        return self

    def old(self, cluster: tuple[int, int], address: int, count: int, kind: type) -> list:
        """Scalars that a cluster held before, binary16 widened."""
        size = count * np.dtype(kind).itemsize
        data = self.before[cluster][address : address + size].tobytes()
        return [F(value) for value in np.frombuffer(data, kind)]

    def expect(self, address: int, kind: type, expected: dict[tuple[int, int], Sequence]) -> None:
        """The clusters hold these values at `address`, and nothing else has changed."""
        wanted = self.before.copy()
        for cluster in self.clusters:
            values = np.array(expected.get(cluster, []), kind)
            data = np.frombuffer(values.tobytes(), np.uint8)
            wanted[cluster][address : address + data.size] = data
            if kind is F:  # any NaN is as good as another
                got = self.engine.buffers[cluster][address : address + data.size].copy().view(F)
                both = np.isnan(got) & np.isnan(values)
                wanted[cluster][address : address + data.size].view(F)[both] = got[both]
        differing = np.argwhere(wanted != self.engine.buffers)
        assert not len(differing), f"cluster and byte {differing[0].tolist()}"


def plain_tree(terms: list) -> F:
    """Neighbours pairwise, level by level; an odd last one passes."""
    while len(terms) > 1:
        odd = terms[len(terms) - 1 :] if len(terms) % 2 else []
        terms = [F(terms[i] + terms[i + 1]) for i in range(0, len(terms) - 1, 2)] + odd
    return terms[0]


def plain_half(value: F) -> int:
    """Bits of a binary32 value in binary16: to nearest even by exact fractions; a NaN is 0x7E00."""
    sign = 0x8000 if math.copysign(1, value) < 0 else 0
    if math.isnan(value):
        return 0x7E00
    if math.isinf(value):
        return sign | 0x7C00
    size = abs(Fraction(float(value)))
    exponent = max(math.frexp(float(size))[1] - 1, -14) if size else -14
    steps = round(size / Fraction(2) ** (exponent - 10))  # half to even
    # A count of 1024 steps and more is a normal number; one of 2048 carries into the exponent by itself.
    return sign | min((exponent + 14 << 10) + steps, 0x7C00)


@pytest.fixture(autouse=True)
def quiet_scalars() -> object:
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(params=GRIDS, ids=lambda name: name.replace(" ", "-"))
def any_machine(request: pytest.FixtureRequest) -> Machine:
    return GRIDS[request.param]


@pytest.fixture(params=SMALL, ids=lambda m: f"{m.grid.rows}x{m.grid.cols}-of-{m.cluster.mac_rows}x{m.cluster.mac_cols}")
def small(request: pytest.FixtureRequest) -> Machine:
    return request.param


SHARES = pytest.mark.parametrize("special", [0.0, 0.02, 0.5])


def test_half_of_every_kind_of_value() -> None:
    random = np.random.default_rng(0)
    ties = [
        F(x) for x in (65519.99, 65520, -65520, 65504, 2049, 2051, 4098, 4102, 2**-25, 3 * 2**-25, 5 * 2**-25, 2**-14)
    ]
    near = [F(float(h) * (1 + d)) for h in halves(random, 500, 0.0) for d in (0, 2**-12, 2**-11, 2**-11 + 2**-20)]
    tiny = [F(n * 2**-26) for n in range(300)]
    values = ties + near + tiny + list(singles(random, 3000, 0.1))
    assert to_half(np.array(values, F)).view(np.uint16).tolist() == [plain_half(value) for value in values]


def test_every_half_comes_back() -> None:
    every = np.arange(65536, dtype=np.uint32).astype(np.uint16)
    back = to_half(every.view(np.float16).astype(F)).view(np.uint16)
    nan = (every & 0x7FFF) > 0x7C00
    assert (back[~nan] == every[~nan]).all()
    assert (back[nan] == 0x7E00).all()


@pytest.mark.parametrize("count", range(1, 18))
def test_tree_of_any_number_of_terms(count: int) -> None:
    terms = singles(np.random.default_rng(count), 50 * count, 0.01).reshape(50, count)
    expected = np.array([plain_tree(list(row)) for row in terms], F)
    got = tree(terms)
    assert (np.isnan(got) == np.isnan(expected)).all()
    numbers = ~np.isnan(got)
    assert (got.view(np.uint32) == expected.view(np.uint32))[numbers].all()


def test_tree_has_the_documented_order() -> None:
    """((a + b) + (c + d)) + e, where other orders give other sums."""
    terms = np.array([2**24, 1, 1, 1, 1], F)
    assert tree(terms) == 2**24 + 4  # (2^24 + 1) + (1 + 1) = 2^24 + 2, and the odd one, a tie, to even
    assert np.add.accumulate(terms)[-1] == 2**24


def matvec(m: Machine, seed: int, special: float, mnemonic: str, rows: int, cols: int, accumulate: int) -> None:
    mr, mc = m.cluster.mac_rows, m.cluster.mac_cols
    n_out, n_in = (rows * mr, cols * mc) if mnemonic == "mv.row" else (cols * mc, rows * mr)
    bench = Bench(m, seed)
    y, x, a = 0x10, 0x10 + 4 * n_out, 0x10 + 4 * n_out + 2 * n_in
    bench.put(y, singles, n_out, special / 4)
    bench.put(x, halves, n_in, special / 4)
    bench.put(a, halves, rows * cols * mr * mc, special / 16)
    bench.run(f"{mnemonic} [r0+{y}], [r0+{a}], [r0+{x}], {rows}, {cols}, {accumulate}")
    expected = {}
    for cluster in bench.clusters:
        tiles = bench.old(cluster, a, rows * cols * mr * mc, np.float16)
        vector = bench.old(cluster, x, n_in, np.float16)
        sums = bench.old(cluster, y, n_out, F) if accumulate else [F(0)] * n_out

        def tile(i: int, j: int, p: int, q: int, tiles: list = tiles) -> F:
            return tiles[((i * cols + j) * mr + p) * mc + q]

        for i in range(rows):
            for j in range(cols):
                if mnemonic == "mv.row":
                    for p in range(mr):
                        products = [F(tile(i, j, p, q) * vector[j * mc + q]) for q in range(mc)]
                        sums[i * mr + p] = F(sums[i * mr + p] + plain_tree(products))
                else:
                    for q in range(mc):
                        products = [F(tile(i, j, p, q) * vector[i * mr + p]) for p in range(mr)]
                        sums[j * mc + q] = F(sums[j * mc + q] + plain_tree(products))
        expected[cluster] = sums
    bench.expect(y, F, expected)


@SHARES
@pytest.mark.parametrize("mnemonic", ["mv.row", "mv.col"])
@pytest.mark.parametrize(("rows", "cols", "accumulate"), [(1, 1, 0), (2, 3, 0), (3, 2, 1)])
def test_matvec(small: Machine, special: float, mnemonic: str, rows: int, cols: int, accumulate: int) -> None:
    matvec(small, rows + 10 * cols, special, mnemonic, rows, cols, accumulate)


@pytest.mark.parametrize("mnemonic", ["mv.row", "mv.col"])
def test_matvec_on_the_shipped_machine(mnemonic: str) -> None:
    matvec(GRIDS["16x16 of 8x8"], 1, 0.01, mnemonic, 1, 2, 1)


@SHARES
@pytest.mark.parametrize(("count", "length"), [(1, 1), (3, 8), (2, 13), (4, 24), (0, 8), (3, 0)])
def test_dots(small: Machine, special: float, count: int, length: int) -> None:
    bench = Bench(small, count + length)
    d, x, basis = 0, 0x40, 0x140
    bench.put(x, singles, length, special / 8)
    bench.put(basis, halves, count * length, special / 8)
    bench.run(f"li r7, {count}", f"dots [r0+{d}], [r0+{basis}], [r0+{x}], r7, {length}")
    expected = {}
    for cluster in bench.clusters:
        vector, rows = bench.old(cluster, x, length, F), bench.old(cluster, basis, count * length, np.float16)
        expected[cluster] = [plain_dot(small, rows[i * length : (i + 1) * length], vector) for i in range(count)]
    bench.expect(d, F, expected)


def plain_dot(m: Machine, a: list, b: list) -> F:
    lanes, total = m.cluster.mac_rows * m.cluster.mac_cols, F(0)
    for start in range(0, len(a), lanes):
        products = [F(p * q) for p, q in zip(a[start : start + lanes], b[start : start + lanes], strict=True)]
        total = F(total + plain_tree(products + [F(0)] * (lanes - len(products))))
    return total


@SHARES
@pytest.mark.parametrize("length", [1, 7, 8, 31])
def test_norm2(small: Machine, special: float, length: int) -> None:
    bench = Bench(small, length)
    bench.put(0x40, singles, length, special / 8)
    bench.run(f"norm2 [r0+0x8], [r0+0x40], {length}")
    vectors = {cluster: bench.old(cluster, 0x40, length, F) for cluster in bench.clusters}
    bench.expect(8, F, {cluster: [plain_dot(small, x, x)] for cluster, x in vectors.items()})


@SHARES
@pytest.mark.parametrize(("count", "length"), [(1, 1), (3, 9), (5, 16), (0, 8)])
def test_subtract(small: Machine, special: float, count: int, length: int) -> None:
    bench = Bench(small, count + length)
    x, c, basis = 0x20, 0x100, 0x200
    bench.put(x, singles, length, special)
    bench.put(c, singles, count, special)
    bench.put(basis, halves, count * length, special)
    bench.run(f"li r7, {count}", f"subtract [r0+{x}], [r0+{basis}], [r0+{c}], r7, {length}")
    expected = {}
    for cluster in bench.clusters:
        vector, cells = bench.old(cluster, x, length, F), bench.old(cluster, c, count, F)
        rows = bench.old(cluster, basis, count * length, np.float16)
        for i in range(count):
            vector = [F(vector[n] - F(cells[i] * rows[i * length + n])) for n in range(length)]
        expected[cluster] = vector
    bench.expect(x, F, expected)


@SHARES
@pytest.mark.parametrize("length", [1, 9, 40])
def test_scale(small: Machine, special: float, length: int) -> None:
    bench = Bench(small, length)
    bench.put(0x100, singles, length, special)
    bench.engine.scalars[4] = singles(bench.random, len(bench.clusters), special).reshape(bench.engine.scalars[4].shape)
    bench.run(f"scale [r0+0x20], [r0+0x100], s4, {length}")
    expected = {}
    for cluster in bench.clusters:
        by = bench.engine.scalars[4][cluster]
        bits = [plain_half(F(x * by)) for x in bench.old(cluster, 0x100, length, F)]
        expected[cluster] = np.array(bits, np.uint16).view(np.float16)
    bench.expect(0x20, np.float16, expected)


def lines_of(m: Machine, mnemonic: str) -> list[list[tuple[int, int]]]:
    """The clusters of each row, or of each column, in order."""
    grid = [[(r, c) for c in range(m.grid.cols)] for r in range(m.grid.rows)]
    return grid if mnemonic.endswith("row") else [list(line) for line in zip(*grid, strict=True)]


@SHARES
@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("mnemonic", ["reduce.row", "reduce.col"])
def test_reduce(any_machine: Machine, special: float, mnemonic: str, length: int) -> None:
    bench = Bench(any_machine, length)
    bench.put(0x30, singles, length, special / 16)
    bench.run(f"{mnemonic} [r0+0x30], {length}")
    expected = {}
    for line in lines_of(any_machine, mnemonic):
        values = [bench.old(cluster, 0x30, length, F) for cluster in line]
        expected[line[0]] = [plain_tree([value[i] for value in values]) for i in range(length)]
    bench.expect(0x30, F, expected)


@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("mnemonic", ["bcast.row", "bcast.col"])
def test_broadcast(any_machine: Machine, mnemonic: str, length: int) -> None:
    bench = Bench(any_machine, length)
    bench.run(f"{mnemonic} [r0+0x30], {length}")
    expected = {}
    for line in lines_of(any_machine, mnemonic):
        source = bench.before[line[0]][0x30 : 0x30 + 4 * length]
        expected.update(dict.fromkeys(line, source))
    bench.expect(0x30, np.uint8, expected)


def test_fill(any_machine: Machine) -> None:
    bench = Bench(any_machine, 0).run("fill [r0+0x12], 78")
    bench.expect(0x12, np.uint8, dict.fromkeys(bench.clusters, [0] * 78))


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (1, 1), (2, 3), (0, 2), (1, 0)])
def test_load(rows: int, cols: int) -> None:
    m = GRIDS["3x5 of 4x2"]
    bench = Bench(m, rows).run("li r6, 100", f"ld [r0+0x20], r6, 60, 200, {rows}, {cols}, t3")
    columns = range(cols or m.grid.cols)
    expected = {
        (r, c): bench.banks[c, 100 + 200 * r : 160 + 200 * r] for r in range(rows or m.grid.rows) for c in columns
    }
    bench.expect(0x20, np.uint8, expected)


def test_load_with_no_stride_sends_the_same_to_all() -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 1).run("ld [r0+0x20], r1, 60, 0, 0, 0, t3")
    bench.expect(0x20, np.uint8, {(r, c): bench.banks[c, :60] for r, c in bench.clusters})


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (1, 1), (2, 3)])
def test_store(rows: int, cols: int) -> None:
    m = GRIDS["3x5 of 4x2"]
    bench = Bench(m, rows)
    wanted = bench.banks.copy()
    bench.run("li r6, 100", f"st [r0+0x20], r6, 60, 200, {rows}, {cols}, t3")
    for r in range(rows or m.grid.rows):
        for c in range(cols or m.grid.cols):
            wanted[c, 100 + 200 * r : 160 + 200 * r] = bench.before[r, c, 0x20 : 0x20 + 60]
    assert (bench.banks == wanted).all()
    assert (bench.engine.buffers == bench.before).all()


@SHARES
def test_scalars(any_machine: Machine, special: float) -> None:
    """Each cluster works on its own scalars."""
    bench = Bench(any_machine, 3)
    bench.put(0x40, singles, 2, special)
    bench.run(
        "s.ld s1, [r0+0x40]",
        "s.ld s2, [r0+0x44]",
        "s.mul s3, s1, s2",
        "s.max s4, s1, s2",
        "s.max s5, s2, s1",
        "s.rsqrt s6, s1",
        "s.li s31, -0.1",
        *(f"s.st [r0+{0x80 + 4 * i}], s{register}" for i, register in enumerate((1, 3, 4, 5, 6, 31))),
    )
    expected = {}
    for cluster in bench.clusters:
        a, b = bench.old(cluster, 0x40, 2, F)
        # Correct rounding of the root's reciprocal needs more than binary32; binary64 is the definition.
        rsqrt = F(np.float64(1) / np.sqrt(np.float64(a)))
        expected[cluster] = [a, F(a * b), a if a > b else b, b if b > a else a, rsqrt, F(-0.1)]
    bench.expect(0x80, F, expected)


@pytest.mark.parametrize(
    ("a", "expected"),
    [(4.0, 0.5), (2.0, 0.70710677), (0.0, math.inf), (-0.0, -math.inf), (math.inf, 0.0), (2**-149, 2**74.5)],
)
def test_reciprocal_square_root(a: float, expected: float) -> None:
    bench = Bench(GRIDS["1x1 of 1x1"], 0)
    bench.engine.scalars[1] = a
    bench.run("s.rsqrt s2, s1")
    assert bench.engine.scalars[2, 0, 0] == F(expected)


@pytest.mark.parametrize("a", [-1.0, math.nan, -math.inf])
def test_reciprocal_square_root_of_no_square(a: float) -> None:
    bench = Bench(GRIDS["1x1 of 1x1"], 0)
    bench.engine.scalars[1] = a
    assert np.isnan(bench.run("s.rsqrt s2, s1").engine.scalars[2, 0, 0])


@pytest.mark.parametrize(
    ("a", "b", "leaves"),
    [
        (2, 1, False),
        (1, 2, True),
        (1, 1, True),
        (0.0, -0.0, True),
        (math.nan, 1, True),
        (1, math.nan, True),
        (math.inf, 9, False),
    ],
)
def test_exit_is_decided_by_the_first_cluster(a: float, b: float, leaves: bool) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 0)
    bench.engine.scalars[1], bench.engine.scalars[2] = b, a
    bench.engine.scalars[1, 0, 0], bench.engine.scalars[2, 0, 0] = a, b
    (exit_,) = (issue for issue in issues("exit.ngt s1, s2, 1", "halt") if issue.mnemonic == "exit.ngt")
    assert bench.engine.leaves(exit_) is leaves


UNALIGNED = [
    ("fill [r0+1], 4", 2),
    ("fill [r0+0], 5", 2),
    ("mv.row [r0+2], [r0+64], [r0+128], 1, 1, 0", 4),
    ("mv.row [r0+0], [r0+65], [r0+128], 1, 1, 0", 2),
    ("mv.row [r0+0], [r0+64], [r0+129], 1, 1, 0", 2),
    ("mv.col [r0+2], [r0+64], [r0+128], 1, 1, 0", 4),
    ("mv.col [r0+0], [r0+65], [r0+128], 1, 1, 0", 2),
    ("mv.col [r0+0], [r0+64], [r0+129], 1, 1, 0", 2),
    ("dots [r0+2], [r0+64], [r0+128], 3, 4", 4),
    ("dots [r0+0], [r0+65], [r0+128], 3, 4", 2),
    ("dots [r0+0], [r0+64], [r0+130], 3, 4", 4),
    ("norm2 [r0+2], [r0+64], 1", 4),
    ("norm2 [r0+0], [r0+66], 1", 4),
    ("subtract [r0+2], [r0+64], [r0+128], 3, 4", 4),
    ("subtract [r0+0], [r0+65], [r0+128], 3, 4", 2),
    ("subtract [r0+0], [r0+64], [r0+130], 3, 4", 4),
    ("scale [r0+1], [r0+64], s1, 4", 2),
    ("scale [r0+0], [r0+66], s1, 4", 4),
    *((f"{mnemonic} [r0+2], 4", 4) for mnemonic in ("reduce.row", "reduce.col", "bcast.row", "bcast.col")),
    ("s.ld s1, [r0+2]", 4),
    ("s.st [r0+2], s1", 4),
    *((f"{mnemonic} [r0+1], r1, 8, 0, 1, 1, t0", 2) for mnemonic in ("ld", "st")),
    *((f"{mnemonic} [r0+0], r1, 7, 0, 1, 1, t0", 2) for mnemonic in ("ld", "st")),
]


@pytest.mark.parametrize(("line", "element"), UNALIGNED)
def test_address_or_size_that_is_no_multiple_of_the_element(line: str, element: int) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 5, bank_bytes=8)
    wanted = rf"instruction 0, .*: bytes \d+ to \d+ are no whole elements of {element} bytes"
    with pytest.raises(MachineFault, match=wanted):
        bench.run(line)
    assert (bench.engine.buffers == bench.before).all()


@pytest.mark.parametrize("mnemonic", ["ld", "st"])
@pytest.mark.parametrize(("base", "stride"), [(1, 8), (0, 9)])
def test_odd_address_in_the_bank(mnemonic: str, base: int, stride: int) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 5)
    with pytest.raises(MachineFault, match=rf"instruction 1, .*: bank address {base} or stride {stride} is odd"):
        bench.run(f"li r4, {base}", f"{mnemonic} [r0+0], r4, 8, {stride}, 2, 1, t0")


OVERLAPS = [  # 4 x 2 multipliers; the last bytes of one operand are the first of the other
    "mv.row [r0+64], [r0+76], [r0+0], 1, 1, 0",
    "mv.row [r0+64], [r0+50], [r0+0], 1, 1, 1",
    "mv.row [r0+64], [r0+0], [r0+78], 1, 1, 1",
    "mv.row [r0+64], [r0+0], [r0+62], 1, 1, 0",
    "mv.col [r0+64], [r0+70], [r0+0], 1, 1, 0",
    "mv.col [r0+64], [r0+0], [r0+58], 1, 1, 1",
    "dots [r0+64], [r0+72], [r0+0], 3, 4",
    "dots [r0+64], [r0+0], [r0+52], 3, 4",
    "norm2 [r0+64], [r0+64], 1",
    "norm2 [r0+76], [r0+64], 4",
    "subtract [r0+64], [r0+78], [r0+0], 3, 4",
    "subtract [r0+64], [r0+0], [r0+76], 3, 4",
    "scale [r0+64], [r0+64], s1, 4",
    "scale [r0+64], [r0+68], s1, 4",
]


@pytest.mark.parametrize("line", OVERLAPS)
def test_result_that_overlaps_another_operand(line: str) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 5)
    with pytest.raises(MachineFault, match=r"instruction 0, .*: the result overlaps another operand in bytes"):
        bench.run(line)
    assert (bench.engine.buffers == bench.before).all()


@pytest.mark.parametrize(
    "line",
    [
        "mv.row [r0+64], [r0+80], [r0+60], 1, 1, 0",
        "mv.row [r0+64], [r0+0], [r0+4], 1, 1, 0",  # the tile and the vector are both read
        "dots [r0+64], [r0+0], [r0+0], 3, 4",
        "norm2 [r0+80], [r0+64], 4",
        "scale [r0+80], [r0+64], s1, 4",
        "scale [r0+64], [r0+64], s1, 0",
        "dots [r0+64], [r0+64], [r0+80], 0, 4",
    ],
)
def test_operands_that_meet_without_an_overlap(line: str) -> None:
    Bench(GRIDS["3x5 of 4x2"], 5).run(line)


END = 4096
OUTSIDE = [
    f"fill [r0+{END - 4}], 6",
    f"mv.row [r0+{END - 12}], [r0+0], [r0+64], 1, 1, 0",
    f"mv.row [r0+0], [r0+{END - 14}], [r0+64], 1, 1, 0",
    f"mv.col [r0+0], [r0+64], [r0+{END - 6}], 1, 1, 1",
    f"dots [r0+{END - 8}], [r0+0], [r0+64], 3, 4",
    f"dots [r0+0], [r0+{END - 22}], [r0+64], 3, 4",
    f"norm2 [r0+{END}], [r0+0], 1",
    f"subtract [r0+0], [r0+64], [r0+{END - 8}], 3, 4",
    f"scale [r0+{END - 6}], [r0+0], s1, 4",
    f"reduce.row [r0+{END - 12}], 4",
    f"bcast.col [r0+{END}], 1",
    f"s.ld s1, [r0+{END}]",
    f"s.st [r0+{END}], s1",
    f"ld [r0+{END - 6}], r1, 8, 0, 1, 1, t0",
    f"st [r0+{END - 6}], r1, 8, 0, 1, 1, t0",
    "norm2 [r0+0], [r0+4], 32767",
]


@pytest.mark.parametrize("line", OUTSIDE)
def test_address_outside_the_buffer(line: str) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 0, bank_bytes=8)
    with pytest.raises(
        MachineFault, match=r"instruction 0, .*: bytes \d+ to \d+ are outside the buffer of 4096"
    ) as fault:
        bench.run(line)
    assert fault.value.what.startswith(f"instruction 0, {line.split()[0]} ")


@pytest.mark.parametrize("line", OUTSIDE[:-1])
def test_last_address_inside_the_buffer(line: str) -> None:
    """One element earlier, every one of these is right."""
    element = 2 if re.match("fill|ld|st|scale|mv.row .r0.0|mv.col|dots .r0.0", line) else 4
    inside = re.sub(r"40[789]\d", lambda address: str(int(address[0]) - element), line)
    Bench(GRIDS["3x5 of 4x2"], 0, bank_bytes=8).run(inside)


def test_negative_address() -> None:
    with pytest.raises(MachineFault, match=r"instruction 1, .*: bytes -2 to 2 are outside the buffer of 4096"):
        Bench(GRIDS["3x5 of 4x2"], 0).run("li r5, -10", "fill [r5+0x8], 4")


@pytest.mark.parametrize("mnemonic", ["ld", "st"])
@pytest.mark.parametrize(("base", "rows", "stride"), [(1017, 1, 0), (0, 3, 509), (-1, 1, 0)])
def test_address_outside_the_bank(mnemonic: str, base: int, rows: int, stride: int) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 0, bank_bytes=1024)
    with pytest.raises(MachineFault, match=r"instruction 1, .*: bytes -?\d+ to \d+ are outside the launch's 1024"):
        bench.run(f"li r4, {base}", f"{mnemonic} [r0+0], r4, 8, {stride}, {rows}, 1, t0")


@pytest.mark.parametrize("mnemonic", ["ld", "st"])
@pytest.mark.parametrize(("rows", "cols"), [(4, 1), (1, 6)])
def test_more_clusters_than_there_are(mnemonic: str, rows: int, cols: int) -> None:
    with pytest.raises(MachineFault, match=f"{rows} x {cols} clusters are more than the grid has"):
        Bench(GRIDS["3x5 of 4x2"], 0).run(f"{mnemonic} [r0+0], r0, 8, 0, {rows}, {cols}, t0")
