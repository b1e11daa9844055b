"""The weights that a layer's function takes: which globals they are, and how a function gets others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.arith import ExtFOp
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseResourceAttr,
    DictionaryAttr,
    FunctionType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
)
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.dialects.linalg.ops import GenericOp, MatmulOp, TransposeOp
from xdsl.dialects.ml_program import GlobalLoadConstantOp, GlobalOp
from xdsl.ir import Block, BlockArgument, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from dcomc.diagnostics import DcomError
from dcomc.ir import place_of
from dialects.dcom import Element
from passes._sites import NOT_TRACED, converts

WEIGHT = "dcom.weight"
"""The attribute of a layer function's parameter that says which of the layer's weights it is."""


@dataclass(frozen=True)
class Globals:
    """The weights of a module."""

    by_name: dict[str, GlobalOp]
    loads: Counter[str]
    """How often each is loaded."""

    @staticmethod
    def of(module: ModuleOp) -> "Globals":
        """Find them."""
        loads = (op.global_attr.string_value() for op in module.walk() if isinstance(op, GlobalLoadConstantOp))
        return Globals({op.sym_name.data: op for op in module.ops if isinstance(op, GlobalOp)}, Counter(loads))

    def add(self, name: str, type_: TensorType[Element], like: str) -> None:
        """A global without data, before the global `like`.

        Raises:
            DcomError: the module has one of that name.
        """
        if name in self.by_name:
            what = f"the module already has a weight '{name}'"
            raise DcomError(what, hint="decompose a weight once", place=place_of(self.by_name[name].location))
        data = DenseResourceAttr.from_params(name, type_)
        added = GlobalOp(StringAttr(name), type_, None, data, StringAttr("private"))
        added.location = self.by_name[like].location
        Rewriter.insert_op(added, InsertPoint.before(self.by_name[like]))
        self.by_name[name] = added

    def load(self, name: str, point: InsertPoint) -> SSAValue:
        """The value of a global, loaded at `point`."""
        found = self.by_name[name]
        op = GlobalLoadConstantOp(SymbolRefAttr(name), found.type)
        op.location = found.location
        op.result.name_hint = name.replace(".", "_")
        Rewriter.insert_op(op, point)
        self.loads[name] += 1
        return op.result

    def drop(self, load: GlobalLoadConstantOp) -> None:
        """Erase a load that nothing reads, and its global where that was the last."""
        name = load.global_attr.string_value()
        Rewriter.erase_op(load)
        self.loads[name] -= 1
        if not self.loads[name]:
            Rewriter.erase_op(self.by_name.pop(name))


@dataclass(frozen=True)
class Weight:
    """A weight as matmuls of a layer read it."""

    name: str
    """The symbol of its global, which is its name in the checkpoint."""
    value: SSAValue[TensorType[Element]]
    """[H, N]"""
    transposition: TransposeOp
    """What makes it of the parameter, or of that in float32, where the model computes in half precision."""
    parameter: BlockArgument
    """[N, H], as checkpoints have it; its element type may be narrower than that of `value`."""


class Parameters:
    """The parameters of a layer's function, and what its calls bind to them.

    Parameters that are added or dropped change function and calls once, in `finish`.
    """

    def __init__(self, function: FuncOp, calls: Sequence[CallOp], globals_: Globals) -> None:
        self.function = function
        self.calls = calls
        self.globals = globals_
        known = function.arg_attrs
        self._attributes = list(known) if known else [DictionaryAttr({}) for _ in function.body.block.args]
        self._dropped: set[BlockArgument] = set()
        self._added: list[tuple[BlockArgument, StringAttr]] = []
        self._loads: list[list[SSAValue]] = [[] for _ in calls]

    def weight_of(self, matmul: MatmulOp) -> Weight:
        """The weight of a matmul.

        Raises:
            DcomError: it is not of float16 or float32, or not a parameter to which the calls bind one global.
        """
        value = matmul.inputs[1]
        transposition = value.owner
        role = matmul.attributes.get("dcom.role")
        what, place = f"the weight of {role} in @{self.function.sym_name.data}", place_of(matmul.location)
        if not isa(value, SSAValue[TensorType[Element]]):
            raise DcomError(f"{what} is {value.type}", hint="trace with --dtype f32 or f16", place=place)
        parameter = _unwidened(transposition.operands[0]) if isinstance(transposition, TransposeOp) else None
        if not isinstance(parameter, BlockArgument) or parameter.block is not self.function.body.block:
            raise DcomError(f"{what} is no transposed parameter", hint=NOT_TRACED, place=place)
        assert isinstance(transposition, TransposeOp)
        loads = [call.arguments[parameter.index].owner for call in self.calls]
        names = {load.global_attr.string_value() for load in loads if isinstance(load, GlobalLoadConstantOp)}
        if len(names) != 1 or not all(isinstance(load, GlobalLoadConstantOp) for load in loads):
            raise DcomError(f"{what} is not one weight of the model", hint=NOT_TRACED, place=place)
        return Weight(names.pop(), value, transposition, parameter)

    def add(self, name: str, type_: TensorType[Element], like: Weight) -> BlockArgument:
        """What stands for a new last parameter, bound to a new global; named and placed like another weight."""
        self.globals.add(name, type_, like.name)
        known = self._attributes[like.parameter.index].data.get(WEIGHT)
        prefix = like.name.removesuffix(known.data) if isinstance(known, StringAttr) else ""
        local = name.removeprefix(prefix)
        (added,) = Block(arg_types=[type_]).args
        added.location, added.name_hint = like.parameter.location, local.replace(".", "_")
        self._added.append((added, StringAttr(local)))
        for call, loads in zip(self.calls, self._loads, strict=True):
            loads.append(self.globals.load(name, InsertPoint.before(call)))
        return added

    def drop(self, weight: Weight) -> None:
        """Remove a parameter that nothing reads, and its weight from the module where no other layer has it."""
        self._dropped.add(weight.parameter)

    def finish(self) -> None:
        """Give the function a block with the parameters that are kept and those that were added, and calls to match."""
        old = self.function.body.block
        kept = [argument for argument in old.args if argument not in self._dropped]
        values = [*kept, *(argument for argument, _ in self._added)]
        attributes = [
            *(self._attributes[argument.index] for argument in kept),
            *(DictionaryAttr({WEIGHT: local}) for _, local in self._added),
        ]
        block = Block(arg_types=[value.type for value in values])
        for value, argument in zip(values, block.args, strict=True):
            argument.location, argument.name_hint = value.location, value.name_hint
            value.replace_all_uses_with(argument)
        for call, loads in zip(self.calls, self._loads, strict=True):
            bound = list(call.operands)
            call.operands = [*(bound[argument.index] for argument in kept), *loads]
            for load in (bound[argument.index].owner for argument in self._dropped):
                if isinstance(load, GlobalLoadConstantOp) and load.result.first_use is None:
                    self.globals.drop(load)
        Rewriter.inline_block(old, InsertPoint.at_end(block))
        self.function.body.add_block(block)
        outputs = self.function.function_type.outputs.data
        self.function.properties["function_type"] = FunctionType.from_lists(block.arg_types, outputs)
        self.function.properties["arg_attrs"] = ArrayAttr(attributes)


def _unwidened(value: SSAValue) -> SSAValue:
    """What the tracer made `value` of, where that is the same in a wider element type; or else `value` itself."""
    op = value.owner
    if isinstance(op, GenericOp) and converts(op) and isinstance(op.body.block.first_op, ExtFOp):
        return op.operands[0]
    return value
