"""Valid text made into invalid IR by its structure: each pass ends in one error or leaves a module that verifies."""

import random
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f16,
    f32,
    f64,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import Rewriter

from dcomc.diagnostics import DcomError
from dcomc.encode import make_program
from dcomc.ir import make_context, parse_module, verify_module
from dcomc.pipeline import Decomposition, run_passes
from dialects.dcom import DecomposeOp
from passes import PASSES, make_passes
from runtime.machine import load_machine

TOY = (Path(__file__).parents[1] / "passes" / "dcom-insert-outlier-split.mlir").read_text(encoding="utf-8")
MACHINE = load_machine("dcom-16x16")
STAGES = (
    "cse",
    "dcom-insert-outlier-split{layers=1 sites=qkv outliers=20 exact_rows=20}",
    "dcom-decompose-activations{layers=1 sites=qkv rank=2}",
    "dcom-preserve-decomposed",
    "lower-dcom-to-cluster",
    "cluster-map",
    "cluster-schedule",
    "lower-cluster-to-isa",
)
"""Each makes another level of what a module may be."""

PIPELINES = (
    *STAGES,
    "dcom-decompose-weights{layers=1 sites=qkv rank=2}",
    "cluster-expand-reductions{factor=4}",
    "dcom-legalize",
    "canonicalize",
    "dce",
)
"""Every pass; a test holds this against the registry."""


EXAMPLES = 3 * settings.default.max_examples // 2 if settings.default else 150
"""150, or 1,500 under `--hypothesis-profile=nightly`."""


def test_every_pass_is_tried() -> None:
    assert {pipeline.partition("{")[0] for pipeline in PIPELINES} == set(PASSES)


@cache
def level(number: int, gram_schmidt: str) -> ModuleOp:
    """The toy after so many stages, its decompositions by `classical` or `modified` Gram-Schmidt."""
    context = make_context()
    if number == 0:
        return parse_module(TOY, "toy.mlir", context)
    module = level(number - 1, gram_schmidt).clone()
    run_passes(context, module, make_passes(STAGES[number - 1]))
    for op in module.walk():
        if isinstance(op, DecomposeOp) and gram_schmidt != "classical":
            op.properties["gram_schmidt"] = StringAttr(gram_schmidt)
    return module


def other_attribute(attribute: Attribute, rng: random.Random) -> Attribute:
    """Something else of the same kind, or of another."""
    match attribute:
        case IntegerAttr():
            return IntegerAttr(rng.choice([0, 1, 2, 3, 99, -1]), attribute.type)
        case StringAttr():
            return StringAttr(rng.choice(["", "qkv", "o", "down", "rows", "nothing"]))
        case SymbolRefAttr():
            return SymbolRefAttr("nothing")
        case FloatAttr():
            return FloatAttr(rng.choice([0.0, -1.0, float("nan"), 1e30]), attribute.type)
        case DenseArrayBase():
            return DenseArrayBase.from_list(i64, [rng.randrange(4) for _ in range(rng.randrange(4))])
        case TensorType():
            shape = list(attribute.get_shape())
            if shape and rng.random() < 0.6:
                shape[rng.randrange(len(shape))] = rng.choice([0, 1, 3, 8, -1])
            else:
                rng.choice([lambda: shape.append(2), lambda: shape.pop() if shape else 0])()
            return TensorType(rng.choice([attribute.element_type, f16, f64, i64]), shape)
        case _:
            return rng.choice([UnitAttr(), f32, StringAttr("other"), IntegerAttr(1, i64)])


def mutate(module: ModuleOp, rng: random.Random) -> None:
    """Drop an operation, an attribute or an operand; swap or redirect operands; change an attribute or a type."""
    ops = [op for op in module.walk() if op is not module]
    op = rng.choice(ops)
    table: dict[str, Any] = rng.choice([op.properties, op.attributes])
    values: list[SSAValue] = [result for other in ops for result in other.results]
    match rng.randrange(9):
        case 0:
            drop(op, rng)
        case 1 if table:
            del table[rng.choice(list(table))]
        case 2 if table:
            name = rng.choice(list(table))
            table[name] = other_attribute(table[name], rng)
        case 3 if len(op.operands) > 1:
            first, second = rng.sample(range(len(op.operands)), 2)
            op.operands[first], op.operands[second] = op.operands[second], op.operands[first]
        case 4 if op.operands:
            op.operands[rng.randrange(len(op.operands))] = rng.choice(values)
        case 5 if op.operands:
            index, wanted = rng.randrange(len(op.operands)), op.operands
            same = [value for value in values if value.type == wanted[index].type]
            op.operands[index] = rng.choice(same or values)
        case 6 if op.results:
            result = rng.choice(op.results)
            Rewriter.replace_value_with_new_type(result, other_attribute(result.type, rng))
        case 7 if op.operands:
            op.operands = op.operands[:-1]
        case _ if op.parent is not None:
            copy = op.clone()
            op.parent.insert_op_after(copy, op)


def drop(op: Operation, rng: random.Random) -> None:
    """Erase an operation; what it gave comes from another value of its block and type, where there is one."""
    block = op.parent
    assert block is not None
    values = [*block.args, *(result for other in block.ops if other is not op for result in other.results)]
    for result in op.results:
        same = [value for value in values if value.type == result.type]
        if same:
            result.replace_all_uses_with(rng.choice(same))
    if all(result.first_use is None for result in op.results):
        op.detach()
        op.erase()


def outcome(number: int, pipeline: str, seed: int) -> str:
    """What comes of a mutated module: `invalid`, `refused`, or `done`, and then it verifies and can be encoded."""
    rng = random.Random(seed)
    module = level(number, rng.choice(["classical", "modified"])).clone()
    for _ in range(rng.randint(1, 3)):
        mutate(module, rng)
    try:
        verify_module(module, "mutated")
    except DcomError as error:
        assert error.place, error
        return "invalid"
    try:
        run_passes(make_context(), module, make_passes(pipeline))
        verify_module(module, "mutated")
        make_program(module, MACHINE, Decomposition(()))
    except DcomError as error:
        assert "mistake of the pass" not in str(error), error
        return "refused"
    return "done"


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(number=st.integers(0, len(STAGES)), pipeline=st.sampled_from(PIPELINES), seed=st.integers(0, 2**32))
def test_a_mutated_module_is_refused_or_verifies(number: int, pipeline: str, seed: int) -> None:
    outcome(number, pipeline, seed)


def test_mutations_reach_every_outcome() -> None:
    """Otherwise the test above would say nothing."""
    outcomes = {outcome(number, STAGES[number % 4], seed) for number in range(9) for seed in range(4)}
    assert outcomes == {"invalid", "refused", "done"}
