"""`dcom-legalize`: the dcom dialect in Level 0 operations and `scf.for`, which is what it means."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xdsl.context import Context
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import LocationAttr, ModuleOp, f32, i1, i64
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from dcomc.diagnostics import DcomError
from dialects.dcom import (
    DecomposeOp,
    FactoredType,
    MatmulOp,
    OutlierMatmulOp,
    OutlierSplitOp,
    OutliersType,
    ReconstructOp,
)
from passes._build import (
    Body,
    add,
    both,
    building,
    compare,
    constant,
    contract,
    convert,
    either,
    element_of,
    filled,
    first_rows,
    insert_rows,
    join_rows,
    loop,
    loop_index,
    multiply,
    read_slice,
    select,
    shape_of,
    split_rows,
    structured,
    widen,
    write_slice,
)
from passes._legalize_lanczos import Problem, lanczos_function


class _Factors(NamedTuple):
    """A factored value of M blocks: U [M, T, R] and V [M, R, N] of the element type, core [M, R, R] f32."""

    u: SSAValue
    core: SSAValue
    v: SSAValue


class _Outliers(NamedTuple):
    """Outlier channels: values [B, S, C] of the element type, and their indices [B, C] i64."""

    values: SSAValue
    indices: SSAValue


@dataclass
class _Legaliser:
    """Lowers the dcom operations of one module, in program order."""

    module: ModuleOp
    factored: dict[SSAValue, _Factors] = field(default_factory=dict[SSAValue, _Factors])
    outliers: dict[SSAValue, _Outliers] = field(default_factory=dict[SSAValue, _Outliers])
    problems: dict[Problem, LocationAttr] = field(default_factory=dict[Problem, LocationAttr])

    def run(self) -> None:
        """Lower every operation; raises `DcomError` where a dcom type crosses a function, a branch or a loop."""
        found = [op for op in self.module.walk() if op.name.startswith("dcom.")]
        for op in found:
            for operand in op.operands:
                if isinstance(operand.type, FactoredType | OutliersType) and not (
                    operand in self.factored or operand in self.outliers
                ):
                    raise DcomError(
                        f"the operand of {op.name} does not come from a dcom operation of the same block",
                        hint="reconstruct a factored activation before it leaves its function",
                    )
            with building(InsertPoint.before(op), op.location):
                self._lower(op)
        for op in reversed(found):
            for result in op.results:
                if result.first_use is not None:
                    raise DcomError(
                        f"the {result.type.name} result of {op.name} is used outside the dialect",
                        hint="reconstruct a factored activation before other operations use it",
                    )
            op.detach()
            op.erase()
        names = {symbol.sym_name.data for symbol in self.module.ops if isinstance(symbol, FuncOp)}
        for problem, location in self.problems.items():
            if problem.name not in names:
                self.module.body.block.add_op(lanczos_function(problem, location))

    def _lower(self, op: Operation) -> None:
        match op:
            case OutlierSplitOp():
                dense, outliers = _outlier_split(op)
                self._replace(op.dense, dense)
                self.outliers[op.outliers] = outliers
            case DecomposeOp():
                self.factored[op.factors] = self._decompose(op)
            case MatmulOp():
                u, core, v = self.factored[op.input]
                product = convert(contract("brh,hn->brn", v, op.weight), op.input.type.element_type)
                self.factored[op.result] = _Factors(u, core, product)
            case ReconstructOp():
                u, core, v = self.factored[op.input]
                dense = contract("bsr,brn->bsn", u, contract("brq,bqn->brn", core, v))
                self._replace(op.result, _join_blocks(convert(dense, op.input.type.element_type), op.input.type))
            case OutlierMatmulOp():
                self._replace(op.result, _outlier_matmul(op, self.outliers[op.input]))
            case _:
                raise DcomError(f"{op.name} has no definition at Level 0", hint="legalise before lowering further")

    def _replace(self, old: SSAValue, new: SSAValue) -> None:
        new.name_hint = old.name_hint
        old.replace_all_uses_with(new)

    def _decompose(self, op: DecomposeOp) -> _Factors:
        """A loop over blocks that calls the Lanczos function of the shape."""
        count, rows, cols = op.factors.type.blocks
        rank, element = op.factors.type.rank.data, op.factors.type.element_type
        problem = Problem(
            rows, cols, rank, op.iterations.value.data, op.reorthogonalisation.value.data, op.seed.value.data
        )
        self.problems.setdefault(problem, op.location)
        blocks = convert(_split_blocks(op.input, op.factors.type), f32)

        def block(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            call = CallOp(problem.name, [read_slice(blocks, index)], problem.function_type().outputs.data)
            return [write_slice(part, whole, index) for part, whole in zip(call.results, carried, strict=True)]

        shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))
        u, core, v = loop(count, [filled(shape, f32, 0) for shape in shapes], block)
        return _Factors(convert(u, element), core, convert(v, element))


def _split_blocks(value: SSAValue, type_: FactoredType) -> SSAValue:
    """[B*S, N] to [M, T, N], each prompt filled up with zero rows to whole blocks."""
    batch, rows, cols = type_.dimensions
    count, block, _ = type_.blocks
    if count * block != batch * rows:
        whole = filled((batch, count // batch * block, cols), element_of(value), 0)
        value = join_rows(insert_rows(split_rows(value, batch), whole))
    return split_rows(value, count)


def _join_blocks(value: SSAValue, type_: FactoredType) -> SSAValue:
    """[M, T, N] to [B*S, N], without the rows that fill up a prompt."""
    batch, rows, _ = type_.dimensions
    count, block, _ = type_.blocks
    joined = join_rows(value)
    if count * block != batch * rows:
        joined = join_rows(first_rows(split_rows(joined, batch), rows))
    return joined


def _outlier_split(op: OutlierSplitOp) -> tuple[SSAValue, _Outliers]:
    """The dense rest [B*S, H] and the outliers: scores, ranks, and a one-hot choice of channels for each slot."""
    batch, _, _ = op.outliers.type.dimensions
    capacity, element = op.capacity.value.data, op.outliers.type.element_type
    x = split_rows(op.input, batch)
    scores = structured("bsh->bh", [x], f32, _score(op), initial=0)
    cutoff = op.min_count.value.data - 1 if op.min_count is not None else 0

    def higher(mine: SSAValue, other: SSAValue, count: SSAValue) -> SSAValue:
        tie = both(compare(other, "oeq", mine), compare(loop_index(2), "slt", loop_index(1)))
        return arith.AddiOp(count, arith.ExtUIOp(either(compare(other, "ogt", mine), tie), i64).result).result

    ranks = structured("bh,bg->bh", [scores, scores], i64, higher, initial=0)

    def chosen(rank: SSAValue, score: SSAValue) -> SSAValue:
        return both(compare(rank, "slt", constant(capacity, i64)), compare(score, "ogt", constant(cutoff, f32)))

    selected = structured("bh,bh->bh", [ranks, scores], i1, chosen)
    dense = structured("bsh,bh->bsh", [x, selected], element, lambda value, on: select(on, constant(0, element), value))

    def slot(rank: SSAValue, on: SSAValue) -> SSAValue:
        return both(on, compare(rank, "eq", loop_index(1)))

    slots = structured("bh,bh->bch", [ranks, selected], i1, slot, sizes={"c": capacity})

    def channel(on: SSAValue, total: SSAValue) -> SSAValue:
        return select(on, loop_index(2), total)

    indices = structured("bch->bc", [slots], i64, channel, initial=0)
    weights = structured("bch->bch", [slots], f32, lambda on: select(on, constant(1, f32), constant(0, f32)))
    values = convert(contract("bsh,bch->bsc", convert(x, f32), weights), element)
    return join_rows(dense), _Outliers(values, indices)


def _score(op: OutlierSplitOp) -> Body:
    """The body that adds an element to its channel's score: its square, or one where it exceeds the threshold."""
    if op.threshold is None:
        return lambda x, total: add(total, multiply(widen(x), widen(x)))
    threshold = op.threshold.value.data

    def count(x: SSAValue, total: SSAValue) -> SSAValue:
        above = compare(math.AbsFOp(widen(x)).result, "ogt", constant(threshold, f32))
        return add(total, select(above, constant(1, f32), constant(0, f32)))

    return count


def _outlier_matmul(op: OutlierMatmulOp, outliers: _Outliers) -> SSAValue:
    """values W[indices, :], the rows of W taken by a one-hot product."""
    cols = shape_of(op.weight)[0]
    onehot = structured(
        "bc->bch",
        [outliers.indices],
        f32,
        lambda index: select(compare(index, "eq", loop_index(2)), constant(1, f32), constant(0, f32)),
        sizes={"h": cols},
    )
    rows = contract("bch,hn->bcn", onehot, op.weight)
    return join_rows(convert(contract("bsc,bcn->bsn", outliers.values, rows), op.input.type.element_type))


@dataclass(frozen=True)
class DcomLegalizePass(ModulePass):
    """Lower every dcom operation to Level 0: the definition of the dialect, and a program that other compilers run.

    A factored value becomes three tensors, and each decomposition a loop over blocks that calls one private function
    for its shape. Before:

        %factors = dcom.decompose %x {layer = 10 : i64, site = "qkv", iterations = 6 : i64, …} :
            tensor<16x64xf32> -> !dcom.factored<1x16x64, rank 4, f32>

    and after:

        %u, %core, %v = scf.for %b = %c0 to %c1 step %c1_0 iter_args(…) -> (…) {
          %prompt = tensor.extract_slice …
          %parts:3 = func.call @dcom.lanczos_16x64_rank4_iterations6_… (%prompt) : …
          …
        }
    """

    name = "dcom-legalize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` where a dcom type crosses a function, a branch or a loop."""
        _Legaliser(op).run()
