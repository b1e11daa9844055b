"""lower-dcom-to-cluster: a kernel of vector operations for each distinct decomposition."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import (
    IndexType,
    LocationAttr,
    ModuleOp,
    NameLoc,
    StringAttr,
    SymbolRefAttr,
)
from xdsl.ir import Block, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from dcomc.ir import common_location
from dialects import cluster
from dialects.cluster_types import COLS, ROWS, BasisType, CellsType, MatrixType, VectorType
from dialects.dcom import DecomposeOp
from passes._build import building
from runtime.lanczos import BREAKDOWN_TOLERANCE

_DOTS_PIECES, _PIECES = 1, 2
"""Pieces of 11 bits of binary32 factors. The vector of a dot product is rounded to binary16's significand, as the basis
is, which leaves of an n-th part of a unit vector an error of 2^-12 / sqrt(n); what is subtracted, and the new vector,
come from 22 bits."""


@dataclass(frozen=True)
class _Shape:
    """What makes two decompositions the same kernel."""

    rows: int
    cols: int
    iterations: int
    reorthogonalisation: int
    seed: int | None
    modified: bool
    """Whether Gram-Schmidt takes one vector at a time."""

    @classmethod
    def of(cls, op: DecomposeOp) -> "_Shape":
        _, rows, cols = op.factors.type.blocks
        iterations, passes = (option.value.data for option in (op.iterations, op.reorthogonalisation))
        return cls(rows, cols, iterations, passes, op.start_seed, op.modified)

    @property
    def symbol(self) -> str:
        start = "mean" if self.seed is None else f"s{self.seed}"
        name = f"lanczos_{self.rows}x{self.cols}_k{self.iterations}_r{self.reorthogonalisation}_{start}"
        return f"{name}_modified" if self.modified else name


@dataclass(frozen=True)
class LowerDcomToClusterPass(ModulePass):
    """Write a Lanczos kernel (the paper's Algorithm 1) for each distinct shape and option of `dcom.decompose`.

    Before:

        %f = dcom.decompose %x {iterations = 15 : i64, …} : tensor<512x576xf32> -> !dcom.factored<1x512x576, …>

    After:

        %f = dcom.decompose %x {iterations = 15 : i64, kernel = @lanczos_512x576_k15_r2_s0, …} : …
        cluster.kernel @lanczos_512x576_k15_r2_s0 attributes {seed = 0 : i64} {
          %a = cluster.matrix : !cluster.matrix<512x576>
          …
        }

    Vector 0 of U is the start, which the banks hold; where that is the same in each row, the kernel has no seed. After
    a breakdown all vectors and entries are zero: time does not depend on data, and several matrices can go through the
    same instructions. Vectors of U and V that are not there yet are never read: `first %j` bounds each use.
    """

    name = "lower-dcom-to-cluster"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        users: dict[_Shape, list[DecomposeOp]] = {}
        for inner in op.walk():
            if isinstance(inner, DecomposeOp) and inner.kernel is None:
                users.setdefault(_Shape.of(inner), []).append(inner)
        for shape, decompositions in users.items():
            origin = common_location(user.location for user in decompositions)
            op.body.block.add_op(_kernel(shape, origin))
            for user in decompositions:
                user.properties["kernel"] = SymbolRefAttr(shape.symbol)


def _alloc(name: str, kind: BasisType | VectorType | CellsType) -> SSAValue:
    room = cluster.AllocOp(kind).room
    room.name_hint = name
    return room


def _kernel(shape: _Shape, origin: LocationAttr) -> cluster.KernelOp:
    body = Block()

    @contextmanager
    def step(what: str, block: Block = body) -> Generator[None]:
        with building(InsertPoint.at_end(block), NameLoc(StringAttr(what), origin)):
            yield

    with step("set up"):
        matrix = cluster.MatrixOp(MatrixType.of(shape.rows, shape.cols)).matrix
        u = _alloc("u", BasisType.of(shape.iterations + 1, shape.rows, ROWS))
        v = _alloc("v", BasisType.of(shape.iterations, shape.cols, COLS))
        y = _alloc("y", VectorType.of(shape.rows, ROWS))
        z = _alloc("z", VectorType.of(shape.cols, COLS))
        dots = _alloc("dots", CellsType.of(1 if shape.modified else shape.iterations))
        alpha, beta = (_alloc(name, CellsType.of(shape.iterations)) for name in ("alpha", "beta"))
        norm, largest = (_alloc(name, CellsType.of(1)) for name in ("norm", "largest"))
        cluster.ZeroOp(largest)
        matrix.name_hint = "a"
        tolerance = cluster.ConstantOp(BREAKDOWN_TOLERANCE**2).result
        cluster.LoadStartOp(u)

    loop = Block(arg_types=[IndexType()])
    j = loop.args[0]
    j.name_hint = "j"

    def half_step(
        product: Callable[[], object],
        names: tuple[str, str, str],
        vector: SSAValue,
        axis: str,
        basis: SSAValue,
        known: int,
        norms: SSAValue,
    ) -> None:
        """A product, its orthogonalisation against the j + `known` vectors so far, its norm, and the new vector.

        Partial sums of a vector along one axis lie across the other; the dots of its slices lie across its own.
        """
        across = ROWS if axis == COLS else COLS
        formula, letter, scalar = names
        with step(formula, loop):
            product()
            cluster.AllReduceOp(vector, across)
        for turn in range(shape.reorthogonalisation):
            what = f"reorthogonalise {letter}, pass {turn + 1}"
            if shape.modified:
                one = Block(arg_types=[IndexType()])
                one.args[0].name_hint = "i"
                one.args[0].location = NameLoc(StringAttr(what), origin)
                with step(what, one):
                    cluster.DotOp(basis, vector, dots, one.args[0], _DOTS_PIECES)
                    cluster.AllReduceOp(dots, axis)
                    cluster.ProjectOutOp(basis, dots, vector, one.args[0], _PIECES)
                with step(what, loop):
                    cluster.EachOp(j, Region(one), known)
                continue
            with step(what, loop):
                cluster.DotsOp(basis, vector, dots, j, known, _DOTS_PIECES)
                cluster.AllReduceOp(dots, axis, j, known)
                cluster.SubtractOp(basis, dots, vector, j, known, _PIECES)
        with step(f"{scalar} = ||{letter}||", loop):
            cluster.Norm2Op(vector, norm, _DOTS_PIECES)
            cluster.AllReduceOp(norm, axis)
            square = cluster.LoadOp(norm).result
            bound = cluster.MaxOp(cluster.LoadOp(largest).result, square).result
            cluster.StoreOp(bound, largest)
        with step(f"breakdown of {scalar}", loop):
            least = cluster.MulOp(bound, tolerance).result
            inverse = cluster.WhereGreaterOp(square, least, cluster.RsqrtOp(square).result).result
        with step(f"normalise {letter}", loop):
            cluster.StoreOp(cluster.MulOp(square, inverse).result, norms, j)
            cluster.ScaleOp(vector, inverse, basis, j, known, _PIECES)

    half_step(lambda: cluster.MatvecTransposedOp(matrix, u, j, z), ("z = A^T u", "z", "alpha"), z, COLS, v, 0, alpha)
    half_step(lambda: cluster.MatvecOp(matrix, v, j, y), ("y = A v", "y", "beta"), y, ROWS, u, 1, beta)

    with step("iterate"):
        cluster.ForOp(shape.iterations, Region(loop))
    with step("store the factors"):
        cluster.OutputOp(u, "u")
        cluster.OutputOp(v, "v")
        cluster.OutputOp(alpha, "alpha")
        cluster.OutputOp(beta, "beta")
    kernel = cluster.KernelOp(shape.symbol, shape.seed, Region(body))
    kernel.location = origin
    loop_origin = NameLoc(StringAttr("iterate"), origin)
    for argument in loop.args:
        argument.location = loop_origin
    return kernel
