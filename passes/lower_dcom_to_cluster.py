"""lower-dcom-to-cluster: a kernel of vector operations for each distinct decomposition."""

from collections.abc import Generator
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
from runtime.lanczos import COARSE_TOLERANCE

_DOTS_PIECES, _PIECES = 1, 2
"""In how many pieces, of binary16's 11 significant bits each, an instruction takes its binary32 factors.

One is enough for the vector of a dot product: rounding the n-th part of a unit vector leaves an error of
2^-12 / sqrt(n). What is subtracted, and the new vector, take two: 22 bits."""


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
            op.body.block.add_op(_KernelWriter(shape, origin).write())
            for user in decompositions:
                user.properties["kernel"] = SymbolRefAttr(shape.symbol)


def _alloc(name: str, kind: BasisType | VectorType | CellsType) -> SSAValue:
    room = cluster.AllocOp(kind).room
    room.name_hint = name
    return room


@dataclass(frozen=True)
class _Side:
    """One of the two bases, and what a step of Lanczos needs to add a vector to it."""

    axis: str
    """Along which its vectors lie."""
    basis: SSAValue
    vector: SSAValue
    """Becomes the next vector of the basis."""
    norms: SSAValue
    """Cells for the norms of all vectors so far: the alphas of V, or the betas of U."""
    known: int
    """Vectors that the basis has before the first step."""

    @property
    def across(self) -> str:
        """The side of the grid across which the partial sums of a vector lie; those of a dot product lie across its
        own."""
        return ROWS if self.axis == COLS else COLS


class _KernelWriter:
    """Writes the kernel of a shape, step by step; the operations of each step are located at its name in `origin`."""

    def __init__(self, shape: _Shape, origin: LocationAttr) -> None:
        self._shape, self._origin = shape, origin
        self._body, self._loop = Block(), Block(arg_types=[IndexType()])
        self._turn = self._loop.args[0]
        self._turn.name_hint, self._turn.location = "j", self._at("iterate")
        with self._step("set up", self._body):
            self._matrix = cluster.MatrixOp(MatrixType.of(shape.rows, shape.cols)).matrix
            u = _alloc("u", BasisType.of(shape.iterations + 1, shape.rows, ROWS))
            v = _alloc("v", BasisType.of(shape.iterations, shape.cols, COLS))
            y = _alloc("y", VectorType.of(shape.rows, ROWS))
            z = _alloc("z", VectorType.of(shape.cols, COLS))
            self._dots = _alloc("dots", CellsType.of(1 if shape.modified else shape.iterations))
            alpha, beta = (_alloc(name, CellsType.of(shape.iterations)) for name in ("alpha", "beta"))
            self._norm, self._largest = (_alloc(name, CellsType.of(1)) for name in ("norm", "largest"))
            cluster.ZeroOp(self._largest)
            self._matrix.name_hint = "a"
            self._tolerance = cluster.ConstantOp(COARSE_TOLERANCE**2).result
            cluster.LoadStartOp(u)
        self._u, self._v = _Side(ROWS, u, y, beta, 1), _Side(COLS, v, z, alpha, 0)

    def write(self) -> cluster.KernelOp:
        """The kernel: each turn of its loop adds a vector to V, and one to U."""
        with self._step("z = A^T u", self._loop):
            cluster.MatvecTransposedOp(self._matrix, self._u.basis, self._turn, self._v.vector)
            cluster.AllReduceOp(self._v.vector, self._v.across)
        self._extend(self._v, "z", "alpha")
        with self._step("y = A v", self._loop):
            cluster.MatvecOp(self._matrix, self._v.basis, self._turn, self._u.vector)
            cluster.AllReduceOp(self._u.vector, self._u.across)
        self._extend(self._u, "y", "beta")
        with self._step("iterate", self._body):
            cluster.ForOp(self._shape.iterations, Region(self._loop))
        with self._step("store the factors", self._body):
            cluster.OutputOp(self._u.basis, "u")
            cluster.OutputOp(self._v.basis, "v")
            cluster.OutputOp(self._v.norms, "alpha")
            cluster.OutputOp(self._u.norms, "beta")
        kernel = cluster.KernelOp(self._shape.symbol, self._shape.seed, Region(self._body))
        kernel.location = self._origin
        return kernel

    def _at(self, what: str) -> NameLoc:
        return NameLoc(StringAttr(what), self._origin)

    @contextmanager
    def _step(self, what: str, block: Block) -> Generator[None]:
        with building(InsertPoint.at_end(block), self._at(what)):
            yield

    def _extend(self, side: _Side, letter: str, scalar: str) -> None:
        """Make the vector of a side orthogonal to its basis and of norm 1, and add it to the basis.

        Args:
            letter, scalar: what the vector and its norm are called in locations.
        """
        for turn in range(self._shape.reorthogonalisation):
            self._reorthogonalise(side, f"reorthogonalise {letter}, pass {turn + 1}")
        with self._step(f"{scalar} = ||{letter}||", self._loop):
            cluster.Norm2Op(side.vector, self._norm, _DOTS_PIECES)
            cluster.AllReduceOp(self._norm, side.axis)
            square = cluster.LoadOp(self._norm).result
            bound = cluster.MaxOp(cluster.LoadOp(self._largest).result, square).result
            cluster.StoreOp(bound, self._largest)
        with self._step(f"breakdown of {scalar}", self._loop):
            least = cluster.MulOp(bound, self._tolerance).result
            inverse = cluster.WhereGreaterOp(square, least, cluster.RsqrtOp(square).result).result
        with self._step(f"normalise {letter}", self._loop):
            cluster.StoreOp(cluster.MulOp(square, inverse).result, side.norms, self._turn)
            cluster.ScaleOp(side.vector, inverse, side.basis, self._turn, side.known, _PIECES)

    def _reorthogonalise(self, side: _Side, what: str) -> None:
        """One pass of Gram-Schmidt of the vector of a side against its basis so far."""
        if not self._shape.modified:
            with self._step(what, self._loop):
                cluster.DotsOp(side.basis, side.vector, self._dots, self._turn, side.known, _DOTS_PIECES)
                cluster.AllReduceOp(self._dots, side.axis, self._turn, side.known)
                cluster.SubtractOp(side.basis, self._dots, side.vector, self._turn, side.known, _PIECES)
            return
        one = Block(arg_types=[IndexType()])
        number = one.args[0]
        number.name_hint, number.location = "i", self._at(what)
        with self._step(what, one):
            cluster.DotOp(side.basis, side.vector, self._dots, number, _DOTS_PIECES)
            cluster.AllReduceOp(self._dots, side.axis)
            cluster.ProjectOutOp(side.basis, self._dots, side.vector, number, _PIECES)
        with self._step(what, self._loop):
            cluster.EachOp(self._turn, Region(one), side.known)
