"""The reference engine on what goes through the global memory and along lines of clusters, against plain loops."""

import numpy as np
import pytest
from bench import GRIDS, Bench, F, halves, singles
from machines import issues

from runtime.machine import Machine


@pytest.fixture(params=GRIDS, ids=lambda name: name.replace(" ", "-"))
def any_machine(request: pytest.FixtureRequest) -> Machine:
    return GRIDS[request.param]


@pytest.fixture(autouse=True)
def quiet_scalars() -> object:
    with np.errstate(all="ignore"):
        yield


RECTANGLES = pytest.mark.parametrize(("rows", "cols"), [(0, 0), (1, 1), (2, 3), (4, 1), (1, 0), (200, 2)])


@RECTANGLES
@pytest.mark.parametrize("length", [1, 3])
def test_put(any_machine: Machine, rows: int, cols: int, length: int) -> None:
    bench = Bench(any_machine, length).run(f"put [r0+0x30], [r0+0x8], {length}, {rows}, {cols}")
    grid = any_machine.grid
    sent = [
        bench.before[r, c, 0x30 : 0x30 + 4 * length]
        for r in range(0, grid.rows, rows or grid.rows)
        for c in range(0, grid.cols, cols or grid.cols)
    ]
    wanted = np.zeros_like(bench.engine.global_memory)
    wanted[8 : 8 + 4 * length * len(sent)] = np.concatenate(sent)
    assert (bench.engine.global_memory == wanted).all()
    assert (bench.engine.buffers == bench.before).all()


@RECTANGLES
@pytest.mark.parametrize("length", [1, 3])
def test_get(any_machine: Machine, rows: int, cols: int, length: int) -> None:
    bench, grid = Bench(any_machine, length), any_machine.grid
    memory = bench.engine.global_memory
    memory[:] = bench.random.integers(0, 256, memory.size)
    bench.run(f"get [r0+0x30], [r0+0x8], {length}, {rows}, {cols}")
    height, width = min(rows or grid.rows, grid.rows), min(cols or grid.cols, grid.cols)
    expected = {}
    for r, c in bench.clusters:
        first = 8 + 4 * length * (r % height * width + c % width)
        expected[r, c] = memory[first : first + 4 * length]
    bench.expect(0x30, np.uint8, expected)


@pytest.mark.parametrize("special", [0.0, 0.02, 0.5])
@pytest.mark.parametrize(("count", "length", "accumulate"), [(1, 5, 0), (3, 70, 1), (0, 5, 0), (0, 5, 1), (4, 0, 0)])
def test_multiply_add(any_machine: Machine, special: float, count: int, length: int, accumulate: int) -> None:
    bench = Bench(any_machine, count)
    d, v, c = 0x400, 0x200, 0x20
    bench.put(d, singles, length, special / 16)
    bench.put(v, halves, length, special / 16)
    bench.put(c, singles, count, special / 16)
    bench.run(f"madd [r0+{d}], [r0+{v}], [r0+{c}], {count}, {length}, {accumulate}, 0")
    expected = {}
    for cluster in bench.clusters:
        sums = bench.old(cluster, d, length, F) if accumulate else [F(0)] * length
        vector, factors = bench.old(cluster, v, length, np.float16), bench.old(cluster, c, count, F)
        for factor in factors:
            sums = [F(total + F(factor * value)) for total, value in zip(sums, vector, strict=True)]
        expected[cluster] = sums
    bench.expect(d, F, expected)


def test_pieces_of_multiply_add() -> None:
    """1 + 2^-20 has one bit more than 11 and fewer than 22; 2^-22 one more than that."""
    for pieces, kept in ((0, 2**-20 + 2**-22), (1, 0), (2, 2**-20)):
        bench = Bench(GRIDS["1x1 of 1x1"], 0)
        bench.put(0x20, lambda *_: np.array([1 + 2**-20 + 2**-22], F), 1, 0)
        bench.put(0x40, lambda *_: np.array([1], np.float16), 1, 0)
        bench.run(f"madd [r0+0x60], [r0+0x40], [r0+0x20], 1, 1, 0, {pieces}")
        assert bench.engine.single(0x60, 1)[0, 0, 0] == F(1 + kept)


@pytest.mark.parametrize("special", [0.0, 0.1])
def test_elementwise_subtraction(any_machine: Machine, special: float) -> None:
    bench = Bench(any_machine, 3)
    bench.put(0x20, singles, 9, special)
    bench.put(0x80, singles, 9, special)
    bench.run("sub [r0+0x20], [r0+0x80], 9")
    expected = {
        cluster: [F(x - y) for x, y in zip(bench.old(cluster, 0x20, 9, F), bench.old(cluster, 0x80, 9, F), strict=True)]
        for cluster in bench.clusters
    }
    bench.expect(0x20, F, expected)


@pytest.mark.parametrize("length", [0, 1, 8, 9, 130])
def test_sum_in_a_cluster(any_machine: Machine, length: int) -> None:
    bench = Bench(any_machine, length)
    bench.put(0x20, singles, length, 0.01)
    bench.run(f"sum [r0+0x400], [r0+0x20], {length}")
    lanes = any_machine.cluster.mac_rows * any_machine.cluster.mac_cols
    expected = {}
    for cluster in bench.clusters:
        values, total = bench.old(cluster, 0x20, length, F), F(0)
        for first in range(0, length, lanes):
            terms = (values[first : first + lanes] + [F(0)] * lanes)[:lanes]
            while len(terms) > 1:
                terms = [F(terms[i] + terms[i + 1]) for i in range(0, len(terms), 2)]
            total = F(total + terms[0])
        expected[cluster] = [total]
    bench.expect(0x400, F, expected)


@pytest.mark.parametrize(
    ("size", "total", "share", "span"),
    [(6, 40, 1, 0), (6, 40, 2, 0), (8, 20, 0, 0), (4, 4, 1, 0), (6, 0, 1, 0), (4, 40, 1, 2), (4, 40, 2, 3)],
)
@pytest.mark.parametrize("mnemonic", ["part.row", "part.col"])
def test_part(any_machine: Machine, mnemonic: str, size: int, total: int, share: int, span: int) -> None:
    bench = Bench(any_machine, size).run(f"{mnemonic} [r0+0x100], [r0+0x20], {size}, {total}, {share}, {span}")
    expected = {}
    for r, c in bench.clusters:
        place = (c if mnemonic == "part.row" else r) % (span or 99)
        padded = np.concatenate([bench.before[r, c, 0x20 : 0x20 + total], np.zeros(1024, np.uint8)])
        first = size * (place // share if share else 0)
        expected[r, c] = padded[first : first + size]
    bench.expect(0x100, np.uint8, expected)


@pytest.mark.parametrize(("size", "total", "span"), [(6, 40, 2), (6, 6, 3), (8, 12, 0), (4, 200, 0), (4, 8, 1)])
@pytest.mark.parametrize("mnemonic", ["gather.row", "gather.col"])
def test_gather(any_machine: Machine, mnemonic: str, size: int, total: int, span: int) -> None:
    bench = Bench(any_machine, size).run(f"{mnemonic} [r0+0x100], [r0+0x20], {size}, {total}, {span}")
    grid, expected = any_machine.grid, {}
    for r, c in bench.clusters:
        place, side = (c, grid.cols) if mnemonic == "gather.row" else (r, grid.rows)
        first = place // (span or side) * (span or side)
        members = range(first, min(first + (span or side), side))
        line = [(r, n) if mnemonic == "gather.row" else (n, c) for n in members]
        whole = np.concatenate([bench.before[cluster][0x20 : 0x20 + size] for cluster in line])
        expected[r, c] = whole[:total]
    bench.expect(0x100, np.uint8, expected)


def test_gather_puts_together_what_part_took(any_machine: Machine) -> None:
    """The pieces of a slice, of which the last is short, make it up again."""
    side = any_machine.grid.rows
    size = 4 * -(-11 // side)
    bench = Bench(any_machine, 3)
    bench.run(f"part.col [r0+0x100], [r0+0x20], {size}, 44, 1, 0", f"gather.col [r0+0x200], [r0+0x100], {size}, 44, 0")
    buffers = bench.engine.buffers
    for r, c in bench.clusters:
        pieces = [bench.before[n, c, 0x20 : 0x20 + 44][n * size : (n + 1) * size] for n in range(side)]
        assert (buffers[r, c, 0x200 : 0x200 + 44] == np.concatenate(pieces)).all()


def test_scalar_division() -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 0)
    bench.put(0x20, singles, 1, 0.2)
    bench.put(0x24, singles, 1, 0.2)
    bench.run("s.ld s1, [r0+0x20]", "s.ld s2, [r0+0x24]")
    for issue in issues("s.div s3, s1, s2", "halt"):
        bench.engine.execute(issue)
    for cluster in bench.clusters:
        (a,), (b,) = bench.old(cluster, 0x20, 1, F), bench.old(cluster, 0x24, 1, F)
        got = bench.engine.scalars[(3, *cluster)].view(np.uint32)
        assert got == (0x7FC00000 if np.isnan(a / b) else F(a / b).view(np.uint32))
