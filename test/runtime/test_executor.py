"""Scalars, tensors, control flow, calls and weights on the host executor, and what it refuses."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from backends import BACKENDS, run_all
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.ir import Operation

from dcomc.diagnostics import DcomError
from dcomc.ir import parse_module
from runtime.executor import Executor
from runtime.executor_arrays import make_arrays


def run(text: str, *arguments: Any, **options: Any) -> tuple[Any, ...]:
    """By every back end."""
    return run_all(parse_module(text, "test.mlir"), options.pop("weights", {}), *arguments, **options)


def scalar(operation: str, kind: str, *values: Any, result: str | None = None) -> Any:
    """The result of `operation` (with {0}, {1}, … for its operands) on scalars."""
    operands = [f"%a{i}" for i in range(len(values))]
    parameters = ", ".join(f"{operand}: {kind}" for operand in operands)
    text = f"""
func.func @main({parameters}) -> {result or kind} {{
  %r = {operation.format(*operands)}
  func.return %r : {result or kind}
}}"""
    dtype = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "i8": np.int8, "i1": np.bool_}[kind]
    (value,) = run(text, *(dtype(x) for x in values))
    return value


INT8 = st.integers(-128, 127)


@given(INT8, INT8)
@settings(deadline=None)
def test_integer_arithmetic_wraps_and_divides_as_mlir_has_it(a: int, b: int) -> None:
    def signed(value: int) -> int:
        return (value + 128) % 256 - 128

    unsigned_a, unsigned_b = a % 256, b % 256
    expected = {
        "addi": a + b,
        "subi": a - b,
        "muli": a * b,
        "maxsi": max(a, b),
        "minui": min(unsigned_a, unsigned_b),
        "maxui": max(unsigned_a, unsigned_b),
        "andi": a & b,
        "ori": a | b,
        "xori": a ^ b,
    }
    if b:
        expected |= {
            "divsi": math.trunc(a / b),
            "remsi": int(math.fmod(a, b)),
            "floordivsi": a // b,
            "ceildivsi": -(-a // b),
            "divui": unsigned_a // unsigned_b,
            "remui": unsigned_a % unsigned_b,
            "ceildivui": -(-unsigned_a // unsigned_b),
        }
    if 0 <= b < 8:
        expected |= {"shli": a << b, "shrsi": a >> b, "shrui": unsigned_a >> b}
    for name, value in expected.items():
        assert scalar(f"arith.{name} {{}}, {{}} : i8", "i8", a, b) == signed(value), name
    comparisons = {"slt": a < b, "sge": a >= b, "ult": unsigned_a < unsigned_b, "uge": unsigned_a >= unsigned_b}
    for name, value in comparisons.items():
        assert scalar(f"arith.cmpi {name}, {{}}, {{}} : i8", "i8", a, b, result="i1") == value, name


def test_division_by_zero_is_an_error() -> None:
    with pytest.raises(DcomError, match=r"arith\.divsi: division by zero"):
        scalar("arith.divsi {}, {} : i32", "i32", 1, 0)


FLOATS = st.floats(width=32, allow_subnormal=True)


@given(FLOATS, FLOATS)
@settings(deadline=None)
def test_float_comparison_and_maximum_with_nan(a: float, b: float) -> None:
    unordered = math.isnan(a) or math.isnan(b)
    expected = {
        "false": False,
        "oeq": a == b,
        "ogt": a > b,
        "oge": a >= b,
        "olt": a < b,
        "ole": a <= b,
        "one": not unordered and a != b,
        "ord": not unordered,
        "ueq": unordered or a == b,
        "ugt": unordered or a > b,
        "uge": unordered or a >= b,
        "ult": unordered or a < b,
        "ule": unordered or a <= b,
        "une": unordered or a != b,
        "uno": unordered,
        "true": True,
    }
    for name, value in expected.items():
        assert scalar(f"arith.cmpf {name}, {{}}, {{}} : f32", "f32", a, b, result="i1") == value, name
    maximum = scalar("arith.maximumf {}, {} : f32", "f32", a, b)
    number = scalar("arith.maxnumf {}, {} : f32", "f32", a, b)
    assert np.isnan(maximum) if unordered else maximum == max(a, b)
    assert np.isnan(number) if math.isnan(a) and math.isnan(b) else number == np.fmax(np.float32(a), np.float32(b))


@pytest.mark.parametrize(
    ("operation", "kind", "value", "result", "expected"),
    [
        ("arith.extf {} : f16 to f32", "f16", 1.5, "f32", 1.5),
        ("arith.truncf {} : f32 to f16", "f32", 1 + 2**-12, "f16", 1.0),
        ("arith.truncf {} : f32 to f16", "f32", 1e6, "f16", math.inf),
        ("arith.sitofp {} : i8 to f32", "i8", -3, "f32", -3.0),
        ("arith.uitofp {} : i8 to f32", "i8", -3, "f32", 253.0),
        ("arith.uitofp {} : i1 to f32", "i1", True, "f32", 1.0),
        ("arith.fptosi {} : f32 to i32", "f32", -2.9, "i32", -2),
        ("arith.extsi {} : i8 to i32", "i8", -3, "i32", -3),
        ("arith.extsi {} : i1 to i32", "i1", True, "i32", -1),
        ("arith.extui {} : i8 to i32", "i8", -3, "i32", 253),
        ("arith.extui {} : i1 to i32", "i1", True, "i32", 1),
        ("arith.trunci {} : i32 to i8", "i32", 300, "i8", 44),
        ("arith.trunci {} : i32 to i1", "i32", 2, "i1", False),
        ("arith.bitcast {} : f32 to i32", "f32", 1.0, "i32", 0x3F800000),
        ("math.rsqrt {} : f32", "f32", 16.0, "f32", 0.25),
        ("math.round {} : f32", "f32", -2.5, "f32", -3.0),
        ("math.roundeven {} : f32", "f32", -2.5, "f32", -2.0),
        ("math.erf {} : f32", "f32", 0.5, "f32", np.float32(math.erf(0.5))),
    ],
)
def test_conversions_and_functions(operation: str, kind: str, value: Any, result: str, expected: Any) -> None:
    got = scalar(operation, kind, value, result=result)
    assert got == expected
    dtype = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "i8": np.int8, "i1": np.bool_}[result]
    assert np.asarray(got).dtype == dtype


def test_insertion_leaves_alone_what_is_used_again() -> None:
    """The second is in place in the first's result where nothing else uses that; never in an argument."""
    text = """
func.func @main(%x: tensor<4xi32>, %a: tensor<1xi32>) -> (tensor<4xi32>, tensor<4xi32>, tensor<4xi32>) {
  %1 = tensor.insert_slice %a into %x[0] [1] [1] : tensor<1xi32> into tensor<4xi32>
  %2 = tensor.insert_slice %a into %1[1] [1] [1] : tensor<1xi32> into tensor<4xi32>
  %3 = tensor.insert_slice %a into %2[2] [1] [1] : tensor<1xi32> into tensor<4xi32>
  func.return %x, %1, %3 : tensor<4xi32>, tensor<4xi32>, tensor<4xi32>
}"""
    results = run(text, np.zeros(4, np.int32), np.int32([7]))
    assert [x.tolist() for x in results] == [[0, 0, 0, 0], [7, 0, 0, 0], [7, 7, 7, 0]]


def test_tensor_operations() -> None:
    text = """
func.func @main(%x: tensor<4x6xf32>, %i: index) -> (tensor<2x2xf32>, tensor<6xf32>, tensor<4x6xf32>, tensor<4x6xf32>,
    tensor<2x2x6xf32>, tensor<24xf32>, tensor<2xf32>, tensor<3xf32>, index, tensor<8x6xf32>) {
  %one = arith.constant 1 : index
  %two = arith.constant 2.5 : f32
  %a = tensor.extract_slice %x[%i, 1] [2, 2] [1, 3] : tensor<4x6xf32> to tensor<2x2xf32>
  %b = tensor.extract_slice %x[%i, 0] [1, 6] [1, 1] : tensor<4x6xf32> to tensor<6xf32>
  %c = tensor.insert_slice %a into %x[%i, 0] [2, 2] [1, 2] : tensor<2x2xf32> into tensor<4x6xf32>
  %d = tensor.insert %two into %x[%i, %one] : tensor<4x6xf32>
  %e = tensor.expand_shape %x [[0, 1], [2]] output_shape [2, 2, 6] : tensor<4x6xf32> into tensor<2x2x6xf32>
  %f = tensor.collapse_shape %x [[0, 1]] : tensor<4x6xf32> into tensor<24xf32>
  %v = tensor.extract %x[%i, %one] : tensor<4x6xf32>
  %g = tensor.from_elements %v, %two : tensor<2xf32>
  %h = tensor.splat %v : tensor<3xf32>
  %n = tensor.dim %x, %one : tensor<4x6xf32>
  %j = tensor.concat dim(0) %x, %d : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<8x6xf32>
  func.return %a, %b, %c, %d, %e, %f, %g, %h, %n, %j : tensor<2x2xf32>, tensor<6xf32>, tensor<4x6xf32>,
    tensor<4x6xf32>, tensor<2x2x6xf32>, tensor<24xf32>, tensor<2xf32>, tensor<3xf32>, index, tensor<8x6xf32>
}"""
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    c, d = x.copy(), x.copy()
    c[2:4, 0:4:2] = x[2:4, 1:6:3]
    d[2, 1] = 2.5
    expected = [
        x[2:4, 1:6:3],
        x[2],
        c,
        d,
        x.reshape(2, 2, 6),
        x.reshape(24),
        [13, 2.5],
        [13, 13, 13],
        6,
        np.concatenate([x, d]),
    ]
    before = x.copy()
    for result, wanted in zip(run(text, x, np.int64(2)), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
    np.testing.assert_array_equal(x, before)
    with pytest.raises(DcomError, match=r"tensor\.extract_slice: offset 3, size 2, stride 1 reach out of 4 elements"):
        run(text, x, np.int64(3))


def test_constants_of_every_kind() -> None:
    text = """
func.func @main() -> (tensor<2x2xf32>, tensor<3xi64>, f16, i1, tensor<2x2xf32>) {
  %a = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
  %b = arith.constant dense<7> : tensor<3xi64>
  %c = arith.constant 0.1 : f16
  %d = arith.constant true
  %e = arith.addf %a, %a : tensor<2x2xf32>
  func.return %a, %b, %c, %d, %e : tensor<2x2xf32>, tensor<3xi64>, f16, i1, tensor<2x2xf32>
}"""
    a, b, c, d, e = run(text)
    np.testing.assert_array_equal(a, np.float32([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(b, np.int64([7, 7, 7]))
    assert (a.dtype, b.dtype, c.dtype) == (np.float32, np.int64, np.float16)
    assert c == np.float16(0.1) and d
    np.testing.assert_array_equal(e, 2 * a)


LOOP = """
func.func @main(%n: index, %x: tensor<5xf32>) -> (tensor<5xf32>, index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %two = arith.constant 2 : index
  %t, %count = scf.for %i = %zero to %n step %two iter_args(%acc = %x, %c = %zero) -> (tensor<5xf32>, index) {
    %odd = arith.cmpi eq, %i, %two : index
    %v = scf.if %odd -> (f32) {
      %k = arith.constant 100.0 : f32
      scf.yield %k : f32
    } else {
      %k = tensor.extract %x[%i] : tensor<5xf32>
      %k2 = arith.addf %k, %k : f32
      scf.yield %k2 : f32
    }
    %next = tensor.insert %v into %acc[%i] : tensor<5xf32>
    %c1 = arith.addi %c, %one : index
    scf.yield %next, %c1 : tensor<5xf32>, index
  }
  func.return %t, %count : tensor<5xf32>, index
}"""


def test_loops_and_branches() -> None:
    x = np.float32([1, 2, 3, 4, 5])
    result, count = run(LOOP, np.int64(5), x)
    np.testing.assert_array_equal(result, [2, 2, 100, 4, 10])
    assert count == 3
    result, count = run(LOOP, np.int64(0), x)
    np.testing.assert_array_equal(result, x)
    assert count == 0


LAYERS = """
ml_program.global private @w0(dense_resource<w0> : tensor<2xf32>) : tensor<2xf32>
ml_program.global private @w1(dense_resource<w1> : tensor<2xf32>) : tensor<2xf32>
func.func private @layer(%h: tensor<2xf32>, %w: tensor<2xf32>) -> tensor<2xf32> {
  %r = arith.mulf %h, %w : tensor<2xf32>
  func.return %r : tensor<2xf32>
}
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %w0 = ml_program.global_load_const @w0 : tensor<2xf32> loc("model.layers.0"("model.py":5:1))
  %w1 = ml_program.global_load_const @w1 : tensor<2xf32> loc("model.layers.1"("model.py":5:1))
  %a = func.call @layer(%x, %w0) {dcom.layer = 0 : i64} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %b = func.call @layer(%a, %w1) {dcom.layer = 1 : i64} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  func.return %b : tensor<2xf32>
}"""
WEIGHTS = {"w0": np.float32([2, 3]), "w1": np.float32([5, 7])}
X = np.float32([1, 10])


def test_layers_weights_and_what_is_told_of_them() -> None:
    seen: list[int] = []
    (result,) = run(LAYERS, X, weights=WEIGHTS, progress=seen.append)
    np.testing.assert_array_equal(result, [10, 210])
    assert seen == [0, 1] * len(BACKENDS)
    (result,) = run(LAYERS, X, weights=WEIGHTS, skip_layers=[1])
    np.testing.assert_array_equal(result, [2, 30])
    (result,) = run(LAYERS, X, weights={name: value.astype(np.float64) for name, value in WEIGHTS.items()})
    assert result.dtype == np.float32


def test_the_observer_sees_operands_and_results_but_not_linalg_bodies() -> None:
    seen: list[tuple[str, list[Any], list[Any]]] = []

    def observe(op: Operation, operands: Any, results: Any) -> None:
        seen.append((op.name, list(operands), list(results)))

    run(LAYERS, X, weights=WEIGHTS, observer=observe)
    names = ["ml_program.global_load_const"] * 2 + ["arith.mulf", "func.call"] * 2
    assert [name for name, _, _ in seen] == names * len(BACKENDS)
    np.testing.assert_array_equal(seen[4][1][0], [2, 30])
    np.testing.assert_array_equal(seen[4][2][0], [10, 210])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"w0": WEIGHTS["w0"]}, r"model\.layers\.1 \(model\.py:5\): error: .*the model has no weight 'w1'"),
        (WEIGHTS | {"w1": np.ones(3, np.float32)}, r"weight 'w1' has shape \[3\], but the program wants \[2\]"),
    ],
)
def test_weights_that_do_not_fit(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(DcomError, match=message):
        run(LAYERS, X, weights=weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"@main takes 1 arguments, got 0"),
        ((np.zeros(3, np.float32),), r"argument 0 is float32 \[3\], not tensor<2xf32>"),
        ((np.zeros(2),), r"argument 0 is float64 \[2\], not tensor<2xf32>"),
    ],
)
def test_arguments_that_do_not_fit(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DcomError, match=message):
        run(LAYERS, *arguments, weights=WEIGHTS)


@pytest.mark.parametrize("shape", [[2], [3]])
def test_arguments_are_checked_where_they_are(shape: list[int]) -> None:
    """Those of the device `meta` have no data, which NumPy would ask for."""
    text = "func.func @main(%a: tensor<2xbf16>) {\n  func.return\n}"
    executor = Executor(parse_module(text, "test.mlir"), {}, arrays=make_arrays("torch", "cpu"))
    dtype = torch.float16 if shape == [2] else torch.bfloat16
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(DcomError, match=rf"argument 0 is {name} \[{shape[0]}\], not tensor<2xbf16>"):
        executor.run("main", torch.empty(shape, dtype=dtype, device="meta"))
    executor.run("main", torch.zeros(2, dtype=torch.bfloat16))


def test_unknown_function() -> None:
    with pytest.raises(DcomError, match=r"the program has no function @mian; did you mean 'main'\?"):
        Executor(parse_module(LAYERS, "test.mlir"), WEIGHTS).run("mian")


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (
            'math.ctlz %i : i64 loc("a.b"("model.py":9:1))',
            r"a\.b \(model\.py:9\): error: math\.ctlz: the executor does not support this operation",
        ),
        ("arith.addi %b, %b : i1", r"arith\.addi: the executor does not support this operation on i1"),
        ("arith.cmpi slt, %b, %b : i1", r"does not support signed comparison of i1"),
    ],
)
def test_what_is_not_supported_is_named_with_its_place(operation: str, message: str) -> None:
    text = f"func.func @main(%i: i64, %b: i1) {{\n  %r = {operation}\n  func.return\n}}"
    with pytest.raises(DcomError, match=message):
        run(text, np.int64(1), np.bool_(True))


def test_a_value_is_dropped_after_its_last_use() -> None:
    """Ten tensors in a chain, each as large as the input: never more than a few alive."""
    lines = [f"  %v{i + 1} = math.exp %v{i} : tensor<1000000xf32>" for i in range(10)]
    text = (
        "func.func @main(%v0: tensor<1000000xf32>) -> tensor<1000000xf32> {\n"
        + "\n".join(lines)
        + "\n  func.return %v10 : tensor<1000000xf32>\n}"
    )
    import tracemalloc

    executor = Executor(parse_module(text, "test.mlir"), {})
    x = np.zeros(1000000, np.float32)
    tracemalloc.start()
    executor.run("main", x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.5 * x.nbytes
