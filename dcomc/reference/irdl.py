"""The definition of a dialect in IRDL, by which mlir-opt and iree-opt parse and verify its generic syntax.

xDSL's own converter lets anything stand everywhere. What IRDL cannot say is left out: rules across operands, optional
attributes (those of IRDL must be there), and what a builtin type or attribute holds.
"""

from io import SEEK_END, StringIO

from xdsl.builder import Builder
from xdsl.dialects import irdl
from xdsl.dialects.builtin import ArrayAttr, StringAttr, SymbolRefAttr
from xdsl.ir import Block, Dialect, Operation, ParametrizedAttribute, Region, SSAValue
from xdsl.irdl import (
    AttrConstraint,
    IRDLOperation,
    OptionalDef,
    RangeConstraint,
    VariadicDef,
)
from xdsl.irdl.operations import OperandOrResultDef
from xdsl.printer import Printer
from xdsl.rewriter import InsertPoint

from dcomc.reference.constraints import Choice, choices

_HEAD = """\
// The {name} dialect for mlir-opt and iree-opt of {versions}, which then read what
// `dcomc opt --print-op-generic` prints: iree-opt --irdl-file=FILE.irdl FILE.mlir
// Written by `python -m dcomc.reference` from the definition of the dialect.
"""


class _PrinterWithoutNames(Printer):
    """Prints parameters, operands and results without names, as MLIR had them up to version 19."""

    def print_op(self, op: Operation) -> None:
        if not isinstance(op, irdl.ParametersOp | irdl.OperandsOp | irdl.ResultsOp):
            return super().print_op(op)
        self.print_string(op.name)
        with self.in_parens():
            kinds = [""] * len(op.args) if isinstance(op, irdl.ParametersOp) else _keywords(op.variadicity)
            self.print_list(zip(kinds, op.args, strict=True), self._print_value)

    def _print_value(self, item: tuple[str, SSAValue]) -> None:
        self.print_string(item[0])
        self.print_operand(item[1])


def _keywords(kinds: irdl.VariadicityArrayAttr) -> list[str]:
    return ["" if kind == irdl.VariadicityAttr.SINGLE else f"{kind.data} " for kind in kinds.value]


def dialect_definition(dialect: Dialect, *, named: bool = True) -> str:
    """The text of the `irdl.dialect` operation for `dialect`, with a comment before it.

    Args:
        named: parameters, operands and results have names; MLIR up to version 19 takes none.

    Raises:
        VerifyException: a type and an operation have the same name, which IRDL does not allow.
    """
    block = Block()
    for attribute in dialect.attributes:
        assert issubclass(attribute, ParametrizedAttribute)
        block.add_op(_type(attribute))
    for operation in dialect.operations:
        assert issubclass(operation, IRDLOperation)
        block.add_op(_operation(operation))
    definition = irdl.DialectOp(dialect.name, Region(block))
    definition.verify()
    stream = StringIO(_HEAD.format(name=dialect.name, versions="MLIR 20 and later" if named else "MLIR 19"))
    stream.seek(0, SEEK_END)
    (Printer if named else _PrinterWithoutNames)(stream).print_op(definition)
    return f"{stream.getvalue()}\n"


def _type(type_: type[ParametrizedAttribute]) -> irdl.TypeOp:
    definition = type_.get_irdl_definition()
    block = Block()
    values = [_constrain(block, name, parameter.constr) for name, parameter in definition.parameters]
    block.add_op(irdl.ParametersOp(values, ArrayAttr([StringAttr(name) for name, _ in definition.parameters])))
    return irdl.TypeOp(Dialect.split_name(definition.name)[1], Region(block))


def _operation(operation: type[IRDLOperation]) -> irdl.OperationOp:
    definition = operation.get_irdl_definition()
    block = Block()
    for part, make in ((definition.operands, irdl.OperandsOp), (definition.results, irdl.ResultsOp)):
        if part:
            values = [_constrain(block, name, value.constr) for name, value in part]
            kinds = irdl.VariadicityArrayAttr(ArrayAttr([_variadicity(value) for _, value in part]))
            block.add_op(make(values, kinds, ArrayAttr([StringAttr(name) for name, _ in part])))
    needed = {
        name: _constrain(block, name, attribute.constr)
        for name, attribute in (definition.properties | definition.attributes).items()
        if not isinstance(attribute, OptionalDef)
    }
    if needed:
        block.add_op(irdl.AttributesOp.get(needed))
    return irdl.OperationOp(Dialect.split_name(definition.name)[1], Region(block))


def _variadicity(value: OperandOrResultDef) -> irdl.VariadicityAttr:
    if isinstance(value, OptionalDef):
        return irdl.VariadicityAttr.OPTIONAL
    return irdl.VariadicityAttr.VARIADIC if isinstance(value, VariadicDef) else irdl.VariadicityAttr.SINGLE


def _constrain(block: Block, name: str, constraint: AttrConstraint | RangeConstraint) -> SSAValue:
    """The constraint as operations at the end of `block`, anew for each place: one value would mean the same twice."""
    builder = Builder(InsertPoint.at_end(block))
    values = [_choice(builder, choice) for choice in choices(constraint)]
    if not values:
        value = builder.insert(irdl.AnyOp()).output
    else:
        value = values[0] if len(values) == 1 else builder.insert(irdl.AnyOfOp(values)).output
    value.name_hint = name
    return value


def _choice(builder: Builder, choice: Choice) -> SSAValue:
    if choice.only is not None:
        return builder.insert(irdl.IsOp(choice.only)).output
    if "." in choice.name:
        dialect, name = Dialect.split_name(choice.name)
        return builder.insert(irdl.BaseOp(SymbolRefAttr(dialect, [name]))).output
    return builder.insert(irdl.BaseOp(f"{'!' if choice.is_type else '#'}builtin.{choice.name}")).output
