"""The reference engine against plain loops over scalars, bit by bit, on every kind of binary16 and binary32."""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from bench import GRIDS, Bench, F, halves, singles
from machines import issues

from runtime.arithmetic import line_sum, to_half, tree
from runtime.machine import Machine

SMALL = [m for name, m in GRIDS.items() if name != "16x16 of 8x8"]


def plain_tree(terms: list) -> F:
    """Neighbours pairwise, level by level; an odd last one passes."""
    while len(terms) > 1:
        odd = terms[len(terms) - 1 :] if len(terms) % 2 else []
        terms = [F(terms[i] + terms[i + 1]) for i in range(0, len(terms) - 1, 2)] + odd
    return terms[0]


def plain_line(terms: list) -> F:
    """From the first to the middle, from the last to the middle, then the two; an odd one belongs to the first half."""
    middle = (len(terms) + 1) // 2
    halves = [terms[:middle], terms[:0:-1][: len(terms) - middle]]
    first, *other = [list(accumulate(half, lambda total, term: F(total + term)))[-1] for half in halves if half]
    return F(first + other[0]) if other else first


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


def test_sum_along_a_line_has_the_documented_order() -> None:
    """((a + b) + c) + (e + d), where other orders give other sums."""
    terms = np.array([1, 2**24, 1, 1, 1], F)
    assert line_sum(terms) == 2**24 + 2  # 1 + 2^24, and 1 more, are ties to even: 2^24; 1 + 1 is added at once
    assert np.add.accumulate(terms)[-1] == 2**24
    assert line_sum(terms[::-1]) == 2**24 + 4  # (1 + 1) + 1, and 1 + 2^24 = 2^24: 2^24 + 3, a tie, to even


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


PIECES = pytest.mark.parametrize("pieces", [0, 1, 2, 3])


def plain_pieces(value: F, pieces: int) -> F:
    """Rounded to 11 or 22 significant bits, to nearest even, by the spacing of numbers of that size."""
    if pieces not in (1, 2) or not np.isfinite(value):
        return value
    exact = Fraction(float(value))
    exponent = max(math.frexp(float(value))[1], -125) - 11 * pieces
    nearest = round(exact / Fraction(2) ** exponent) * Fraction(2) ** exponent  # Python rounds to even
    if abs(nearest) >= 2**128:
        return F(math.copysign(math.inf, value))
    return F(math.copysign(float(nearest), value))


@SHARES
@PIECES
@pytest.mark.parametrize(("count", "length"), [(1, 1), (3, 8), (2, 13), (4, 24), (0, 8), (3, 0)])
def test_dots(small: Machine, special: float, count: int, length: int, pieces: int) -> None:
    bench = Bench(small, count + length)
    d, x, basis = 0, 0x40, 0x140
    bench.put(x, singles, length, special / 8)
    bench.put(basis, halves, count * length, special / 8)
    bench.run(f"li r7, {count}", f"dots [r0+{d}], [r0+{basis}], [r0+{x}], r7, {length}, {pieces}")
    expected = {}
    for cluster in bench.clusters:
        vector = [plain_pieces(value, pieces) for value in bench.old(cluster, x, length, F)]
        rows = bench.old(cluster, basis, count * length, np.float16)
        expected[cluster] = [plain_dot(small, rows[i * length : (i + 1) * length], vector) for i in range(count)]
    bench.expect(d, F, expected)


def plain_dot(m: Machine, a: list, b: list) -> F:
    lanes, total = m.cluster.mac_rows * m.cluster.mac_cols, F(0)
    for start in range(0, len(a), lanes):
        products = [F(p * q) for p, q in zip(a[start : start + lanes], b[start : start + lanes], strict=True)]
        total = F(total + plain_tree(products + [F(0)] * (lanes - len(products))))
    return total


@SHARES
@PIECES
@pytest.mark.parametrize("length", [1, 7, 8, 31])
def test_norm2(small: Machine, special: float, length: int, pieces: int) -> None:
    bench = Bench(small, length)
    bench.put(0x40, singles, length, special / 8)
    bench.run(f"norm2 [r0+0x8], [r0+0x40], {length}, {pieces}")
    vectors = {
        cluster: [plain_pieces(value, pieces) for value in bench.old(cluster, 0x40, length, F)]
        for cluster in bench.clusters
    }
    bench.expect(8, F, {cluster: [plain_dot(small, x, x)] for cluster, x in vectors.items()})


@SHARES
@PIECES
@pytest.mark.parametrize(("count", "length"), [(1, 1), (3, 9), (5, 16), (0, 8)])
def test_subtract(small: Machine, special: float, count: int, length: int, pieces: int) -> None:
    bench = Bench(small, count + length)
    x, c, basis = 0x20, 0x100, 0x200
    bench.put(x, singles, length, special)
    bench.put(c, singles, count, special)
    bench.put(basis, halves, count * length, special)
    bench.run(f"li r7, {count}", f"subtract [r0+{x}], [r0+{basis}], [r0+{c}], r7, {length}, {pieces}")
    expected = {}
    for cluster in bench.clusters:
        vector = bench.old(cluster, x, length, F)
        cells = [plain_pieces(value, pieces) for value in bench.old(cluster, c, count, F)]
        rows = bench.old(cluster, basis, count * length, np.float16)
        for i in range(count):
            vector = [F(vector[n] - F(cells[i] * rows[i * length + n])) for n in range(length)]
        expected[cluster] = vector
    bench.expect(x, F, expected)


@SHARES
@PIECES
@pytest.mark.parametrize("length", [1, 9, 40])
def test_scale(small: Machine, special: float, length: int, pieces: int) -> None:
    bench = Bench(small, length)
    bench.put(0x100, singles, length, special)
    bench.engine.scalars[4] = singles(bench.random, len(bench.clusters), special).reshape(bench.engine.scalars[4].shape)
    bench.run(f"scale [r0+0x20], [r0+0x100], s4, {length}, {pieces}")
    expected = {}
    for cluster in bench.clusters:
        by = plain_pieces(bench.engine.scalars[4][cluster], pieces)
        vector = bench.old(cluster, 0x100, length, F)
        bits = [plain_half(F(plain_pieces(x, pieces) * by)) for x in vector]
        expected[cluster] = np.array(bits, np.uint16).view(np.float16)
    bench.expect(0x20, np.float16, expected)


SPANS = pytest.mark.parametrize("span", [0, 1, 2, 3, 200])


def lines_of(m: Machine, mnemonic: str, span: int) -> list[list[tuple[int, int]]]:
    """The clusters that take part together, in order: neighbours of a row, or of a column."""
    grid = [[(r, c) for c in range(m.grid.cols)] for r in range(m.grid.rows)]
    lines = grid if mnemonic.endswith("row") else [list(line) for line in zip(*grid, strict=True)]
    return [line[first : first + (span or 99)] for line in lines for first in range(0, len(line), span or 99)]


@SHARES
@SPANS
@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("mnemonic", ["reduce.row", "reduce.col", "allreduce.row", "allreduce.col"])
def test_reduce(any_machine: Machine, special: float, mnemonic: str, length: int, span: int) -> None:
    """A reduction leaves the tree's sums in the first cluster of each line, an all-reduction the line's in all."""
    bench = Bench(any_machine, length)
    bench.put(0x30, singles, length, special / 16)
    bench.run(f"{mnemonic} [r0+0x30], {length}, {span}")
    total = plain_line if mnemonic.startswith("all") else plain_tree
    expected = {}
    for line in lines_of(any_machine, mnemonic, span):
        values = [bench.old(cluster, 0x30, length, F) for cluster in line]
        sums = [total([value[i] for value in values]) for i in range(length)]
        expected.update(dict.fromkeys(line if mnemonic.startswith("all") else line[:1], sums))
    bench.expect(0x30, F, expected)


@SPANS
@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("mnemonic", ["bcast.row", "bcast.col"])
def test_broadcast(any_machine: Machine, mnemonic: str, length: int, span: int) -> None:
    bench = Bench(any_machine, length)
    bench.run(f"{mnemonic} [r0+0x30], {length}, {span}")
    expected = {}
    for line in lines_of(any_machine, mnemonic, span):
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
        "s.where s7, s1, s2, s1",
        "s.li s31, -0.1",
        "s.li s30, 0xff800001",
        *(f"s.st [r0+{0x80 + 4 * i}], s{register}" for i, register in enumerate((3, 4, 5, 6, 7, 31, 30))),
    )
    expected = {}
    for cluster in bench.clusters:
        a, b = bench.old(cluster, 0x40, 2, F)
        # Correct rounding of the root's reciprocal needs more than binary32; binary64 is the definition.
        rsqrt = F(np.float64(1) / np.sqrt(np.float64(a)))
        greater = a if a > b else b, b if b > a else a
        expected[cluster] = [F(a * b), *greater, rsqrt, a if a > b else F(0), F(-0.1), F(math.nan)]
    bench.expect(0x80, F, expected)


def test_scalars_come_and_go_as_they_are(any_machine: Machine) -> None:
    """Of a NaN, too, every bit."""
    bench = Bench(any_machine, 4)
    bench.put(0x40, singles, 1, 0.9)
    bench.run("s.ld s1, [r0+0x40]", "s.st [r0+0x80], s1")
    bench.expect(0x80, np.uint8, {cluster: bench.before[cluster][0x40:0x44] for cluster in bench.clusters})


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
