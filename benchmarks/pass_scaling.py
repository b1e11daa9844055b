"""The time per operation of each pass at 10,000 and 100,000 operations: a quadratic pass takes ten times more.

Two shapes: many layers of ordinary size, each a function of its own once decomposed, and one layer whose body is
repeated, so that a single function is long. Both are made from the traced preset `tiny`. Processor time counts.
`cse` is xDSL's, which copies what it knows at each region: in one long function its time does grow faster.

Run: python benchmarks/pass_scaling.py [--small N] [--large N]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import finish, measure
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64
from xdsl.dialects.func import CallOp, FuncOp, ReturnOp
from xdsl.ir import SSAValue

from dcomc.instrumentation import collection_paused
from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import Decomposition, compile_pipeline
from dcomc.tables import print_table
from dcomc.verification import Verifier
from passes import UPSTREAM, make_passes


def count(module: ModuleOp) -> int:
    return sum(1 for _ in module.walk())


def calls_of(module: ModuleOp) -> list[CallOp]:
    return [op for op in module.walk() if isinstance(op, CallOp) and "dcom.layer" in op.attributes]


def many_layers(text: str, context: Context, operations: int) -> tuple[ModuleOp, int]:
    """A module whose layers come to so many operations once each has its function, and how many layers those are."""
    module = parse_module(text, "tiny.mlir", context)
    layers = max(operations // sum(1 for _ in _layer_function(module).walk()), 1)
    *_, last = calls_of(module)
    for call in calls_of(module)[:-1]:
        call.results[0].replace_all_uses_with(call.operands[0])
        call.detach()
        call.erase()
    last.attributes["dcom.layer"] = IntegerAttr(0, i64)
    for layer in range(1, layers):
        clone = last.clone()
        clone.attributes["dcom.layer"] = IntegerAttr(layer, i64)
        block = last.parent_block()
        assert block is not None
        block.insert_op_after(clone, last)
        last.results[0].replace_all_uses_with(clone.results[0])
        clone.operands[0] = last.results[0]
        last = clone
    return module, layers


def long_layer(text: str, context: Context, operations: int) -> tuple[ModuleOp, int]:
    """A module with one layer, whose body is repeated to so many operations."""
    module, _ = many_layers(text, context, 1)
    function = _layer_function(module)
    block = function.body.block
    body = list(block.ops)[:-1]
    returned = block.last_op
    assert isinstance(returned, ReturnOp)
    each = sum(1 for op in body for _ in op.walk())
    first_result = returned.operands[0]
    for _ in range(operations // each - 1):
        values: dict[SSAValue, SSAValue] = {block.args[0]: returned.operands[0]}
        for op in body:
            block.insert_op_before(op.clone(values), returned)
        returned.operands[0] = values[first_result]
    return module, 1


def _layer_function(module: ModuleOp) -> FuncOp:
    (function,) = (op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data != "main")
    return function


def timed(action: Callable[[], object]) -> float:
    with collection_paused():  # as it is when a pipeline runs
        start = time.process_time()
        action()
        return time.process_time() - start


def per_operation(
    text: str, make: Callable[[str, Context, int], tuple[ModuleOp, int]], operations: int
) -> dict[str, float]:
    """Microseconds per operation of each step, those of `dcomc compile` first."""
    context = make_context()
    module, layers = make(text, context, operations)
    verifier = Verifier()
    results: dict[str, float] = {}

    def note(name: str, action: Callable[[], object]) -> None:
        before = count(module)
        seconds = timed(action)
        number = sum(1 for known in results if known.split(" ")[0] == name)
        results[f"{name} ({number + 1})" if number else name] = 1e6 * seconds / max(before, count(module))

    decomposition = Decomposition(tuple(range(layers)), rank=4, outliers=3.0)
    passes = compile_pipeline(decomposition, "dcom-16x16", "isa")
    for pass_ in passes:
        note(pass_.name, lambda pass_=pass_: pass_.apply(context, module))
        if pass_.name == "dcom-preserve-decomposed":
            note("verify changes", lambda: verifier.verify_changes(module))
    printed: list[str] = []
    note("print", lambda: printed.append(print_module(module)))
    note("parse", lambda: parse_module(printed[0], "again.mlir", make_context()))
    for pass_ in make_passes("dcom-legalize,canonicalize,cse,dce"):
        note(pass_.name, lambda pass_=pass_: pass_.apply(context, module))
    results["operations"] = count(module)
    return results


def main() -> None:
    """Measure both shapes at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=10_000, help="operations (default: %(default)s)")
    parser.add_argument("--large", type=int, default=100_000, help="operations (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.mlir"
        measure(["trace", "tiny", "--seq-len", "16", "-o", str(file)])
        text = file.read_text(encoding="utf-8")
    shapes: dict[str, dict[str, dict[str, float]]] = {}
    for shape, make in (("many layers", many_layers), ("one long layer", long_layer)):
        small, large = (per_operation(text, make, operations) for operations in (args.small, args.large))
        shapes[shape] = {"small": small, "large": large}
        print_table(
            (shape, f"{args.small:,}", f"{args.large:,}", "ratio"),
            [
                (name, f"{small[name]:.2f} us", f"{large[name]:.2f} us", f"{large[name] / small[name]:.2f}")
                for name in small
                if name != "operations"
            ],
            caption="processor time per operation",
        )
    worst = max(
        (both["large"][name] / both["small"][name], name, shape)
        for shape, both in shapes.items()
        for name in both["small"]
        if name != "operations" and name.split(" ")[0] not in UPSTREAM and both["large"][name] > 0.5
    )
    finish("pass_scaling", {"shapes": shapes, "worst_ratio": worst, "holds": {"no_quadratic_pass": worst[0] < 3}})


if __name__ == "__main__":
    main()
