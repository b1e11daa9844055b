"""The factors of a program's weights: found when it is compiled, stored beside it, and checked when it runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.dialects.ml_program import GlobalOp
from xdsl.utils.hints import isa

from dcomc.diagnostics import DcomError
from dcomc.statistics import Statistics
from dcomc.weights import Array, SafetensorsWeights, weights_digest, write_safetensors
from dialects.dcom import Element, WeightOp
from runtime.executor_block import element_dtype
from runtime.weight_factors import Factors, truncated, tucker2, whitened

FORMAT = "dcomc weights 1"
DIGEST = "dcom.factors"
"""The module's attribute that says which factors are its own: their SHA-256."""

_AGAIN = "compile again, with --model and --weight-rank"


@dataclass(frozen=True)
class Stack:
    """Weights that are decomposed together: one, or those that share U and V."""

    names: tuple[str, ...]
    """In the order of the program; U and V are named after one of them."""
    shared: str
    """The one that U and V are named after."""
    layer: int
    site: str
    method: str
    rank: int


def find_stacks(module: ModuleOp) -> list[Stack]:
    """The weights that a module has in factors, in the order of its layers' functions.

    Raises:
        DcomError: factors that are no globals of the module.
    """
    known = {op.sym_name.data for op in module.ops if isinstance(op, GlobalOp)}
    stacks: list[Stack] = []
    for function in module.ops:
        groups: dict[object, list[WeightOp]] = {}
        for op in function.walk() if isinstance(function, FuncOp) else ():
            if isinstance(op, WeightOp):
                groups.setdefault((op.u, op.v), []).append(op)
        for group in groups.values():
            first, names = group[0], tuple(op.of.data for op in group)
            shared = next((name for name in names if f"{name}.u" in known and f"{name}.v" in known), None)
            if shared is None or not all(f"{name}.core" in known for name in names):
                raise DcomError(f"the module has no factors of '{names[0]}'", hint="run dcom-decompose-weights")
            rank = first.weight.type.ranks[0]
            stacks.append(Stack(names, shared, first.layer.value.data, first.site.data, first.method.data, rank))
    return stacks


def compute_factors(
    module: ModuleOp,
    weights: Mapping[str, Array],
    statistics: Statistics | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Array]:
    """The factors of every weight that a module has in factors, by the names and in the element types of its globals.

    The module is marked as the one that they belong to.

    Args:
        module: after `dcom-decompose-weights`.
        weights: of the model, [N, H] by the checkpoint's names.
        statistics: for the method `whitened`.
        progress: called with a line before each stack of weights.

    Raises:
        DcomError: a weight that the model lacks or has in another shape, or that is not finite; missing statistics.
    """
    types = {op.sym_name.data: op.type for op in module.ops if isinstance(op, GlobalOp)}
    stacks = find_stacks(module)
    found: dict[str, Array] = {}
    for number, stack in enumerate(stacks):
        progress(f"weights {number + 1}/{len(stacks)}: {', '.join(stack.names)}")
        shape = tuple(_shape(types[f"{stack.shared}.{part}"])[axis] for part, axis in (("u", 0), ("v", 1)))
        matrices = [_matrix(weights, name, shape) for name in stack.names]
        for name, factors in zip(stack.names, _factors(stack, matrices, statistics), strict=True):
            found[f"{name}.core"] = factors.core
            if name == stack.shared:
                found |= {f"{name}.u": factors.u, f"{name}.v": factors.v}
    typed = {name: factor.astype(element_dtype(types[name], module)) for name, factor in found.items()}
    if typed:
        module.attributes[DIGEST] = StringAttr(weights_digest(typed))
    return typed


def write_factors(path: Path, factors: Mapping[str, Array]) -> None:
    """Write factors whole or not at all; raises `DcomError` where that fails."""
    write_safetensors(path, factors, {"format": FORMAT, "sha256": weights_digest(factors)})


def check_factors(module: ModuleOp, factors: Mapping[str, Array] | Path | None) -> Mapping[str, Array]:
    """The factors of a program's weights, once it is certain that they are its own; none where it has no such weights.

    Args:
        module: the program's model.
        factors: as `compute_factors` gave them, or a file of them.

    Raises:
        DcomError: they are missing, damaged, or another program's.
    """
    digest = module.attributes.get(DIGEST)
    if not any(isinstance(op, WeightOp) for op in module.walk()):
        return {}
    if not isinstance(digest, StringAttr):
        raise DcomError("the program has weights in factors that were never computed", hint=_AGAIN)
    place = None
    if isinstance(factors, Path):
        place = str(factors)
        factors = SafetensorsWeights(factors, hint=f"it belongs beside the program; or {_AGAIN}")
        if factors.metadata.get("format") != FORMAT:
            raise DcomError("the file holds no factors of weights", hint=_AGAIN, place=place)
        if factors.metadata.get("sha256") != digest.data:
            raise DcomError("the factors belong to another program", hint=_AGAIN, place=place)
    if factors is None or weights_digest(factors) != digest.data:
        what = "the program's weights in factors are missing" if factors is None else "the factors are damaged"
        raise DcomError(what, hint=_AGAIN, place=place)
    return factors


def _factors(stack: Stack, matrices: Sequence[Array], statistics: Statistics | None) -> list[Factors]:
    match stack.method:
        case "tucker2":
            return tucker2(matrices, stack.rank)
        case "whitened":
            if statistics is None:
                raise DcomError("no statistics given", hint="method whitened needs a file made by `dcomc statistics`")
            moments = (statistics.for_weight(stack.layer, stack.site, matrix.T) for matrix in matrices)
            return [whitened(matrix, stack.rank, moment) for matrix, moment in zip(matrices, moments, strict=True)]
        case _:
            return [truncated(matrix, stack.rank) for matrix in matrices]


def _matrix(weights: Mapping[str, Array], name: str, shape: Sequence[int]) -> Array:
    """A weight [H, N] as the program multiplies by it."""
    if name not in weights:
        raise DcomError(f"the model has no weight '{name}', which the program uses", hint="give the model traced")
    matrix = weights[name].T
    if matrix.shape != tuple(shape):
        what = f"weight '{name}' has shape {list(matrix.T.shape)}, but the program wants {list(shape)[::-1]}"
        raise DcomError(what, hint="give the model that was traced")
    if not np.isfinite(matrix).all():
        raise DcomError(f"NaN or infinity in weight '{name}'", hint="copy the checkpoint again")
    return matrix


def _shape(type_: object) -> tuple[int, ...]:
    assert isa(type_, TensorType[Element])
    return type_.get_shape()
