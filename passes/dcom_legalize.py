"""`dcom-legalize`: the dcom dialect in Level 0 operations and `scf.for`, which is what it means."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xdsl.context import Context
from xdsl.dialects import math
from xdsl.dialects.builtin import LocationAttr, ModuleOp, f32
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from dcomc.diagnostics import DcomError
from dcomc.ir import place_of
from dialects.dcom import (
    BiasTrackOp,
    ConcatOp,
    DecomposeOp,
    ExactTrackOp,
    FactoredType,
    HeadMatmulOp,
    LeftMatmulOp,
    MatmulOp,
    OutlierMatmulOp,
    OutlierSplitOp,
    OutliersType,
    ProjectOp,
    ReconstructHeadsOp,
    ReconstructOp,
    ScaleOp,
    SliceOp,
    SplitHeadsOp,
    TokenMatmulOp,
    TokenSplitOp,
    TokensType,
    WeightMatmulOp,
    WeightOp,
    WeightType,
)
from passes._build import (
    add_square,
    building,
    compare,
    constant,
    contract,
    convert,
    element_of,
    filled,
    first_rows,
    insert_rows,
    join_rows,
    loop,
    loop_index,
    multiply,
    quotient,
    read_slice,
    select,
    shape_of,
    some_columns,
    split_rows,
    structured,
    write_slice,
)
from passes._legalize_lanczos import Problem, lanczos_function
from passes._legalize_splits import Exact, outlier_matmul, outlier_split, token_matmul, token_split
from passes._legalize_tracks import (
    bias_track,
    concat,
    exact_track,
    head_matmul,
    left_matmul,
    reconstruct_heads,
    split_heads,
)
from passes._legalize_weights import WeightFactors, times, times_core


class _Factors(NamedTuple):
    """A factored value of M blocks: U [M, T, R] and V [M, R, N] of the element type, core [M, R, R] f32.

    After a product with a weight in factors, core [M, R, Q] and V [Q, N].
    """

    u: SSAValue
    core: SSAValue
    v: SSAValue

    @property
    def blocks(self) -> str:
        """The letter of V's blocks in an einsum; empty where all have the V of a weight."""
        return "m" if len(shape_of(self.v)) == 3 else ""


@dataclass
class _Legaliser:
    """Lowers the dcom operations of one module, in program order."""

    module: ModuleOp
    factored: dict[SSAValue, _Factors] = field(default_factory=dict[SSAValue, _Factors])
    exact: dict[SSAValue, Exact] = field(default_factory=dict[SSAValue, Exact])
    weights: dict[SSAValue, WeightFactors] = field(default_factory=dict[SSAValue, WeightFactors])
    problems: dict[Problem, LocationAttr] = field(default_factory=dict[Problem, LocationAttr])

    def run(self) -> None:
        """Lower every operation; raises `DcomError` where a dcom type crosses a function, a branch or a loop."""
        found = [op for op in self.module.walk() if op.name.startswith("dcom.")]
        for op in found:
            for operand in op.operands:
                if isinstance(operand.type, FactoredType | OutliersType | TokensType | WeightType) and not (
                    operand in self.factored or operand in self.exact or operand in self.weights
                ):
                    raise DcomError(
                        f"the operand of {op.name} does not come from a dcom operation of the same block",
                        hint="reconstruct a factored activation before it leaves its function",
                        place=place_of(op.location),
                    )
            with building(InsertPoint.before(op), op.location):
                self._lower(op)
        for op in reversed(found):
            for result in op.results:
                if result.first_use is not None:
                    raise DcomError(
                        f"the {result.type.name} result of {op.name} is used outside the dialect",
                        hint="reconstruct a factored activation before other operations use it",
                        place=place_of(op.location),
                    )
            Rewriter.erase_op(op)
        names = {symbol.sym_name.data for symbol in self.module.ops if isinstance(symbol, FuncOp)}
        for problem, location in self.problems.items():
            if problem.name not in names:
                self.module.body.block.add_op(lanczos_function(problem, location))

    def _lower(self, op: Operation) -> None:
        match op:
            case OutlierSplitOp():
                dense, self.exact[op.outliers] = outlier_split(op)
                self._replace(op.dense, dense)
            case OutlierMatmulOp():
                self._replace(op.result, outlier_matmul(op, self.exact[op.input], self._weight(op.weight)))
            case TokenSplitOp():
                dense, self.exact[op.tokens] = token_split(op, self.exact[op.like] if op.like else None)
                self._replace(op.dense, dense)
            case TokenMatmulOp():
                self._replace(op.result, token_matmul(op, self.exact[op.input], self._weight(op.weight)))
            case DecomposeOp():
                self.factored[op.factors] = self._decompose(op)
            case ProjectOp():
                self.factored[op.factors] = _project(op, self.factored[op.basis])
            case WeightOp():
                self.weights[op.weight] = WeightFactors(op.u, op.core, op.v)
            case WeightMatmulOp():
                product = times("s", op.input, self.weights[op.weight])
                self._replace(op.result, convert(product, op.input.type.element_type))
            case MatmulOp():
                self.factored[op.result] = _matmul(op, self.factored[op.input], self._weight(op.weight))
            case ScaleOp():
                self.factored[op.result] = _scale(op, self.factored[op.input])
            case ReconstructOp():
                u, core, v = self.factored[op.input]
                of_v = f"{self.factored[op.input].blocks}qn"
                if op.left_first:
                    dense = contract(f"msq,{of_v}->msn", contract("msr,mrq->msq", u, core), v)
                else:
                    dense = contract("msr,mrn->msn", u, contract(f"mrq,{of_v}->mrn", core, v))
                self._replace(op.result, _join_blocks(convert(dense, op.input.type.element_type), op.input.type))
            case BiasTrackOp():
                self.factored[op.result] = _Factors(*bias_track(op, _split_blocks))
            case ExactTrackOp():
                track = exact_track(op, self.exact[op.input], self._weight(op.weight), _split_blocks)
                self.factored[op.result] = _Factors(*track)
            case ConcatOp():
                tracks = concat(op, self.factored[op.first], self.factored[op.second])
                self.factored[op.result] = _Factors(*tracks)
            case SliceOp():
                factors = self.factored[op.input]
                v = some_columns(factors.v, op.offset.value.data, op.result.type.dimensions[2])
                self.factored[op.result] = factors._replace(v=v)
            case SplitHeadsOp():
                self.factored[op.result] = _Factors(*split_heads(op, self.factored[op.input]))
            case LeftMatmulOp():
                self.factored[op.result] = _Factors(*left_matmul(op, self.factored[op.input]))
            case HeadMatmulOp():
                self.factored[op.result] = _Factors(*head_matmul(op, self.factored[op.input]))
            case ReconstructHeadsOp():
                self._replace(op.result, reconstruct_heads(op, self.factored[op.input]))
            case _:
                raise DcomError(f"{op.name} has no definition at Level 0", hint="legalise before lowering further")

    def _weight(self, weight: SSAValue) -> SSAValue | WeightFactors:
        return self.weights.get(weight, weight)

    def _replace(self, old: SSAValue, new: SSAValue) -> None:
        new.name_hint = old.name_hint
        old.replace_all_uses_with(new)

    def _decompose(self, op: DecomposeOp) -> _Factors:
        """A loop over blocks that calls the Lanczos function of the shape."""
        count, rows, cols = op.factors.type.blocks
        rank, element = op.factors.type.rank.data, op.factors.type.element_type
        problem = Problem(
            rows,
            cols,
            rank,
            op.iterations.value.data,
            op.reorthogonalisation.value.data,
            op.start_seed,
            op.modified,
            None if op.energy is None else op.energy.value.data,
        )
        self.problems.setdefault(problem, op.location)
        blocks = convert(_split_blocks(op.input, op.factors.type), f32)

        def block(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            call = CallOp(problem.name, [read_slice(blocks, index)], problem.function_type().outputs.data)
            return [write_slice(part, whole, index) for part, whole in zip(call.results, carried, strict=True)]

        shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))
        u, core, v = loop(count, [filled(shape, f32, 0) for shape in shapes], block)
        return _Factors(convert(u, element), core, convert(v, element))


def _matmul(op: MatmulOp, factors: _Factors, weight: SSAValue | WeightFactors) -> _Factors:
    """A new V (Eq. 6), or a new core beside the V of the weight (Eq. 7)."""
    u, core, v = factors
    if not isinstance(weight, WeightFactors):
        return _Factors(u, core, convert(times(f"{factors.blocks}r", v, weight), op.input.type.element_type))
    inner = times_core(f"{factors.blocks}k", v, weight)
    return _Factors(u, contract(f"mrk,{factors.blocks}kq->mrq", core, inner), weight.v)


def _project(op: ProjectOp, basis: _Factors) -> _Factors:
    """U, diag(norms), and the normalised rows of U^T X."""
    element = op.factors.type.element_type
    shares = contract("mtr,mth->mrh", basis.u, _split_blocks(op.input, op.factors.type))
    energies = structured("mrh->mr", [shares], f32, add_square, initial=0)
    norms = structured("mr->mr", [energies], f32, lambda x: math.SqrtOp(x).result)

    def entry(norm: SSAValue) -> SSAValue:
        return select(compare(loop_index(1), "eq", loop_index(2)), norm, constant(0, f32))

    core = structured("mr->mrq", [norms], f32, entry, sizes={"q": op.factors.type.rank.data})

    v = structured("mrh,mr->mrh", [shares, norms], f32, quotient)
    return _Factors(basis.u, core, convert(v, element))


def _scale(op: ScaleOp, factors: _Factors) -> _Factors:
    """U with its rows, or V with its columns, multiplied."""
    element = op.input.type.element_type
    if op.axis.data == "channels":
        letters = f"{factors.blocks}rn"
        return factors._replace(v=structured(f"{letters},n->{letters}", [factors.v, op.scales], element, multiply))
    column = structured("s->so", [op.scales], element, lambda x: x, sizes={"o": 1})
    product = contract("mtr,mto->mtr", factors.u, _split_blocks(column, op.input.type))
    return factors._replace(u=convert(product, element))


def _split_blocks(value: SSAValue, type_: FactoredType) -> SSAValue:
    """[B*S, N] to [M, T, N], each prompt filled up with zero rows to whole blocks."""
    batch, rows, _ = type_.dimensions
    count, block, _ = type_.blocks
    if count * block != batch * rows:
        whole = filled((batch, count // batch * block, shape_of(value)[1]), element_of(value), 0)
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
