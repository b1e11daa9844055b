"""The kernels of one function: what each of its operations becomes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

from xdsl.dialects import arith, func, ml_program, tensor
from xdsl.dialects.builtin import IntegerAttr, NameLoc, StringAttr
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Operation, SSAValue
from xdsl.utils.hints import isa

from dcomc.costs import bytes_of, work_of
from dcomc.gpu_model import Kernel, Kind, LanczosWork
from dcomc.host_values import Known, Values, rows_of, shape_of, width_of
from dialects import dcom
from dialects.dcom import OutliersType
from dialects.dcom_tracks import ConcatOp, SliceOp, SplitHeadsOp
from passes._sites import ROLES
from runtime.executor_attention import CausalAttention, find_attention

_ROW_SITES = ("o", "down")
_VIEWS: tuple[type[Operation], ...] = (
    tensor.CollapseShapeOp,
    tensor.ExpandShapeOp,
    tensor.ExtractSliceOp,
    tensor.InsertSliceOp,
    tensor.ReshapeOp,
    tensor.CastOp,
    linalg.TransposeOp,
    SplitHeadsOp,
    SliceOp,
    ConcatOp,
)
_CASTS = (arith.ExtFOp, arith.TruncFOp, linalg.YieldOp)
_SITES = {role: site for site, roles in ROLES.items() for role in roles}


@dataclass(frozen=True)
class Step:
    """A kernel of a layer, or of what stands around the layers (None)."""

    layer: int | None
    kernel: Kernel


class Walker(Protocol):
    """What makes the bodies of a module's functions, each once."""

    fused: bool
    """Whether an attention is one kernel."""
    dense: str | None
    """The function that every layer calls, whatever the module says."""

    def body(self, name: str) -> "Body": ...


class Body:
    """The kernels of one function; a need of -1 - n is argument n."""

    def __init__(self, function: func.FuncOp, walker: Walker) -> None:
        self.steps: list[Step] = []
        self.result: frozenset[int] = frozenset()
        self._walker = walker
        self._values = Values(function)
        self._open: dict[int, Operation] = {}
        """Elementwise kernels that may still take in what reads them, with their last operation."""
        self._joined: dict[tuple[SSAValue, str], int] = {}
        """Products of a site by their input."""
        operations = list(function.body.block.ops)
        attentions = find_attention(operations)
        inner = frozenset(op for attention in attentions.values() for op in attention.absorbed)
        for op in operations:
            if op in attentions:
                self._attention(attentions[op])
            elif isinstance(op, func.ReturnOp):
                self.result = self._values.join(op.operands).needs
            elif op not in inner:
                self._operation(op)
        self._drop_taken()

    def _drop_taken(self) -> None:
        """Leave out the kernels that others took in, and number the rest."""
        kept = [n for n, step in enumerate(self.steps) if step.kernel.name]
        number = {old: new for new, old in enumerate(kept)}

        def renamed(needs: Iterable[int]) -> frozenset[int]:
            return frozenset(number.get(n, n) for n in needs)

        steps = [self.steps[n] for n in kept]
        self.steps = [replace(s, kernel=replace(s.kernel, needs=tuple(sorted(renamed(s.kernel.needs))))) for s in steps]
        self.result = renamed(self.result)

    def _operation(self, op: Operation) -> None:
        match op:
            case ml_program.GlobalLoadConstantOp():
                self._values.made(op.results, Known(weight=True))
            case dcom.WeightOp():  # its factors, side by side
                self._values.made(op.results, Known(self._values.join(op.operands).needs, weight=True))
            case func.CallOp():
                self._call(op)
            case linalg.MatmulOp():
                self._projection(op, rows_of(op.results[0].type))
            case dcom.MatmulOp():
                self._projection(op, op.result.type.blocks[0] * op.result.type.core_shape[1])
            case dcom.DecomposeOp():
                self._decompose(op)
            case dcom.OutlierMatmulOp() | dcom.TokenMatmulOp() | dcom.ExactTrackOp():
                self._exact_track(op)
            case linalg.GenericOp():
                self._generic(op)
            case dcom.OutlierSplitOp() | dcom.TokenSplitOp():
                self._add(op, self._kernel(op, "split", "stream"), site=op.site.data)
            case dcom.ReconstructHeadsOp():  # of heads that the GPUs share, whose parts are summed
                kernel = self._kernel(op, "reconstruct_heads", "gemm")
                self._add(op, kernel)
                if kernel.shard == "both":
                    total = replace(kernel, name=f"{kernel.name} all-reduce", kind="all_reduce", shard="none")
                    self._collective(op.results, total)
            case tensor.InsertSliceOp() | ConcatOp():
                self._values.made(op.results, self._values.join(op.operands))
            case _ if isinstance(op, _VIEWS):
                self._values.view(op.results, self._values.join(op.operands))
            case _ if op.name.startswith("dcom."):
                self._add(op, self._kernel(op, op.name.removeprefix("dcom."), "gemm"))
            case _:
                pass  # constants, fills and empty tensors are part of what uses them

    def _call(self, op: func.CallOp) -> None:
        """The kernels of a layer in the place of its call."""
        number = op.attributes.get("dcom.layer")
        layer = number.value.data if isa(number, IntegerAttr) else None
        name = self._walker.dense if layer is not None and self._walker.dense else op.callee.root_reference.data
        body, base = self._walker.body(name), len(self.steps)

        def outside(needs: Iterable[int]) -> frozenset[int]:
            arguments = self._values.join(op.arguments[-1 - n] for n in needs if n < 0)
            return arguments.needs.union(n + base for n in needs if n >= 0)

        for step in body.steps:
            self.steps.append(Step(layer, replace(step.kernel, needs=tuple(sorted(outside(step.kernel.needs))))))
        self._values.made(op.results, Known(outside(body.result)))

    def _projection(self, op: linalg.MatmulOp | dcom.MatmulOp, rows: int) -> None:
        """x W or V W: cut by the columns of W; or by its rows, and then summed over the GPUs."""
        role = op.attributes.get("dcom.role")
        name = role.data if isinstance(role, StringAttr) else "matmul"
        site = _SITES.get(name, "")
        kernel = replace(self._kernel(op, name, "gemm"), rows=rows, site=site)
        if isinstance(op, dcom.MatmulOp):  # which reads V, and writes V*
            depth, each = (
                op.input.type.dimensions[2],
                min(self._values.element_bytes, bytes_of(op.input.type.element_type)),
            )
            kernel = replace(kernel, input_bytes=rows * depth * each, output_bytes=rows * kernel.width * each)
        by_rows = site in _ROW_SITES
        joined = self._joined.get((op.operands[0], site)) if site else None
        if joined is not None:  # q, k and v, or gate and up: one product, with their weights side by side
            self._widen(op, joined, kernel)
            return
        self._joined[op.operands[0], site] = len(self.steps)
        self._add(op, replace(kernel, shard="row" if by_rows else "column"), sharded=not by_rows)
        if by_rows:
            self._collective(op.results, Kernel(f"{name} all-reduce", "all_reduce", output_bytes=kernel.output_bytes))

    def _widen(self, op: Operation, index: int, more: Kernel) -> None:
        """Let the product of an index also do what another does with the same input."""
        first = self.steps[index].kernel
        wider = replace(
            first,
            name=f"{first.name}, {more.name}",
            flops=first.flops + more.flops,
            weight_bytes=first.weight_bytes + more.weight_bytes,
            output_bytes=first.output_bytes + more.output_bytes,
            width=first.width + more.width,
        )
        self.steps[index] = Step(None, wider)
        known = Known(frozenset({index}), sharded=first.shard == "column", site=self._site_of(op, first))
        self._values.made(op.results, known)

    def _exact_track(self, op: dcom.OutlierMatmulOp | dcom.TokenMatmulOp | dcom.ExactTrackOp) -> None:
        """Exact channels or tokens times their rows of W: a track beside the low-rank one, or added to what that gives.

        Where the channels lie on different GPUs, each of them first gets all, and their rows of W.
        """
        joins = isinstance(op, dcom.ExactTrackOp)
        kernel, type_ = self._kernel(op, op.name.removeprefix("dcom."), "stream" if joins else "gemm"), op.input.type
        if isinstance(type_, OutliersType):  # which reads only some rows of W, others for each prompt
            rows = type_.dimensions[0] * type_.capacity.data
            width = shape_of(op.weight.type)[1]
            kernel = replace(kernel, chosen_bytes=rows * width * self._values.element_bytes)
        if not joins:
            kernel = replace(kernel, input_bytes=kernel.input_bytes + kernel.output_bytes, accumulates=True)
        if kernel.site not in _ROW_SITES:
            self._add(op, replace(kernel, shard="column"), sharded=True, track=not joins)
            return
        gather = replace(
            Kernel(f"{kernel.name} all-gather", "all_gather", output_bytes=self._values.bytes(type_)),
            weight_bytes=kernel.weight_bytes,
            chosen_bytes=kernel.chosen_bytes,
            site=kernel.site,
        )
        self._collective([op.input], gather)
        needs = self._values.join(op.operands).sorted_needs
        self._add(op, replace(kernel, shard="none", needs=needs), sharded=False, track=not joins)

    def _decompose(self, op: dcom.DecomposeOp) -> None:
        matrices, rows, cols = op.factors.type.blocks
        work = LanczosWork(
            matrices,
            rows,
            cols,
            op.iterations.value.data,
            op.factors.type.rank.data,
            op.reorthogonalisation.value.data,
            "modified" if op.modified else "classical",
        )
        kernel = replace(self._kernel(op, "decompose", "decompose"), decomposition=work, site=op.site.data)
        self._add(op, kernel)

    def _attention(self, found: CausalAttention) -> None:
        """softmax(q k^T) v for the tokens before each: one kernel; or two products and a softmax through memory.

        Where v is in factors, the second product takes its U.
        """
        op, operands = found.mixed, found.operands
        *batch, tokens, width = shape_of(operands[0].type)
        mixed = op.input.type.rank.data if isinstance(op, dcom.LeftMatmulOp) else width
        scores = prod(batch) * tokens * tokens
        q, k, v = (self._values.reads([value], weights=False) for value in operands)
        out, of_scores, rows = (
            self._values.bytes(op.results[0].type),
            scores * self._values.element_bytes,
            prod(batch) * tokens,
        )
        joined = self._values.join(operands)
        if self._walker.fused:
            # Of both products, half: what the causal mask leaves.
            chain = [Kernel("attention", "attention", scores * (width + mixed), q + k + v, 0, out, cached_bytes=k + v)]
        else:
            chain = [
                Kernel("q k^T", "gemm", 2 * scores * width, q + k, 0, of_scores, rows, tokens, cached_bytes=k + v),
                Kernel("softmax", "stream", 0, of_scores, 0, of_scores),
                Kernel("softmax v", "gemm", 2 * scores * mixed, of_scores + v, 0, out, rows, mixed),
            ]
        for kernel in chain:
            self._add(op, replace(kernel, shard="both", needs=joined.sorted_needs), sharded=joined.sharded)
            joined = self._values[op.results[0]]

    def _generic(self, op: linalg.GenericOp) -> None:
        """Elementwise work and reductions: one kernel with what made its inputs, where nothing else reads that."""
        inputs = [value for value in op.inputs if value in self._values]
        known = [self._values[value] for value in inputs]
        casts = len(inputs) == 1 and all(isinstance(inner, _CASTS) for inner in op.body.block.ops)
        if casts:
            self._values.view(op.results, self._values.join(inputs))
            return
        if any(one.track for one in known):
            self._values.view(op.results, replace(self._values.join(inputs), site="", track=False))
            return
        kernel = self._kernel(op, _name(op), "gemm" if _contracts(op) else "stream")
        taken = [n for n, last in self._open.items() if self._may_take(n, last, op, inputs)]
        for n in taken:
            other, last = self.steps[n].kernel, self._open.pop(n)
            hidden = 0 if last.results[0] not in op.operands else self._values.bytes(last.results[0].type)
            shared = sum(
                self._values.bytes(r.type) for r in self._values.roots(last.operands) & self._values.roots(inputs)
            )
            kernel = replace(
                kernel,
                flops=kernel.flops + other.flops,
                input_bytes=kernel.input_bytes + other.input_bytes - hidden - shared,
                output_bytes=kernel.output_bytes + other.output_bytes - hidden,
                needs=tuple(sorted({*kernel.needs, *other.needs} - {n})),
            )
            self.steps[n] = Step(None, Kernel("", "stream"))
        self._add(op, kernel, sharded=any(one.sharded for one in known))
        if kernel.kind == "stream":
            self._open[len(self.steps) - 1] = op
        for n in taken:  # what else such a kernel made comes from this one now
            self._values.rename(n, len(self.steps) - 1)

    def _may_take(self, n: int, last: Operation, op: Operation, inputs: Sequence[SSAValue]) -> bool:
        """Whether `op` alone reads what an elementwise kernel made, or reads just what it read."""
        readers = {use.operation for use in last.results[0].uses}
        before = [value for value in last.operands if value in self._values]
        return readers == {op} or (not readers & {op} and self._values.roots(before) == self._values.roots(inputs))

    def _kernel(self, op: Operation, name: str, kind: Kind) -> Kernel:
        """A kernel that does the work of an operation, cut over GPUs where its input is."""
        joined = self._values.join(op.operands)
        return Kernel(
            name,
            kind,
            work_of(op).flops,
            self._values.reads(op.operands, weights=False),
            self._values.reads(op.operands, weights=True),
            sum(map(self._values.bytes, op.result_types)),
            rows_of(op.results[0].type),
            width_of(op.results[0].type),
            "both" if joined.sharded else "none",
            joined.site,
            joined.sorted_needs,
        )

    def _add(
        self, op: Operation, kernel: Kernel, *, sharded: bool | None = None, site: str = "", track: bool = False
    ) -> None:
        """Append a kernel that makes the results of `op`."""
        made = replace(kernel, site=site or kernel.site)
        self.steps.append(Step(None, made))
        parts = kernel.shard == "both" if sharded is None else sharded
        known = Known(frozenset({len(self.steps) - 1}), sharded=parts, site=self._site_of(op, made), track=track)
        self._values.made(op.results, known)

    @staticmethod
    def _site_of(op: Operation, kernel: Kernel) -> str:
        """The site that results still belong to: while they are factors or tracks of it."""
        return kernel.site if op.name.startswith("dcom.") and not isinstance(op, dcom.ReconstructOp) else ""

    def _collective(self, values: Iterable[SSAValue], kernel: Kernel) -> None:
        """Append an exchange between the GPUs, after which each of them has these values."""
        for value in values:
            known = self._values[value]
            self.steps.append(Step(None, replace(kernel, needs=known.sorted_needs, site=known.site or kernel.site)))
            self._values.view([value], replace(known, needs=frozenset({len(self.steps) - 1}), sharded=False))


def _contracts(op: linalg.GenericOp) -> bool:
    """Whether a generic sums products of two tensors."""
    reduces = any(kind.data is IteratorType.REDUCTION for kind in op.iterator_types.data)
    return reduces and len(op.inputs) > 1


def _name(op: Operation) -> str:
    """What an elementwise operation is called: its result's name, or the module of the model that it comes from."""
    hint = op.results[0].name_hint
    if hint is not None:
        return hint.rstrip("_0123456789")
    return op.location.desc.data.rpartition(".")[2] if isinstance(op.location, NameLoc) else "elementwise"
