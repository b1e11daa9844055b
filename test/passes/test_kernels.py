"""Kernels written by hand: what a pass needs and does not find is one error, never a traceback."""

import pytest

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module
from dcomc.pipeline import run_passes
from passes import make_passes

MATRIX = "%a = cluster.matrix : !cluster.matrix<40x24>"
BASES = "%u = cluster.alloc : !cluster.basis<4x40, rows>\n%v = cluster.alloc : !cluster.basis<3x24, cols>"
LOOP = "cluster.for 3 : i64 {\n^bb0(%j: index):\n  %t = cluster.constant 0.5\n}"
BANKS = (
    "banks = {a_offset = 0 : i64, a_stride = 0 : i64, alpha_offset = 0 : i64, bank_bytes = 0 : i64, "
    "start_offset = 0 : i64, u_offset = 0 : i64, u_stride = 0 : i64, v_offset = 0 : i64}"
)
MAPPING = "mapping = {slice_cols = 8 : i64, slice_rows = 8 : i64}"


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
        "other than slice_cols, slice_rows, each 0 or more",
    ),
    (
        "cluster-schedule",
        MATRIX,
        'mapping = {slice_rows = 8 : i64, slice_cols = "8"}',
        "other than slice_cols, slice_rows",
    ),
    ("cluster-schedule", MATRIX, MAPPING.replace("= 8", "= -8"), "other than slice_cols, slice_rows, each 0 or more"),
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
    with pytest.raises(DcomError, match=message):
        run(pipeline, body, attributes)


def test_least_kernel() -> None:
    run("cluster-map,cluster-schedule,lower-cluster-to-isa", f"{MATRIX}\n{BASES}\n{LOOP}")
