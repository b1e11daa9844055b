"""`dcom-legalize` against the definitions it follows: the same numbers on the host, before and after."""

from dataclasses import dataclass

import numpy as np
import pytest
from both_ways import Array, text_both_ways

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module, print_module, source_location
from dcomc.pipeline import run_passes
from passes import make_passes
from runtime.executor import Executor
from runtime.lanczos import Factored, bidiagonalise, decompose, start_weights


@dataclass(frozen=True)
class Program:
    """A module of one function: split, decompose, multiply, reconstruct."""

    batch: int = 2
    rows: int = 24
    cols: int = 20
    out: int = 9
    rank: int = 4
    iterations: int = 9
    reorthogonalisation: int = 2
    seed: int = 0
    start: str = "random"
    capacity: int = 3
    block: int | None = None
    energy: float | None = None
    threshold: float | None = None
    min_count: int = 1
    element: str = "f32"
    gram_schmidt: str = "classical"

    def text(self) -> str:
        b, s, h, n, e = self.batch, self.rows, self.cols, self.out, self.element
        x, w, y = f"tensor<{b * s}x{h}x{e}>", f"tensor<{h}x{n}x{e}>", f"tensor<{b * s}x{n}x{e}>"
        block = "" if self.block is None else f"block {self.block}, "
        energy = "" if self.energy is None else f", energy = {self.energy:e} : f32"
        outliers = f"!dcom.outliers<{b}x{s}x{h}, capacity {self.capacity}, {e}>"
        factored, product = (f"!dcom.factored<{b}x{s}x{side}, {block}rank {self.rank}, {e}>" for side in (h, n))
        start = "" if self.start == "random" else f', start = "{self.start}"'
        place = 'layer = 1 : i64, site = "qkv"'
        limit = (
            ""
            if self.threshold is None
            else f", threshold = {self.threshold:e} : f32, min_count = {self.min_count} : i64"
        )
        return f"""
func.func @main(%x: {x}, %w: {w}) -> ({x}, {x}, {y}, {y}) {{
  %dense, %outliers = dcom.outlier_split %x {{{place}, capacity = {self.capacity} : i64{limit}}}
      : {x} -> {x}, {outliers}
  %f = dcom.decompose %dense {{{place}, iterations = {self.iterations} : i64,
      reorthogonalisation = {self.reorthogonalisation} : i64, seed = {self.seed} : i64,
      gram_schmidt = "{self.gram_schmidt}"{start}{energy}}} : {x} -> {factored}
  %a = dcom.reconstruct %f : {factored} -> {x}
  %g = dcom.matmul %f, %w : {factored}, {w} -> {product}
  %y = dcom.reconstruct %g : {product} -> {y}
  %z = dcom.outlier_matmul %outliers, %w : {outliers}, {w} -> {y}
  func.return %dense, %a, %y, %z : {x}, {x}, {y}, {y}
}}"""

    def inputs(self, ranks: int | None = None) -> tuple[Array, Array]:
        """Activations [B*S, H] of decaying spectrum, of rank `ranks` if given, and a weight [H, N]."""
        rng = np.random.default_rng(5)
        least = min(self.rows, self.cols)
        x = np.zeros((self.batch, self.rows, self.cols))
        for prompt in x:
            values = 30 * 0.7 ** np.arange(least)
            values[least if ranks is None else ranks :] = 0
            left, right = (np.linalg.qr(rng.normal(size=(side, least)))[0] for side in (self.rows, self.cols))
            prompt[:] = (left * values) @ right.T
        dtype = {"f32": np.float32, "f16": np.float16}[self.element]
        return x.reshape(-1, self.cols).astype(dtype), rng.normal(size=(self.cols, self.out)).astype(dtype)


def both_ways(program: Program, *inputs: Array) -> list[tuple[Array, Array]]:
    """Each result of a program on the host: as dcom operations and legalised."""
    return text_both_ways(program.text(), *inputs)


def close(a: Array, b: Array, tolerance: float) -> bool:
    scale = max(1.0, float(np.abs(a).max()))
    return a.dtype == b.dtype and float(np.abs(a.astype(float) - b).max()) <= tolerance * scale


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(Program(), id="truncated"),
        pytest.param(Program(rank=9), id="nothing-cut-off"),
        pytest.param(Program(batch=1, rank=1, iterations=1, capacity=1), id="rank-one"),
        pytest.param(Program(rank=6, iterations=20, rows=20, cols=31), id="all-steps-even"),
        pytest.param(Program(seed=40000, reorthogonalisation=1, iterations=4), id="seed"),
        pytest.param(Program(gram_schmidt="modified"), id="modified-gram-schmidt"),
        pytest.param(
            Program(gram_schmidt="modified", block=8, iterations=8, reorthogonalisation=1), id="modified-once"
        ),
        pytest.param(Program(start="mean", iterations=4), id="mean"),
        pytest.param(Program(block=8, iterations=8), id="blocks"),
        pytest.param(Program(block=7, iterations=5), id="blocks-and-a-short-one"),
        pytest.param(Program(energy=0.8), id="energy"),
        pytest.param(Program(energy=1.0, rank=9), id="energy-that-is-not-reached"),
        pytest.param(Program(energy=0.5, rank=7, iterations=7, block=8), id="energy-of-blocks"),
        pytest.param(Program(threshold=1.5, min_count=5, capacity=6), id="threshold"),
        pytest.param(Program(threshold=1000.0), id="no-outliers"),
        pytest.param(Program(capacity=20, threshold=0.5, min_count=20), id="every-channel-may-go"),
    ],
)
def test_legalised_equals_definition(program: Program) -> None:
    for before, after in both_ways(program, *program.inputs()):
        assert np.abs(before).max() > 0.1 or program.threshold == 1000.0
        assert close(before, after, 2e-5)


BESIDE = """
func.func @main(%x: tensor<48x20xEL>, %y: tensor<48x9xEL>, %w: tensor<20x9xEL>) -> (RESULTS) {
  %d, %t = dcom.token_split %x {layer = 1 : i64, site = "qkv", capacity = 4 : i64}
      : tensor<48x20xEL> -> tensor<48x20xEL>, !dcom.tokens<2x24x20, capacity 4, EL>
  %r, %s = dcom.token_split %y like %t : !dcom.tokens<2x24x20, capacity 4, EL>
      {layer = 1 : i64, site = "o", capacity = 4 : i64}
      : tensor<48x9xEL> -> tensor<48x9xEL>, !dcom.tokens<2x24x9, capacity 4, EL>
  %f = dcom.decompose %d {layer = 1 : i64, site = "qkv", iterations = 6 : i64, reorthogonalisation = 2 : i64,
      seed = 0 : i64} : tensor<48x20xEL> -> !dcom.factored<2x24x20, block 7, rank 3, EL>
  %g = dcom.project %r on %f {layer = 1 : i64, site = "o"}
      : tensor<48x9xEL>, !dcom.factored<2x24x20, block 7, rank 3, EL> -> !dcom.factored<2x24x9, block 7, rank 3, EL>
  %a = dcom.reconstruct %g : !dcom.factored<2x24x9, block 7, rank 3, EL> -> tensor<48x9xEL>
  %z = dcom.token_matmul %t, %w : !dcom.tokens<2x24x20, capacity 4, EL>, tensor<20x9xEL> -> tensor<48x9xEL>
  func.return %d, %r, %a, %z : RESULTS
}"""
"""Exact tokens, the same tokens of a second activation, and its projection on the basis of the first."""


SCALED = """
func.func @main(%x: tensor<48x20xEL>, %rows: tensor<48xEL>, %channels: tensor<20xEL>) -> tensor<48x20xEL> {
  %f = dcom.decompose %x {layer = 1 : i64, site = "qkv", iterations = 7 : i64, reorthogonalisation = 2 : i64,
      seed = 0 : i64} : tensor<48x20xEL> -> !dcom.factored<2x24x20, block 7, rank 7, EL>
  %r = dcom.scale %f by %rows {axis = "rows"} : !dcom.factored<2x24x20, block 7, rank 7, EL>, tensor<48xEL>
      -> !dcom.factored<2x24x20, block 7, rank 7, EL>
  %c = dcom.scale %r by %channels {axis = "channels"} : !dcom.factored<2x24x20, block 7, rank 7, EL>, tensor<20xEL>
      -> !dcom.factored<2x24x20, block 7, rank 7, EL>
  %a = dcom.reconstruct %c : !dcom.factored<2x24x20, block 7, rank 7, EL> -> tensor<48x20xEL>
  func.return %a : tensor<48x20xEL>
}"""
"""All of x in factors, its rows and channels scaled."""


@pytest.mark.parametrize(("element", "tolerance"), [("f32", 2e-5), ("f16", 6e-3)])
def test_scaled_factors_are_the_scaled_tensor(element: str, tolerance: float) -> None:
    x, _ = Program(element=element).inputs()
    random = np.random.default_rng(4)
    rows, channels = (random.uniform(-2, 2, size).astype(x.dtype) for size in (48, 20))
    ((host, legalised),) = text_both_ways(SCALED.replace("EL", element), x, rows, channels)
    expected = x.astype(float) * rows.astype(float)[:, None] * channels.astype(float)
    for result in (host, legalised):
        assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(("element", "tolerance"), [("f32", 2e-5), ("f16", 4e-3)])
@pytest.mark.parametrize(("zero_rows", "scale"), [(0, 1), (23, 1), (23, 2**-8)])
def test_tokens_and_projections_equal_their_definition(
    element: str, tolerance: float, zero_rows: int, scale: float
) -> None:
    """With 23 zero rows in a prompt three of its four slots stay empty, and row 0 is not one of the tokens; those that
    are have less energy than 1 in a small tensor."""
    x, w = Program(element=element).inputs()
    x[:zero_rows] = 0
    x *= scale
    y = np.random.default_rng(2).normal(size=(48, 9)).astype(x.dtype)
    results = ", ".join(f"tensor<48x{cols}xEL>" for cols in (20, 9, 9, 9))
    text = BESIDE.replace("RESULTS", results).replace("EL", element)
    for before, after in text_both_ways(text, x, y, w):
        assert np.abs(before).max() > 0.1 * scale
        assert close(before, after, tolerance)


def test_half_precision_rounds_alike() -> None:
    program = Program(element="f16")
    for before, after in both_ways(program, *program.inputs()):
        assert before.dtype == np.float16
        assert close(before, after, 4e-3)


@pytest.mark.parametrize(("ranks", "steps"), [(0, 0), (2, 2), (4, 4), (6, 6)])
def test_breakdown_gives_a_smaller_factorisation(ranks: int, steps: int) -> None:
    """A zero or rank-deficient prompt ends the iteration early, in both forms at the same step."""
    program = Program(threshold=1e6, rank=4)
    x, w = program.inputs(ranks)
    assert len(bidiagonalise(x[: program.rows], program.iterations).alpha) == steps
    results = both_ways(program, x, w)
    for before, after in results:
        assert np.isfinite(after).all()
        assert close(before, after, 2e-4)
    if ranks <= program.rank:
        assert close(x, results[1][1], 1e-4)


@pytest.mark.parametrize("scale", [2.0**-40, 1, 2.0**40])
def test_full_rank_is_the_tensor_itself(scale: float) -> None:
    """To float32's accuracy in both forms, though its mean is far larger than what its rows differ by."""
    program = Program(rows=9, cols=12, rank=9, iterations=9, threshold=1e30)
    random = np.random.default_rng(0)
    x = scale * (random.normal(size=(program.batch * 9, 12)) + 30 * random.normal(size=12))
    _, approximations, *_ = both_ways(program, x.astype(np.float32), program.inputs()[1])
    for found in approximations:
        assert np.abs(x - found).max() < 1e-5 * np.abs(x).max()


def test_prompts_break_down_on_their_own() -> None:
    program = Program(threshold=1e6)
    x, w = program.inputs()
    x[: program.rows] = 0
    (_, _), (approximation, legalised), *_ = both_ways(program, x, w)
    assert not legalised[: program.rows].any()
    assert close(approximation, legalised, 2e-5)


def test_equal_scores_go_by_index() -> None:
    program = Program(batch=1, rows=4, cols=6, rank=1, iterations=2, capacity=2, out=3)
    x = np.ones((4, 6), np.float32)
    x[:, 5] = 2
    for before, after in both_ways(program, x, program.inputs()[1]):
        assert close(before, after, 1e-6)
    dense = both_ways(program, x, program.inputs()[1])[0][1]
    assert np.array_equal(np.flatnonzero(dense[0] == 0), [0, 5])


def test_decomposition_of_one_function_serves_all_of_its_shape() -> None:
    program = Program()
    context = make_context()
    text = program.text()
    module = parse_module(text + text.replace("@main", "@other"), "program", context)
    run_passes(context, module, make_passes("dcom-legalize"))
    assert print_module(module, locations=False).count("func.func private @dcom.lanczos_") == 1


def test_no_operation_loses_its_location() -> None:
    context, place = make_context(), source_location("model.layers.1", "model.py", 3)
    module = parse_module(Program().text(), "program", context)
    for op in module.walk():
        for region in op.regions:
            for block in region.blocks:
                for argument in block.args:
                    argument.location = place
        op.location = place
    run_passes(context, module, make_passes("dcom-legalize"))
    assert "loc(unknown)" not in print_module(module)


def test_a_factored_argument_is_refused() -> None:
    context = make_context()
    text = """
func.func @main(%f: !dcom.factored<1x8x8, rank 2, f32>) -> tensor<8x8xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x8x8, rank 2, f32> -> tensor<8x8xf32>
  func.return %x : tensor<8x8xf32>
}"""
    with pytest.raises(DcomError, match="does not come from a dcom operation"):
        run_passes(context, parse_module(text, "program", context), make_passes("dcom-legalize"))


def test_a_factored_result_is_refused() -> None:
    context = make_context()
    text = """
func.func @main(%x: tensor<8x8xf32>) -> !dcom.factored<1x8x8, rank 2, f32> {
  %f = dcom.decompose %x
    {layer = 0 : i64, site = "o", iterations = 2 : i64, reorthogonalisation = 1 : i64, seed = 0 : i64}
    : tensor<8x8xf32> -> !dcom.factored<1x8x8, rank 2, f32>
  func.return %f : !dcom.factored<1x8x8, rank 2, f32>
}"""
    with pytest.raises(DcomError, match=r"dcom\.decompose is used outside the dialect"):
        run_passes(context, parse_module(text, "program", context), make_passes("dcom-legalize"))


def test_the_norm_of_the_start_is_no_measure_of_a_breakdown() -> None:
    """It grows with the number of tokens: here a second direction is small beside the start, not beside the matrix."""
    program = Program(batch=1, threshold=1e6)
    weights = start_weights(program.rows, program.seed).astype(float)
    left = np.stack([np.ones(program.rows), weights - weights.mean()])
    right = np.linalg.qr(np.random.default_rng(1).normal(size=(program.cols, 2)))[0].T
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    x = (left.T * [30, 30 * 0.004]) @ right
    x, w = x.astype(np.float32), program.inputs()[1]
    assert len(bidiagonalise(x, program.iterations).alpha) == 2
    (_, _), (_, approximation), *_ = both_ways(program, x, w)
    assert np.abs(x - approximation).max() < 1e-4


def test_each_reorthogonalisation_pass_is_there() -> None:
    context = make_context()
    counts: list[int] = []
    for passes in range(4):
        module = parse_module(Program(reorthogonalisation=passes).text(), "program", context)
        run_passes(context, module, make_passes("dcom-legalize"))
        counts.append(sum(op.name == "linalg.generic" for op in module.walk()))
    # Three operations (shares, correction, difference) for u and for v.
    assert np.diff(counts).tolist() == [6, 6, 6]


@pytest.mark.parametrize("ranks", [None, 2, 4])
def test_factors_are_those_of_the_reference(ranks: int | None) -> None:
    """Not only the product: singular values on the diagonal, unit or zero vectors beside it."""
    program = Program(batch=1, threshold=1e6)
    x, _ = program.inputs(ranks)
    reference: Factored = decompose(x, 1, program.rank, program.iterations)
    context = make_context()
    module = parse_module(program.text(), "program", context)
    run_passes(context, module, make_passes("dcom-legalize"))
    name = next(op.sym_name.data for op in module.ops if "lanczos" in op.sym_name.data)
    u, core, v = Executor(module, {}).run(name, x)
    assert np.allclose(core, reference.core[0], atol=1e-3)
    used = np.diag([float(index < (ranks or program.rank)) for index in range(program.rank)])
    assert np.allclose(u.T @ u, used, atol=1e-5)
    assert np.allclose(v @ v.T, used, atol=1e-5)
    assert np.array_equal(core, np.diag(np.diag(core)))
