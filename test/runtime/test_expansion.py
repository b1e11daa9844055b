"""Modified Gram-Schmidt on the machine, its reductions expanded by any factor: the same factors as unexpanded."""

from pathlib import Path

import numpy as np
import pytest
from machines import compile_kernel, machine_file

from dcomc.diagnostics import DcomError
from dialects.cluster_types import COLS, ROWS
from passes._expansion_groups import ExpansionGroups, factors
from runtime.accelerator import PromptResult, run_kernel, run_together, time_kernel
from runtime.counts import Use
from runtime.lanczos import Bidiagonal, bidiagonalise, optimal_error, relative_error
from runtime.machine import load_machine
from runtime.program import Kernel
from runtime.sequencer import never_leave, sequence

MACHINE = load_machine("dcom-16x16")
FACTORS = [2**n for n in range(9)]
EVERYWHERE = [f"factor={factor} vectors={place}" for factor in FACTORS for place in ("banks", "buffers")]


def decaying(rows: int, cols: int) -> np.ndarray:
    """Float32 with falling singular values."""
    random = np.random.default_rng(rows + cols)
    terms = min(rows, cols)
    left = random.standard_normal((rows, terms)) / np.arange(1, terms + 1)
    return (left @ random.standard_normal((terms, cols))).astype(np.float32)


def modified(
    rows: int, cols: int, expansion: str | None = None, machine: str = "dcom-16x16", passes: int = 2
) -> Kernel:
    return compile_kernel(rows, cols, 6, machine, passes=passes, gram_schmidt="modified", expansion=expansion)


def error(a: np.ndarray, factors: Bidiagonal) -> float:
    return relative_error(a, factors.u, factors.core, factors.v)


def assert_right(a: np.ndarray, result: PromptResult) -> None:
    """Orthonormal factors that approximate as those of the definition in binary32."""
    factors = result.factors
    for basis in (factors.u, factors.v.T):
        wide = basis.astype(np.float64)
        assert np.abs(wide.T @ wide - np.eye(wide.shape[1])).max() < 2e-3
    wanted = bidiagonalise(a, 6)
    assert error(a, factors) < 1.001 * error(a, wanted) + 1e-3
    np.testing.assert_allclose(factors.alpha, wanted.alpha, rtol=5e-3)


@pytest.mark.parametrize("expansion", [None, *EVERYWHERE])
def test_every_factor_gives_the_factors(expansion: str | None) -> None:
    a = decaying(300, 500)
    assert_right(a, run_kernel(modified(300, 500, expansion), MACHINE, a, "fast"))


@pytest.mark.parametrize("place", ["banks", "buffers"])
@pytest.mark.parametrize(
    ("rows", "cols", "factor"), [(86, 200, "full"), (250, 40, "full"), (13, 37, "16"), (40, 700, "4")]
)
def test_shapes_that_do_not_divide(rows: int, cols: int, factor: str, place: str) -> None:
    a = decaying(rows, cols)
    assert_right(a, run_kernel(modified(rows, cols, f"factor={factor} vectors={place}"), MACHINE, a))


@pytest.mark.parametrize("factor", [1, 4, 32, 256])
@pytest.mark.parametrize("place", ["banks", "buffers"])
def test_gathered_sums(factor: int, place: str) -> None:
    a = decaying(60, 300)
    assert_right(a, run_kernel(modified(60, 300, f"factor={factor} vectors={place} sums=all-gather"), MACHINE, a))


@pytest.mark.parametrize("expansion", [None, "factor=8", "factor=64 vectors=buffers", "factor=2 sums=all-gather"])
def test_both_engines_give_the_same_bits_and_cycles(expansion: str | None) -> None:
    a = decaying(60, 200)
    kernel = modified(60, 200, expansion)
    one, other = run_kernel(kernel, MACHINE, a), run_kernel(kernel, MACHINE, a, "fast")
    for name, value in vars(one.factors).items():
        assert value.tobytes() == getattr(other.factors, name).tobytes(), name
    assert one.timing == other.timing == time_kernel(kernel, MACHINE)


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("place", ["banks", "buffers"])
def test_a_small_machine(factor: int, place: str, tmp_path: Path) -> None:
    path = machine_file(tmp_path, rows=4, cols=4, mac_rows=4, mac_cols=4)
    a = decaying(50, 70)
    kernel = modified(50, 70, f"factor={factor} vectors={place}", path)
    assert_right(a, run_kernel(kernel, load_machine(path), a))


def test_a_streamed_matrix(tmp_path: Path) -> None:
    """Reads of vectors go between those of the matrix's chunks."""
    path = machine_file(tmp_path, buffer_bytes=6144)
    a = decaying(400, 600)
    assert_right(a, run_kernel(modified(400, 600, "factor=8", path), load_machine(path), a, "fast"))


def test_several_matrices_in_flight() -> None:
    """Their loops over vectors are written out."""
    kernel = compile_kernel(24, 80, 6, mapping="8x8", in_flight=2, gram_schmidt="modified")
    matrices = [decaying(24, 80 + n)[:, :80].copy() for n in range(9)]
    for a, result in zip(matrices, run_together(kernel, MACHINE, matrices), strict=True):
        assert_right(a, result)


def test_a_breakdown_ends_it() -> None:
    a = decaying(60, 200)[:, :3] @ np.ones((3, 200), np.float32)
    result = run_kernel(modified(60, 200, "factor=8"), MACHINE, a)
    assert result.factors.steps == 1
    assert error(a, result.factors) < 1e-3
    assert optimal_error(a, 1) < 1e-3


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("axis", [ROWS, COLS])
def test_groups(factor: int, axis: str) -> None:
    groups = ExpansionGroups.of(factor, axis, MACHINE)
    assert groups.rows * groups.cols * factor == 256, "f groups of P / f clusters"
    assert groups.replicas * groups.turns == factor, "f replicas"
    clusters = groups.rows * groups.cols // groups.replicas
    assert clusters * factor**2 == 256 or (clusters, groups.turns) == (1, factor**2 // 256), "P / f^2 clusters each"
    assert groups.replicas <= (groups.rows if axis == COLS else groups.cols)


def test_squares_of_figure_9c(tmp_path: Path) -> None:
    """16 clusters and f = 4: both sums are over 4, which lie in a column, for replicas are neighbours in it."""
    groups = ExpansionGroups.of(4, COLS, load_machine(machine_file(tmp_path, rows=4, cols=4)))
    assert (groups.rows, groups.cols, groups.replicas, groups.turns) == (4, 1, 4, 1)


@pytest.mark.parametrize("factor", [0, -1, 3, 12, 257, 512])
def test_no_such_groups(factor: int) -> None:
    with pytest.raises(
        DcomError, match=f"factor {factor} cuts the 16 x 16 clusters of dcom-16x16 into no equal groups"
    ):
        ExpansionGroups.of(factor, ROWS, MACHINE)


@pytest.mark.parametrize(
    ("rows", "cols", "wanted"),
    [(1, 1, [1]), (4, 4, [1, 2, 4, 8, 16]), (2, 8, [1, 2, 8, 16]), (3, 5, [1, 15]), (16, 16, FACTORS)],
)
def test_factors_of_a_machine(rows: int, cols: int, wanted: list[int], tmp_path: Path) -> None:
    """On 2 x 8 clusters 4 groups would have 4 replicas in a column of 2."""
    assert factors(load_machine(machine_file(tmp_path, rows=rows, cols=cols))) == wanted


def test_reductions_are_cut_by_the_factor() -> None:
    """Fewer hops within smaller groups: the links are waited for less, up to where replicas have much to add."""
    waits = [
        sum(
            cycles
            for cause, cycles in time_kernel(modified(86, 200, f"factor={factor}"), MACHINE).causes.items()
            if "links" in cause
        )
        for factor in (1, 2, 4)
    ]
    assert waits == sorted(waits, reverse=True)


def useful(rows: int, cols: int, steps: int, passes: int) -> tuple[int, int, int]:
    """Multiplications of products with the matrix; of norms and of vectors that are rounded; of Gram-Schmidt, half of
    them in dot products."""
    vectors = steps * (steps - 1) // 2 * cols + steps * (steps + 1) // 2 * rows
    return 2 * steps * rows * cols, 2 * steps * (rows + cols), 2 * passes * vectors


@pytest.mark.parametrize("sums", ["replicas", "all-gather"])
@pytest.mark.parametrize("place", ["banks", "buffers"])
@pytest.mark.parametrize("factor", ["1", "2", "8", "64", "256", "full"])
@pytest.mark.parametrize(("rows", "cols"), [(86, 200), (13, 37)])
def test_uses_of_multiplications(rows: int, cols: int, factor: str, place: str, sums: str) -> None:
    """Vectors in parts are multiplied once, those by f partial sums f times; norms in each of the 16 clusters of a
    line, as without expansion."""
    kernel = modified(rows, cols, f"factor={factor} vectors={place} sums={sums}")
    uses, total = time_kernel(kernel, MACHINE).uses, 0
    for issue in sequence(kernel.words, 0, never_leave):
        total += issue.word.instruction.products(issue.values, MACHINE) * 256
    products, norms, orthogonal = useful(rows, cols, 6, 2)
    assert uses[Use.USEFUL] == products + norms + orthogonal
    times = 1 if sums == "all-gather" else 256 if factor == "full" else int(factor)
    assert uses[Use.REPLICATED] == 15 * norms + (times - 1) * orthogonal // 2
    assert uses[Use.OTHER] == 0
    assert sum(uses.values()) == total


def test_uses_of_multiplications_of_a_streamed_matrix(tmp_path: Path) -> None:
    path = machine_file(tmp_path, rows=4, cols=4, mac_rows=4, mac_cols=2, buffer_bytes=6144)
    m = load_machine(path)
    uses = time_kernel(modified(150, 90, "factor=4", path), m).uses
    products, norms, orthogonal = useful(150, 90, 6, 2)
    assert uses[Use.USEFUL] == products + norms + orthogonal
    assert uses[Use.REPLICATED] == 3 * norms + 3 * orthogonal // 2
    assert uses[Use.OTHER] == 0
