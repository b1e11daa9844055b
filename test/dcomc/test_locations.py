"""Locations from a model's Python lines to its instructions: no operation and no block argument loses its own."""

import re
from pathlib import Path

import pytest
import transformers
from families import LLAMA_FAMILY
from xdsl.dialects.builtin import ArrayAttr, CallSiteLoc, FileLineColLoc, FusedLoc, LocationAttr, ModuleOp, NameLoc
from xdsl.ir import Operation

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import Decomposition, compile_pipeline, run_passes
from dcomc.tracer.capture import capture
from dcomc.tracer.program import build_module
from passes import make_passes


def lines(location: object) -> set[str]:
    """The files that a location names, `?` for a part of it that is unknown."""
    match location:
        case FileLineColLoc():
            return {location.filename.data if location.line.data > 0 else "?"}
        case NameLoc():
            return lines(location.location)
        case CallSiteLoc():
            return lines(location.callee)
        case FusedLoc():
            parts = location.locations
            assert isinstance(parts, ArrayAttr)
            return set[str]().union(*map(lines, parts))
        case _:
            return {"?"}


def places(module: ModuleOp) -> list[tuple[Operation, LocationAttr]]:
    """All locations of a module, of operations and of block arguments."""
    found: list[tuple[Operation, LocationAttr]] = []
    for op in module.walk():
        found.append((op, op.location))
        blocks = [block for region in op.regions for block in region.blocks]
        found += [(op, argument.location) for block in blocks for argument in block.args]
    return found


def check(module: ModuleOp, file: str, stage: str) -> None:
    for op, location in places(module):
        assert lines(location) == {file}, f"{stage}: {op.name} at {location}"


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama3", Decomposition((0, 1), rank=3, iterations=4, outliers=5.0)),
        ("qwen2", Decomposition((1,), ("qkv", "down"), rank=3, iterations=4)),
        ("phi3", Decomposition((0,), rank=2, iterations=4, outliers=5.0)),
        ("gemma3", Decomposition((0, 1, 2), rank=2, iterations=4)),
    ],
)
def test_no_location_is_lost_on_the_way_to_instructions(family: str, options: Decomposition) -> None:
    config = LLAMA_FAMILY[family]
    kind = str(config["model_type"]).removesuffix("_text")
    file = f"transformers/models/{kind}/modeling_{kind}.py"
    module = build_module(capture(config, 16, 2, "f32"), "test", 16, 2)
    check(module, file, "trace")
    context = make_context()
    for pass_ in compile_pipeline(options, "dcom-16x16", "isa"):
        pass_.apply(context, module)
        check(module, file, pass_.name)
    assert any(op.name.startswith("isa.") for op in module.walk())


def test_no_location_is_lost_in_legalisation_and_in_text() -> None:
    config = LLAMA_FAMILY["phi3"]
    module = build_module(capture(config, 16, 2, "f32"), "test", 16, 2)
    pipeline = (
        "dcom-insert-outlier-split{layers=1 outliers=5},dcom-decompose-activations{layers=1 rank=2 iterations=4},"
        "dcom-preserve-decomposed,dcom-legalize"
    )
    context = make_context()
    for pass_ in make_passes(pipeline):
        pass_.apply(context, module)
        check(module, "transformers/models/phi3/modeling_phi3.py", pass_.name)
    check(parse_module(print_module(module), "test"), "transformers/models/phi3/modeling_phi3.py", "text")


DECOMPOSE = "dcom-decompose-activations{layers=1 sites=qkv rank=2}"
LOWER = f"{DECOMPOSE},lower-dcom-to-cluster"
QKV, Q, DOWN = "self_attn.{q_proj, k_proj, v_proj}", "self_attn.q_proj", "mlp.down_proj"
PLACE = r"model\.layers\.[1*]\.(.+?) \(transformers/models/llama/modeling_llama\.py:([\d, ]+)\)"


@pytest.mark.parametrize(
    ("pipeline", "place", "what"),
    [
        ("dcom-decompose-activations{layers=1 rank=99}", QKV, "rank 99 is not between 1 and 24"),
        ("dcom-decompose-activations{layers=1 sites=down rank=9 iterations=8}", DOWN, "iterations 8 is not between"),
        ("dcom-decompose-activations{layers=1 block=25}", QKV, "block 25 is not between 1 and the 24 tokens"),
        (f"{DECOMPOSE},{DECOMPOSE}", QKV, "site qkv of layer 1 is already decomposed"),
        (f"{DECOMPOSE},dcom-preserve-decomposed,{DECOMPOSE}", Q, "is already"),
        ("dcom-decompose-weights{layers=1 rank=99}", Q, "weight rank 99 is not"),
        (f"{LOWER},cluster-schedule", QKV, "has no mapping"),
        (f"{LOWER},lower-cluster-to-isa", QKV, "is not scheduled"),
    ],
)
def test_errors_of_passes_name_the_line_of_the_model(tiny_ir: Path, pipeline: str, place: str, what: str) -> None:
    context = make_context()
    module = parse_module(tiny_ir.read_text(encoding="utf-8"), "tiny.mlir", context)
    with pytest.raises(DcomError, match=re.escape(what)) as caught:
        run_passes(context, module, make_passes(pipeline))
    named = re.fullmatch(PLACE, str(caught.value.place))
    assert named is not None and named[1] == place
    source = (Path(transformers.__file__).parent / "models/llama/modeling_llama.py").read_text().splitlines()
    assert all("_proj(" in source[int(line) - 1] for line in named[2].split(", "))


def test_errors_of_tampered_ir_name_the_line_of_the_model(tiny_ir: Path) -> None:
    context = make_context()
    text = tiny_ir.read_text(encoding="utf-8").replace('"o_proj"', '"x_proj"')
    module = parse_module(text, "tiny.mlir", context)
    with pytest.raises(DcomError, match=r"layer 1 has no linalg\.matmul with") as caught:
        run_passes(context, module, make_passes("dcom-decompose-activations{layers=1 sites=o rank=2}"))
    assert re.fullmatch(
        r"model\.layers\.1 \(transformers/models/llama/modeling_llama\.py:\d+\)", caught.value.place or ""
    )
