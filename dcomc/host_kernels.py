"""The kernels that a host runs for a module: what a GPU's libraries make of the operations, with their dependences.

Views, and changes of element type, cost nothing of their own; a chain of elementwise operations is one kernel;
attention is one kernel or three; the projections that read one input are one matrix product, cut over GPUs by columns
(q, k, v, gate, up) or by the rows that are summed (o, down), which needs an all-reduce; a sum of low-rank and exact
tracks is accumulated by the product of the last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from xdsl.dialects import arith, func, ml_program, tensor
from xdsl.dialects.builtin import AnyFloat, IntegerAttr, ModuleOp, NameLoc, StringAttr, TensorType
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from dcomc.costs import bytes_of, work_of
from dcomc.diagnostics import DcomError
from dcomc.gpu_model import Decomposition, Kernel, Kind
from dialects import dcom
from dialects.dcom import FactoredType, OutliersType, TokensType, WeightType
from dialects.dcom_tracks import ConcatOp, SplitHeadsOp
from passes._sites import FUSED, NOT_TRACED, SITES, Layers
from runtime.executor_arrays import NumpyArrays, Value
from runtime.executor_attention import find_attention

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
    ConcatOp,
)
_CASTS = (arith.ExtFOp, arith.TruncFOp, linalg.YieldOp)
_ROLES = {role: site for site, roles in SITES.items() for role in (*roles, FUSED.get(site)) if role}


@dataclass(frozen=True)
class Step:
    """A kernel of a layer, or of what stands around the layers (None)."""

    layer: int | None
    kernel: Kernel


@dataclass(frozen=True)
class _Known:
    """What is known of a value: whose results it needs, what it is a view of, and how it lies."""

    needs: frozenset[int] = frozenset()
    """Kernels by index; -1 - n is argument n of the function."""
    root: SSAValue | None = None
    sharded: bool = False
    """Whether each GPU holds a part of it."""
    weight: bool = False
    site: str = ""
    track: bool = False
    """Whether it is the product of an exact track, which accumulates what it is added to."""

    @property
    def sorted_needs(self) -> tuple[int, ...]:
        return tuple(sorted(self.needs))


def layer_kernels(module: ModuleOp, layer: int, *, fused_attention: bool = True) -> tuple[Kernel, ...]:
    """The kernels of one layer; its input and other arguments need nothing.

    Raises:
        DcomError: the module has no such layer.
    """
    layers = Layers.of(module)
    layers.check([layer])
    body = _Walker(layers.functions, fused_attention).body(layers.calls[layer][0].callee.root_reference.data)
    return tuple(replace(s.kernel, needs=tuple(n for n in s.kernel.needs if n >= 0)) for s in body.steps)


def module_steps(module: ModuleOp, *, fused_attention: bool = True, dense: bool = False) -> tuple[Step, ...]:
    """All kernels of a model in their order, with their dependences over the whole of it.

    Args:
        fused_attention: one kernel an attention, or its two products and softmax.
        dense: let every layer be like the first that decomposes nothing.

    Raises:
        DcomError: the module is not of a traced model; or no layer is dense where one is wanted.
    """
    layers = Layers.of(module)
    walker = _Walker(layers.functions, fused_attention)
    if dense:
        walker.dense = _dense_function(layers)
    steps = walker.body("main").steps
    return tuple(replace(s, kernel=replace(s.kernel, needs=tuple(n for n in s.kernel.needs if n >= 0))) for s in steps)


def element_bytes(module: ModuleOp) -> int:
    """Bytes of an element of the weights of a module."""
    types = (op.type for op in module.ops if isinstance(op, ml_program.GlobalOp))
    return min((_element_size(type_) for type_ in types), default=4)


def weight_bytes(module: ModuleOp) -> int:
    """Bytes of all weights of a module."""
    return sum(bytes_of(op.type) for op in module.ops if isinstance(op, ml_program.GlobalOp))


def decomposed_layers(module: ModuleOp) -> tuple[int, ...]:
    """The layers that decompose something, in ascending order."""
    layers = Layers.of(module)
    functions = {name for name, function in layers.functions.items() if _decomposes(function)}
    return tuple(sorted(n for n, calls in layers.calls.items() if calls[0].callee.root_reference.data in functions))


def _decomposes(function: func.FuncOp) -> bool:
    return any(op.name.startswith("dcom.") for op in function.walk())


def _dense_function(layers: Layers) -> str:
    for _, calls in sorted(layers.calls.items()):
        name = calls[0].callee.root_reference.data
        if not _decomposes(layers.functions[name]):
            return name
    raise DcomError("every layer is decomposed: there is none to compare with", hint="leave one layer dense")


class _Walker:
    """Makes the kernels of functions, each once."""

    def __init__(self, functions: Mapping[str, func.FuncOp], fused: bool) -> None:
        self.functions = functions
        self.fused = fused
        self.dense: str | None = None
        """The function that every layer calls, whatever the module says."""
        self._made: dict[str, _Body] = {}

    def body(self, name: str) -> "_Body":
        """The kernels of a function; raises `DcomError` where it has no body."""
        if name not in self._made:
            found = self.functions.get(name)
            if found is None or found.is_declaration:
                raise DcomError(f"the module has no function @{name}", hint=NOT_TRACED)
            self._made[name] = _Body(found, self)
        return self._made[name]


class _Body:
    """The kernels of one function; a need of -1 - n is argument n."""

    def __init__(self, function: func.FuncOp, walker: _Walker) -> None:
        self.steps: list[Step] = []
        self.result: frozenset[int] = frozenset()
        self._walker = walker
        self._known: dict[SSAValue, _Known] = {}
        self._open: dict[int, Operation] = {}
        """Elementwise kernels that may still take in what reads them, with their last operation."""
        self._joined: dict[tuple[SSAValue, str], int] = {}
        """Products of a site by their input."""
        for number, argument in enumerate(function.body.block.args):
            weight = function.arg_attrs is not None and "dcom.weight" in function.arg_attrs.data[number].data
            needs = frozenset[int]() if weight else frozenset({-1 - number})
            self._known[argument] = _Known(needs, argument, weight=weight)
        self._size = min((_element_size(a.type) for a in function.body.block.args if _is_float(a.type)), default=4)
        operations = list(function.body.block.ops)
        attentions = find_attention(operations, _no_attention, NumpyArrays())
        inner = frozenset(op for fusion in attentions.values() for op in fusion.absorbed)
        for op in operations:
            if op in attentions:
                self._attention(op, attentions[op].operands)
            elif isinstance(op, func.ReturnOp):
                self.result = self._join(op.operands).needs
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
                self._known[op.results[0]] = _Known(root=op.results[0], weight=True)
            case dcom.WeightOp():  # its factors, side by side
                self._known[op.weight] = _Known(self._join(op.operands).needs, op.weight, weight=True)
            case func.CallOp():
                self._call(op)
            case linalg.MatmulOp():
                self._projection(op, _rows(op.results[0].type))
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
                self._known[op.results[0]] = replace(self._join(op.operands), root=op.results[0])
            case _ if isinstance(op, _VIEWS):
                self._known |= dict.fromkeys(op.results, self._join(op.operands))
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
            arguments = self._join(op.arguments[-1 - n] for n in needs if n < 0)
            return arguments.needs.union(n + base for n in needs if n >= 0)

        for step in body.steps:
            self.steps.append(Step(layer, replace(step.kernel, needs=tuple(sorted(outside(step.kernel.needs))))))
        self._known |= {result: _Known(outside(body.result), result) for result in op.results}

    def _projection(self, op: linalg.MatmulOp | dcom.MatmulOp, rows: int) -> None:
        """x W or V W: cut by the columns of W; or by its rows, and then summed over the GPUs."""
        role = op.attributes.get("dcom.role")
        name = role.data if isinstance(role, StringAttr) else "matmul"
        site = _ROLES.get(name, "")
        kernel = replace(self._kernel(op, name, "gemm"), rows=rows, site=site)
        if isinstance(op, dcom.MatmulOp):  # which reads V, and writes V*
            depth, each = op.input.type.dimensions[2], min(self._size, bytes_of(op.input.type.element_type))
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
        result = op.results[0]
        self._known[result] = _Known(frozenset({index}), result, first.shard == "column", site=self._site_of(op, first))

    def _exact_track(self, op: dcom.OutlierMatmulOp | dcom.TokenMatmulOp | dcom.ExactTrackOp) -> None:
        """Exact channels or tokens times their rows of W: a track beside the low-rank one, or added to what that gives.

        Where the channels lie on different GPUs, each of them first gets all, and their rows of W.
        """
        joins = isinstance(op, dcom.ExactTrackOp)
        kernel, type_ = self._kernel(op, op.name.removeprefix("dcom."), "stream" if joins else "gemm"), op.input.type
        if isinstance(type_, OutliersType):  # which reads only some rows of W, others for each prompt
            rows = type_.dimensions[0] * type_.capacity.data
            width = _shape(op.weight.type)[1]
            kernel = replace(kernel, weight_bytes=min(rows * width * self._size, kernel.weight_bytes))
        if not joins:
            kernel = replace(kernel, input_bytes=kernel.input_bytes + kernel.output_bytes, accumulates=True)
        if kernel.site not in _ROW_SITES:
            self._add(op, replace(kernel, shard="column"), sharded=True, track=not joins)
            return
        moved = self._bytes(type_) + kernel.weight_bytes
        gather = Kernel(f"{kernel.name} all-gather", "all_gather", output_bytes=moved, site=kernel.site)
        self._collective([op.input], gather)
        needs = self._join(op.operands).sorted_needs
        self._add(op, replace(kernel, shard="none", needs=needs), sharded=False, track=not joins)

    def _decompose(self, op: dcom.DecomposeOp) -> None:
        matrices, rows, cols = op.factors.type.blocks
        work = Decomposition(
            matrices,
            rows,
            cols,
            op.iterations.value.data,
            op.factors.type.rank.data,
            op.reorthogonalisation.value.data,
        )
        kernel = replace(self._kernel(op, "decompose", "decompose"), decomposition=work, site=op.site.data)
        self._add(op, kernel)

    def _attention(self, op: Operation, operands: Sequence[SSAValue]) -> None:
        """softmax(q k^T) v for the tokens before each: one kernel; or two products and a softmax through memory.

        Where v is in factors, the second product takes its U.
        """
        *batch, tokens, width = _shape(operands[0].type)
        mixed = op.input.type.rank.data if isinstance(op, dcom.LeftMatmulOp) else width
        scores = prod(batch) * tokens * tokens
        q, k, v = (self._reads([value], weights=False) for value in operands)
        out, of_scores, rows = self._bytes(op.results[0].type), scores * self._size, prod(batch) * tokens
        joined = self._join(operands)
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
            joined = self._known[op.results[0]]

    def _generic(self, op: linalg.GenericOp) -> None:
        """Elementwise work and reductions: one kernel with what made its inputs, where nothing else reads that."""
        inputs = [value for value in op.inputs if value in self._known]
        known = [self._known[value] for value in inputs]
        casts = len(inputs) == 1 and all(isinstance(inner, _CASTS) for inner in op.body.block.ops)
        if casts:
            self._known |= dict.fromkeys(op.results, self._join(inputs))
            return
        if any(one.track for one in known):
            self._known |= dict.fromkeys(op.results, replace(self._join(inputs), site="", track=False))
            return
        kernel = self._kernel(op, _name(op), "gemm" if _contracts(op) else "stream")
        taken = [n for n, last in self._open.items() if self._may_take(n, last, op, inputs)]
        for n in taken:
            other, last = self.steps[n].kernel, self._open.pop(n)
            hidden = 0 if last.results[0] not in op.operands else self._bytes(last.results[0].type)
            shared = sum(self._bytes(r.type) for r in self._roots(last.operands) & self._roots(inputs))
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
            self._known |= {
                value: replace(one, needs=one.needs - {n} | {len(self.steps) - 1})
                for value, one in self._known.items()
                if n in one.needs
            }

    def _may_take(self, n: int, last: Operation, op: Operation, inputs: Sequence[SSAValue]) -> bool:
        """Whether `op` alone reads what an elementwise kernel made, or reads just what it read."""
        readers = {use.operation for use in last.results[0].uses}
        before = [value for value in last.operands if value in self._known]
        return readers == {op} or (not readers & {op} and self._roots(before) == self._roots(inputs))

    def _kernel(self, op: Operation, name: str, kind: Kind) -> Kernel:
        """A kernel that does the work of an operation, cut over GPUs where its input is."""
        joined = self._join(op.operands)
        return Kernel(
            name,
            kind,
            work_of(op).flops,
            self._reads(op.operands, weights=False),
            self._reads(op.operands, weights=True),
            sum(map(self._bytes, op.result_types)),
            _rows(op.results[0].type),
            _width(op.results[0].type),
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
        known = _Known(frozenset({len(self.steps) - 1}), sharded=parts, site=self._site_of(op, made), track=track)
        self._known |= {result: replace(known, root=result) for result in op.results}

    @staticmethod
    def _site_of(op: Operation, kernel: Kernel) -> str:
        """The site that results still belong to: while they are factors or tracks of it."""
        return kernel.site if op.name.startswith("dcom.") and not isinstance(op, dcom.ReconstructOp) else ""

    def _collective(self, values: Iterable[SSAValue], kernel: Kernel) -> None:
        """Append an exchange between the GPUs, after which each of them has these values."""
        for value in values:
            known = self._known[value]
            self.steps.append(Step(None, replace(kernel, needs=known.sorted_needs, site=known.site or kernel.site)))
            self._known[value] = replace(known, needs=frozenset({len(self.steps) - 1}), sharded=False)

    def _join(self, values: Iterable[SSAValue]) -> _Known:
        """What a view of these values is: of the first that is no weight, with the needs of all."""
        found = [self._known[value] for value in values if value in self._known]
        data = [known for known in found if not known.weight] or found
        if not data:
            return _Known()
        return replace(
            data[0],
            needs=frozenset[int]().union(*(known.needs for known in data)),
            sharded=any(known.sharded for known in data),
            track=any(known.track for known in data),
            site=next((known.site for known in data if known.site), ""),
        )

    def _roots(self, values: Iterable[SSAValue]) -> set[SSAValue]:
        return {root for value in values if (root := self._known.get(value, _Known()).root) is not None}

    def _reads(self, values: Iterable[SSAValue], *, weights: bool) -> int:
        """Bytes of what lies behind these values, each once."""
        chosen = [value for value in values if value in self._known and self._known[value].weight is weights]
        return sum(self._bytes(root.type) for root in self._roots(chosen))

    def _bytes(self, type_: Attribute) -> int:
        """Bytes of a value, in the model's element type where the IR widens it."""
        each = _element_size(type_)
        return bytes_of(type_) * min(each, self._size) // each if _is_float(type_) else bytes_of(type_)


def _no_attention(q: Value, k: Value, v: Value, scale: float, window: int | None) -> Value:
    """Attention is only looked for here."""
    raise NotImplementedError


def _is_float(type_: Attribute) -> bool:
    element = type_.element_type if isa(type_, TensorType[Attribute]) else None
    return isinstance(element, AnyFloat) or isinstance(type_, FactoredType | OutliersType | TokensType | WeightType)


def _element_size(type_: Attribute) -> int:
    if isinstance(type_, FactoredType | OutliersType | TokensType | WeightType):
        return bytes_of(type_.element_type)
    return bytes_of(type_.element_type) if isa(type_, TensorType[Attribute]) else 4


def _shape(type_: Attribute) -> tuple[int, ...]:
    if isinstance(type_, FactoredType | OutliersType | TokensType):
        return type_.dimensions
    return type_.get_shape() if isa(type_, TensorType[Attribute]) or isinstance(type_, WeightType) else ()


def _rows(type_: Attribute) -> int:
    return prod(_shape(type_)[:-1])


def _width(type_: Attribute) -> int:
    return (_shape(type_) or (1,))[-1]


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
