"""Verifying a module again and again while passes change it."""

from collections.abc import Mapping
from dataclasses import replace

from xdsl.dialects.builtin import FunctionType, ModuleOp, SymbolRefAttr
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.ir import Attribute, ErasedSSAValue, Operation, SSAValue
from xdsl.irdl import traits_def
from xdsl.utils.exceptions import VerifyException

Print = tuple[object, ...]

MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
"""What xDSL raises, in place of an error of its own, for text or operations that it did not expect to be so wrong."""


class Verifier:
    """Verifies after each pass what that pass has changed: functions and kernels that are as they were are left out.

    A pass commonly changes few of them, and verifying takes xDSL ten times as long as most passes do. What holds
    between functions (a call and its callee) is seen where the caller has changed: verify the whole module in the end.
    """

    def __init__(self) -> None:
        self._valid: dict[Operation, Print] = {}

    def verify_changes(self, module: ModuleOp) -> None:
        """Verify what differs from the module as it was last; raises `VerifyException`."""
        valid: dict[Operation, Print] = {}
        functions = _functions(module)
        for op in module.body.block.ops:
            valid[op] = _fingerprint(op)
            if self._valid.get(op) != valid[op]:
                _verify(op, functions)
        module.verify(verify_nested_ops=False)
        self._valid = valid


def _fingerprint(root: Operation) -> Print:
    """All that an operation and those inside it are made of. Equality is quick where little was replaced."""
    parts: list[object] = []
    for op in root.walk():
        parts += (op, op.parent, *op.operands, *op.successors, len(op.results))
        parts += [value.type for value in (*op.operands, *op.results)]
        parts += (*op.attributes, *op.attributes.values(), *op.properties, *op.properties.values())
        for region in op.regions:
            for block in region.blocks:
                parts += (block, *(argument.type for argument in block.args))
    return tuple(parts)


def verify(module: ModuleOp) -> None:
    """Do what `module.verify()` does, in a time that is linear in its operations; raises `VerifyException`."""
    _verify(module, _functions(module))


Functions = Mapping[Attribute | None, FuncOp]
"""The functions of a module by name."""

_CALL = replace(CallOp.get_irdl_definition(), traits=traits_def())
"""What a call is made of, without the trait that searches the module for its callee, past the weights of all layers."""


def _functions(module: ModuleOp) -> Functions:
    operations = (op for block in module.body.blocks for op in block.ops)
    return {op.properties.get("sym_name"): op for op in operations if isinstance(op, FuncOp)}


def _verify(root: Operation, functions: Functions) -> None:
    """Verify an operation and those inside it, innermost first."""
    for op in root.walk(region_first=True):
        for block in (block for region in op.regions for block in region.blocks if block.first_op is None):
            block.verify()
        if isinstance(op, CallOp) and _calls_one_of(functions, op):
            _CALL.verify(op)
        else:
            op.verify(verify_nested_ops=False)


def _calls_one_of(functions: Functions, op: CallOp) -> bool:
    """Whether all is well with a call but for what its definition says. If not, `op.verify()` has the message."""
    name, caller = op.properties.get("callee"), op.parent_op()
    callee = functions.get(name.root_reference) if isinstance(name, SymbolRefAttr) else None
    return (
        callee is not None
        and caller is not None
        and caller.parent is callee.parent
        and callee.properties.get("function_type") == FunctionType.from_lists(op.operand_types, op.result_types)
        and op.next_op is not None
        and not any(isinstance(operand, ErasedSSAValue) for operand in op.operands)
    )


def early_use(op: Operation, visible: set[SSAValue] | None = None) -> Operation | None:
    """The first operation inside `op` that uses a value before it is made, or where it cannot be seen.

    xDSL's verifier does not look for that. In a region of several blocks, whose order is that of control, any block may
    use what another makes.

    Args:
        visible: values made outside `op` that may be used inside.
    """
    visible = set() if visible is None else visible
    for region in op.regions:
        made: list[SSAValue] = [argument for block in region.blocks for argument in block.args]
        if len(region.blocks) > 1:
            made += [result for block in region.blocks for inner in block.ops for result in inner.results]
        visible.update(made)
        for inner in (inner for block in region.blocks for inner in block.ops):
            if not visible.issuperset(inner.operands):
                return inner
            found = early_use(inner, visible) if inner.regions else None
            if found is not None:
                return found
            visible.update(inner.results)
            made += inner.results
        visible.difference_update(made)
    return None


def invalid_operation(module: ModuleOp) -> tuple[Operation, str] | None:
    """The first operation, innermost first, that does not verify, and the message; None where all do by themselves."""
    for op in module.walk(region_first=True):
        try:
            op.verify(verify_nested_ops=False)
        except VerifyException as error:
            return op, verifier_message(error)
        except MALFORMED as error:
            return op, f"{op.name} is malformed: {verifier_message(error)}"
    return None


def verifier_message(error: Exception) -> str:
    """The message of a verifier on one line: xDSL appends or prepends the printed operation, which is no help there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    messages = [line for line in lines if "verification failed:" in line.lower()]
    if messages:
        return messages[-1].rsplit("verification failed:", 1)[1].strip() or lines[0]
    return lines[-1] if lines else type(error).__name__
