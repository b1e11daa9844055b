"""Text that has been tampered with ends in one error with a place, or in a module that verifies: never in a crash."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import run_passes
from dialects.cluster import KernelOp
from passes import make_passes

TOY = (Path(__file__).parents[1] / "passes" / "dcom-insert-outlier-split.mlir").read_text(encoding="utf-8")
SPLIT = "dcom-insert-outlier-split{layers=1 outliers=20},dcom-decompose-activations{layers=1 rank=2}"
PIPELINES = (
    f"cse,{SPLIT},dcom-preserve-decomposed,canonicalize,cse,lower-dcom-to-cluster",
    "dcom-decompose-activations{layers=1 sites=qkv rank=2},dcom-preserve-decomposed,dcom-legalize,canonicalize",
    "dcom-preserve-decomposed,dcom-legalize,dce",
    "lower-dcom-to-cluster,cluster-map,cluster-schedule,lower-cluster-to-isa",
    "cluster-schedule,lower-cluster-to-isa",
    "lower-cluster-to-isa",
)


def _after(pipeline: str) -> str:
    context = make_context()
    module = parse_module(TOY, "toy.mlir", context)
    run_passes(context, module, make_passes(pipeline))
    kernels = [op for op in module.ops if isinstance(op, KernelOp)]
    return "".join(print_module(op, locations=False) for op in kernels or [module])


DECOMPOSE = "dcom-decompose-activations{layers=1 sites=qkv rank=2}"
KERNEL = f"{DECOMPOSE},lower-dcom-to-cluster"
TEXTS = (TOY, *map(_after, (DECOMPOSE, KERNEL, f"{KERNEL},cluster-map", f"{KERNEL},cluster-map,cluster-schedule")))


@st.composite
def tampered(draw: st.DrawFn) -> str:
    """A valid text with lines dropped, doubled or moved, words dropped, numbers and types changed."""
    lines = draw(st.sampled_from(TEXTS)).splitlines()
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        words = [match.span() for match in re.finditer(r"\d+|[%@#!\w.]+|[<>{}()\[\]]", line)]
        match draw(st.sampled_from(("drop", "double", "move", "word", "number", "type"))):
            case "drop" if len(lines) > 1:
                lines.pop(number)
            case "double":
                lines.insert(number, line)
            case "move":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(number))
            case "word" if words:
                start, end = draw(st.sampled_from(words))
                lines[number] = line[:start] + line[end:]
            case "number" if any(line[start:end].isdigit() for start, end in words):
                start, end = draw(st.sampled_from([span for span in words if line[slice(*span)].isdigit()]))
                value = draw(st.sampled_from(("0", "1", "3", "99", "-1", str(10**12))))
                lines[number] = line[:start] + value + line[end:]
            case _:
                lines[number] = line.replace("f32", draw(st.sampled_from(("f64", "f16", "i32", "index"))), 1)
    return "\n".join(lines)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(text=tampered(), pipeline=st.sampled_from(PIPELINES))
def test_tampered_text_is_an_error_or_a_module(text: str, pipeline: str) -> None:
    context = make_context()
    try:
        module = parse_module(text, "tampered.mlir", context)
    except DcomError as error:
        assert re.match(r"tampered\.mlir(:\d+:\d+)?: error: .", str(error)), error
        return
    try:
        run_passes(context, module, make_passes(pipeline))
    except DcomError as error:
        assert "mistake of the pass" not in str(error), error
        return
    module.verify()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('  %y = "linalg.transpose"() : () -> tensor<2xf32>', "3:3: error: "),
        ('  linalg.generic {indexing_maps = [], iterator_types = ["sideways"]} ins() outs() {\n  }', "3:3: error: "),
    ],
)
def test_what_xdsl_does_not_expect_has_its_place(line: str, message: str) -> None:
    text = f"module {{\n  func.func @f() {{\n{line}\n  func.return\n  }}\n}}\n"
    with pytest.raises(DcomError) as caught:
        parse_module(text, "x.mlir")
    assert str(caught.value).startswith(f"x.mlir:{message}")
