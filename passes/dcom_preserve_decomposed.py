"""`dcom-preserve-decomposed`: what is linear in a factored activation acts on its factors (Eq. 5 to 7)."""

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Block
from xdsl.passes import ModulePass

from dcomc.diagnostics import DcomError
from dialects.dcom import ReconstructHeadsOp, ReconstructOp
from passes._preserve_chains import associate_chains
from passes._preserve_paths import Descent
from passes._preserve_steps import State
from passes._roofline import Roofline
from passes._stops import why_stopped
from runtime.machine import load_machine

STOPPED = "dcom.stopped"
"""The attribute of a reconstruction that says why it stands where it does."""


@dataclass(frozen=True)
class DcomPreserveDecomposedPass(ModulePass):
    """Move reconstruction down past what is linear, so that q, k and v share one decomposition, as far as it pays.

    V* = V W replaces (U core V) W, and a weight in factors gives a new core, (U core V) (U_W core_W V_W) = U (core (V
    U_W) core_W) V_W. A scaling of rows or channels, or by a constant, goes into U or V. A slice of channels, such as v
    of a projection that makes q, k and v at once, takes columns of V. A bias, exact channels, exact tokens and another
    factored activation become further tracks. Attention, softmax(P) V, acts on U, head by head; the heads' product
    with a weight is a sum of products of each head with its rows. A matmul that accumulates onto a tensor adds that
    tensor after reconstruction. A change of element type leaves the factors as they are: to float32 that is exact; to
    16 bits the tensor is rounded when it is reconstructed, once, and not between the operations before. Before:

        %approximation = dcom.reconstruct %factors : …
        %q = linalg.matmul {dcom.role = "q_proj"} ins(%approximation, %w : …) outs(%zero : …) -> …

    and after:

        %q_factors = dcom.matmul %factors, %w {dcom.role = "q_proj"} : …
        %q = dcom.reconstruct %q_factors {dcom.chosen = "9.6 Mflop, 28.3 Mflop dense",
            dcom.stopped = "an elementwise product with … (model.layers.10.self_attn (…:248))"} : …

    On each path of linear operations, the place of reconstruction is the one of least time by a roofline: of a host
    that does `balance` floating-point operations in the time of a byte, or of the D-com `machine`, in its cycles.
    Chains of products with weights are associated by the same. Each reconstruction that is left says in `dcom.chosen`
    what its place costs, and in `dcom.stopped` what reads it and why that needs the dense tensor.
    """

    name = "dcom-preserve-decomposed"

    balance: float = 16.0
    """Floating-point operations that the host does in the time of a byte; 0: traffic costs nothing."""
    machine: str | None = None
    """A D-com accelerator whose cycles count in the place of the host's time, by name or TOML file."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` where the balance is negative, or there is no such machine."""
        if self.balance < 0:
            raise DcomError(f"balance {self.balance:g} is negative", hint="0 counts floating-point operations only")
        model = Roofline.of_host(self.balance)
        if self.machine is not None:
            model = Roofline.of_machine(load_machine(self.machine))
        for function in op.ops:
            for region in function.regions:
                for block in region.blocks:
                    _move_down(block, model)


def _move_down(block: Block, model: Roofline) -> None:
    """Twice, since a sum of two factored values takes both only when each has come to it."""
    descent = Descent(model)
    for _ in range(2):
        for found in list(_reconstructions(block)):
            if isinstance(found, ReconstructOp) and found.parent is not None:
                descent.run(found.result, State.of(found))
    associate_chains(block, model)
    order = {op: position for position, op in enumerate(block.ops)}
    for left in _reconstructions(block):
        why = why_stopped(left, order, descent.refusals)
        left.attributes[STOPPED] = StringAttr(why or "nothing reads it")


def _reconstructions(block: Block) -> Iterator[ReconstructOp | ReconstructHeadsOp]:
    return (op for op in block.ops if isinstance(op, ReconstructOp | ReconstructHeadsOp))
