"""Kernels written by hand: what a pass needs and does not find is one error, never a traceback."""

import re
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp, f32

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import run_passes
from dialects.cluster import ConstantOp, ForOp, KernelOp, MaxOp, RsqrtOp
from passes import make_passes
from passes.lower_cluster_to_isa import LowerClusterToIsaPass

MATRIX = "%a = cluster.matrix : !cluster.matrix<40x24>"
BASES = "%u = cluster.alloc : !cluster.basis<4x40, rows>\n%v = cluster.alloc : !cluster.basis<3x24, cols>"
LOOP = "cluster.for 3 : i64 {\n^bb0(%j: index):\n  %t = cluster.constant 0.5\n}"
BANKS = (
    "banks = {a_offset = 0 : i64, a_stride = 0 : i64, alpha_offset = 0 : i64, bank_bytes = 0 : i64, "
    "start_offset = 0 : i64, u_offset = 0 : i64, u_stride = 0 : i64, v_offset = 0 : i64}"
)
MAPPING = (
    "mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 8 : i64, slice_rows = 8 : i64, "
    "span_cols = 0 : i64, span_rows = 0 : i64}"
)


def run(pipeline: str, body: str, attributes: str = "") -> None:
    context = make_context()
    text = f"cluster.kernel @k attributes {{seed = 0 : i64{attributes and ', '}{attributes}}} {{\n{body}\n}}\n"
    run_passes(context, parse_module(text, "kernel.mlir", context), make_passes(pipeline))


MISTAKES = [
    ("cluster-map", LOOP, "", r"kernel @k has 0 cluster\.matrix; it needs one"),
    ("cluster-map", f"{MATRIX}\n{MATRIX.replace('%a', '%b')}", "", r"kernel @k has 2 cluster\.matrix; it needs one"),
    (
        "cluster-schedule",
        MATRIX,
        "mapping = {slice_rows = 8 : i64}",
        "other than folded, in_flight, slice_cols, .*, each 0 or more",
    ),
    (
        "cluster-schedule",
        MATRIX,
        'mapping = {slice_rows = 8 : i64, slice_cols = "8"}',
        "other than folded, in_flight, slice_cols, slice_rows",
    ),
    (
        "cluster-schedule",
        MATRIX,
        MAPPING.replace("= 8", "= -8"),
        "other than folded, in_flight, slice_cols, .*, each 0 or more",
    ),
    ("cluster-map,cluster-schedule", MATRIX, "", "kernel @k has no basis along its rows; it needs one for U and V"),
    (
        "cluster-map,cluster-schedule",
        f"{MATRIX}\n%u = cluster.alloc : !cluster.basis<4x40, rows>",
        "",
        "kernel @k has no basis along its cols; it needs one for U and V",
    ),
    (
        "cluster-map,cluster-schedule,lower-cluster-to-isa",
        f"{MATRIX}\n{BASES}",
        "",
        r"kernel @k has 0 cluster\.for; it needs one",
    ),
    (
        "lower-cluster-to-isa",
        f"{MATRIX}\n{BASES}\n{LOOP}",
        f"{MAPPING}, {BANKS}",
        "kernel @k has something without an offset",
    ),
    ("lower-cluster-to-isa", LOOP, f"{MAPPING}, banks = {{}}", "banks other than a_offset, a_stride, .*, v_offset"),
]


@pytest.mark.parametrize(("pipeline", "body", "attributes", "message"), MISTAKES)
def test_kernels_that_lack_something(pipeline: str, body: str, attributes: str, message: str) -> None:
    with pytest.raises(DcomError, match=message) as caught:
        run(pipeline, body, attributes)
    assert caught.value.place == "kernel.mlir:1"


def test_least_kernel() -> None:
    run("cluster-map,cluster-schedule,lower-cluster-to-isa", f"{MATRIX}\n{BASES}\n{LOOP}")


SCHEDULED = (Path(__file__).parent / "lower-cluster-to-isa.mlir").read_text(encoding="utf-8")
CHANGES = [
    ("slice_rows = 24", "slice_rows = 20", "slice_rows = 20 are no whole tiles of 8 in which 16 clusters hold 380"),
    ("slice_cols = 16", "slice_cols = 8", "slice_cols = 8 are no whole tiles of 8 in which 16 clusters hold 250"),
    ("slice_cols = 16", f"slice_cols = {10**12}", "slice_cols = 1000000000000 are no whole tiles"),
    ("chunks = 1 :", "chunks = 0 :", "0 chunks of 3 tile rows; 1, or an even number of equal ones"),
    ("chunks = 1 :", "chunks = 2 :", "2 chunks of 3 tile rows"),
    ("chunks = 1 : i64, ", "", "the matrix has no number of chunks; run cluster-schedule"),
    ("offset = 1024 :", "offset = -2 :", "does not fit buffer address; no instruction holds that number"),
    ("offset = 460 :", f"offset = {2**40} :", "does not fit buffer address"),
    ("a_stride = 768", f"a_stride = {2**40}", "stride = 1099511627776 does not fit stride in bytes of 32 bits"),
    (
        "  %t =",
        "  %w = cluster.alloc {offset = 0 : i64} : !cluster.vector<379, rows>\n  %t =",
        "379 elements along the rows of a matrix of 380",
    ),
    ("seed = 3", "seed = -3", "seed -3 is not between 0 and"),
    ("{\n  %a =", "{\n^bb0(%s: f32):\n  %a =", "kernel @k takes arguments; a kernel has none"),
    ("  cluster.for 3 :", "  cluster.for 4 :", "cluster.store reaches 4 vectors or cells in 4 turns, but there are 3"),
    ("into %v[%j]", "into %v[%j shift 1 : i64]", "cluster.scale reaches 4 vectors or cells in 3 turns"),
    ("first %j shift 1 :", "first %j shift 2 :", "cluster.dots reaches 2 past the turn; at most one"),
    ("first %j shift 1 :", "first %j shift -1 :", "cluster.dots reaches -1 past the turn"),
    ("    %r =", "    %w = cluster.alloc : !cluster.cells<1>\n    %r =", "cluster.alloc stands in a loop; move it to"),
    ("    %r =", "    %c = arith.constant 1.0 : f32\n    %r =", "arith.constant has no lowering to instructions"),
    ('%u as "u"', '%u as "v"', "output v is !cluster.basis<4x380, rows>; u and v are bases, alpha and beta cells"),
    ('%dots as "beta"', '%dots as "u"', "output u is !cluster.cells<3>"),
    ("  %t =", "".join(f"  %t{n} = cluster.constant 1.0\n" for n in range(30)) + "  %t =", "has 36 scalars, but 32"),
]


@pytest.mark.parametrize(("old", "new", "message"), CHANGES)
def test_a_kernel_that_was_tampered_with(old: str, new: str, message: str) -> None:
    """Each ends in one error, at the line of the operation that has no lowering."""
    assert old in SCHEDULED
    context = make_context()
    module = parse_module(SCHEDULED.replace(old, new), "kernel.mlir", context)
    with pytest.raises(DcomError) as caught:
        run_passes(context, module, make_passes("lower-cluster-to-isa"))
    assert message in str(caught.value)
    assert re.match(r".*:\d+\)?: error: ", str(caught.value)), caught.value


ONE_BY_ONE = """
%y = cluster.alloc : !cluster.vector<40, rows>
%c = cluster.alloc : !cluster.cells<1>
cluster.for 3 : i64 {
^bb0(%j: index):
  cluster.each first %j shift 1 : i64 {
  ^bb1(%i: index):
    cluster.dot %u[%i], %y into %c : !cluster.basis<4x40, rows>, !cluster.vector<40, rows>, !cluster.cells<1>
    cluster.all_reduce %c across "rows" : !cluster.cells<1>
    cluster.project_out %u[%i], %c from %y : !cluster.basis<4x40, rows>, !cluster.cells<1>, !cluster.vector<40, rows>
  }
}
"""
EXPANDED = "cluster-expand-reductions{factor=8},cluster-map,cluster-schedule,lower-cluster-to-isa"
DOT = "cluster.dot %u[%i], %y into %c : !cluster.basis<4x40, rows>, !cluster.vector<40, rows>, !cluster.cells<1>"
PART = "!cluster.vector<40, rows, 1 of 16>"
FOR = "cluster.for 3 : i64 {"
LOOPS = [
    ("shift 1 : i64 {", "shift 2 : i64 {", "cluster.each reaches 2 past the turn; at most one"),
    ("shift 1 : i64 {", "shift -1 : i64 {", "cluster.each reaches -1 past the turn"),
    ("basis<4x40", "basis<2x40", "cluster.dot reaches 3 vectors in 3 turns, but there are 2"),
    ("%u[%i], %y", "%u[%j], %y", "cluster.dot takes the number of the turn in cluster.each; take that of the vector"),
    (
        f"    {DOT}",
        "    %t = cluster.constant 0.5",
        "cluster.constant stands in cluster.each; it holds",
    ),
    (f"  {DOT}", "  cluster.each first %j {\n^bb2(%n: index):\n}", "cluster.each stands in another; one after another"),
    (FOR, f"cluster.read %b into %p : {PART}, {PART}\n{FOR}", None),
    (FOR, f"cluster.minus %b, %b : {PART}, {PART}\n{FOR}", "cluster.minus takes what is in the banks; read it into"),
    (FOR, f'cluster.all_reduce %p across "cols" : {PART}\n{FOR}', f"cluster.all_reduce takes whole slices, not {PART}"),
    ("1 of 16", "3 of 16", "3 of 16 parts on a line of 16 clusters; as many parts as clusters, in equal runs"),
    ("1 of 16", "1 of 8", "1 of 8 parts on a line of 16 clusters"),
]


@pytest.mark.parametrize(("old", "new", "message"), LOOPS)
def test_loops_over_vectors_and_parts(old: str, new: str, message: str | None) -> None:
    rooms = f"%b = cluster.bank_room : {PART}\n%p = cluster.alloc : {PART}\n"
    body = f"{MATRIX}\n{BASES}\n{rooms}{ONE_BY_ONE}"
    assert old in body
    pipeline = "cluster-map,cluster-schedule,lower-cluster-to-isa"
    run(pipeline, body)
    if message is None:
        run(pipeline, body.replace(old, new))
        return
    with pytest.raises(DcomError, match=re.escape(message)):
        run(pipeline, body.replace(old, new))


def test_passes_with_something_between_are_expanded_apart() -> None:
    """What stands between finds the vector put together again."""
    zero = "  cluster.zero %c : !cluster.cells<1>\n"
    each = ONE_BY_ONE[ONE_BY_ONE.index("  cluster.each") : ONE_BY_ONE.rindex("}\n")]
    for between, times in (("", 1), (zero, 2)):
        body = ONE_BY_ONE.replace(each, each + between + each.replace("%i", "%n").replace("^bb1", "^bb2"))
        context = make_context()
        text = f"cluster.kernel @k attributes {{seed = 0 : i64}} {{\n{MATRIX}\n{BASES}\n{body}\n}}\n"
        module = parse_module(text, "kernel.mlir", context)
        run_passes(context, module, make_passes(EXPANDED.split(",cluster-map")[0]))
        assert print_module(module).count("cluster.gather %y_part into %y ") == times
        run_passes(context, module, make_passes(EXPANDED.split("},", 1)[1]))


def scheduled() -> tuple[ModuleOp, KernelOp]:
    module = parse_module(SCHEDULED, "kernel.mlir")
    (kernel,) = (op for op in module.ops if isinstance(op, KernelOp))
    return module, kernel


def test_a_value_is_there_before_it_is_read() -> None:
    """Text is refused earlier; a module that was made otherwise is not."""
    module, kernel = scheduled()
    maximum = next(op for op in kernel.walk() if isinstance(op, MaxOp))
    (block,) = (op.body.block for op in kernel.body.block.ops if isinstance(op, ForOp))
    maximum.detach()
    block.insert_op_before(maximum, next(iter(block.ops)))
    with pytest.raises(DcomError, match=r"cluster\.max reads a value that is not there yet"):
        LowerClusterToIsaPass().apply(make_context(), module)


def test_a_value_of_a_kernel_stays_in_it() -> None:
    module, kernel = scheduled()
    constant = next(op for op in kernel.body.block.ops if isinstance(op, ConstantOp))
    module.body.block.add_op(RsqrtOp.create(operands=[constant.result], result_types=[f32]))
    with pytest.raises(DcomError, match=r"cluster\.rsqrt reads a value of kernel @k from outside"):
        LowerClusterToIsaPass().apply(make_context(), module)
