"""A pass that leaves IR invalid, to see what is said of it."""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64
from xdsl.passes import ModulePass

from dialects.dcom import DecomposeOp


@dataclass(frozen=True)
class BreakIterations(ModulePass):
    """A pass with a mistake: more iterations than the matrix has rows."""

    name = "break-iterations"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for found in op.walk():
            if isinstance(found, DecomposeOp):
                found.properties["iterations"] = IntegerAttr(99, i64)
