"""Lanczos bidiagonalisation and its truncation as Level 0 operations and `scf.for`: what `dcom.decompose` means.

The steps are those of `runtime/lanczos.py`. Nothing branches: a step after a breakdown writes zeros, which take no part
in what follows. The small bidiagonal's SVD is a one-sided Jacobi iteration, in which every row is rotated against one
other at a time: of n rows, row i meets row (t - i) mod n in turn t, so that n turns make a sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FunctionType, IndexType, LocationAttr, TensorType, f32, i1, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue
from xdsl.rewriter import InsertPoint

from passes._build import (
    add,
    add_square,
    both,
    building,
    compare,
    constant,
    contract,
    count_above,
    divide,
    either,
    filled,
    loop,
    loop_index,
    multiply,
    one_where,
    quotient,
    read_slice,
    select,
    shape_of,
    structured,
    subtract,
    write_slice,
)
from runtime.lanczos import breakdown_tolerance

SWEEPS = 10
"""Jacobi sweeps over the bidiagonal; the off-diagonal falls quadratically, and float32 needs six or seven."""

CONVERGED = 2.0**-24
"""Rows whose cosine is at most this are left alone: half a unit in the last place of float32."""


@dataclass(frozen=True)
class Problem:
    """The sizes that a Lanczos function is made for."""

    rows: int
    cols: int
    rank: int
    iterations: int
    reorthogonalisation: int
    seed: int | None
    """The seed of the start vector; without one the vector is the same in each row."""
    modified: bool
    """Whether Gram-Schmidt takes one vector at a time."""
    energy: float | None = None

    @property
    def name(self) -> str:
        return (
            f"dcom.lanczos_{self.rows}x{self.cols}_rank{self.rank}_iterations{self.iterations}"
            f"_reorthogonalisation{self.reorthogonalisation}_{'mean' if self.seed is None else f'seed{self.seed}'}"
            + ("_modified" if self.modified else "")
            + (f"_energy{self.energy!r}" if self.energy is not None else "")
        )

    def function_type(self) -> FunctionType:
        """f32 [S, H] -> U [S, R], core [R, R], V [R, H]."""
        s, h, r = self.rows, self.cols, self.rank
        return FunctionType.from_lists(
            [TensorType(f32, (s, h))], [TensorType(f32, (s, r)), TensorType(f32, (r, r)), TensorType(f32, (r, h))]
        )


def lanczos_function(problem: Problem, location: LocationAttr) -> FuncOp:
    """The private function that decomposes one prompt."""
    type_ = problem.function_type()
    block = Block(arg_types=type_.inputs)
    block.args[0].name_hint = "a"
    with building(InsertPoint.at_end(block), location):
        a = block.args[0]
        us, core, vs, done = _bidiagonalise(a, problem)
        if problem.energy is None:
            ReturnOp(*_truncate(us, core, vs, done, problem.rank))
        else:
            ReturnOp(*_keep_energy(a, us, core, vs, problem.rank, problem.energy))
    function = FuncOp(problem.name, type_, Region(block), visibility="private")
    function.location = location
    block.args[0].location = location
    return function


def _bidiagonalise(a: SSAValue, problem: Problem) -> tuple[SSAValue, SSAValue, SSAValue, SSAValue]:
    """U^T [k + 1, S], the lower bidiagonal core [k + 1, k], V [k, H] and the number of steps [] i64."""
    steps = problem.iterations
    shapes = ((steps + 1, problem.rows), (steps + 1, steps), (steps, problem.cols))
    us, core, vs = (filled(shape, f32, 0) for shape in shapes)

    def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        us, core, vs, u, largest, done, going = carried
        j = arith.IndexCastOp(index, i64).result
        v, alpha, largest, going = _direction(contract("sh,s->h", a, u), vs, largest, going, problem)
        count = structured(
            ",->", [done, going], i64, lambda n, on: arith.AddiOp(n, arith.ExtUIOp(on, i64).result).result
        )
        u, beta, largest, going = _direction(contract("sh,h->s", a, v), us, largest, going, problem)
        next_index = arith.AddiOp(index, constant(1, IndexType())).result
        return (
            write_slice(u, us, next_index),
            structured("pq,,,->pq", [core, alpha, beta, j], f32, _entries),
            write_slice(v, vs, index),
            u,
            largest,
            count,
            going,
        )

    weights = _start(problem)
    always = structured("->", [], i1, lambda: constant(1, i1))
    start = _divided(weights, _norm(weights), always)
    us = write_slice(start, us, constant(0, IndexType()))
    us, core, vs, _, _, done, _ = loop(
        steps, [us, core, vs, start, filled((), f32, 0), filled((), i64, 0), always], step
    )
    return us, core, vs, done


def _direction(
    z: SSAValue, basis: SSAValue, largest: SSAValue, going: SSAValue, problem: Problem
) -> tuple[SSAValue, SSAValue, SSAValue, SSAValue]:
    """What `basis` leaves of z, as a unit vector, and its norm.

    Args:
        largest: the largest norm so far, [] f32.
        going: whether there has been no breakdown, [] i1.

    Returns:
        The vector and the norm, both zero from a breakdown on; then `largest` and `going` for what is next.
    """
    for _ in range(problem.reorthogonalisation):
        z = _without_one_by_one(z, basis) if problem.modified else _without_all(z, basis)
    length = _norm(z)
    top = structured(",->", [length, largest], f32, lambda x, y: arith.MaximumfOp(y, x).result)

    tolerance = breakdown_tolerance(problem.rows, problem.cols, problem.reorthogonalisation)

    def grows(x: SSAValue, most: SSAValue, on: SSAValue) -> SSAValue:
        return both(on, compare(x, "ugt", multiply(constant(tolerance, f32), most)))

    on = structured(",,->", [length, top, going], i1, grows)
    kept = structured(",->", [length, on], f32, lambda x, valid: select(valid, x, constant(0, f32)))
    return _divided(z, length, on), kept, top, on


def _without_all(z: SSAValue, basis: SSAValue) -> SSAValue:
    """A pass of classical Gram-Schmidt: all projections on the rows of `basis`, then their sum taken away."""
    shares = contract("jn,n->j", basis, z)
    correction = contract("jn,j->n", basis, shares)
    return structured("n,n->n", [z, correction], f32, subtract)


def _without_one_by_one(z: SSAValue, basis: SSAValue) -> SSAValue:
    """A pass of modified Gram-Schmidt: one projection after another; rows that are not there yet are zero."""

    def without_one(row: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        vector = read_slice(basis, row)
        share = contract("n,n->", vector, carried[0])
        return [structured("n,n,->n", [carried[0], vector, share], f32, lambda x, v, c: subtract(x, multiply(c, v)))]

    return loop(shape_of(basis)[0], [z], without_one)[0]


def _norm(z: SSAValue) -> SSAValue:
    square = structured("n->", [z], f32, add_square, initial=0)
    return structured("->", [square], f32, lambda x: math.SqrtOp(x).result)


def _divided(z: SSAValue, norm: SSAValue, valid: SSAValue) -> SSAValue:
    """z over its norm; zero where that is not valid, [] i1."""
    return structured("n,,->n", [z, norm, valid], f32, lambda x, n, on: select(on, divide(x, n), constant(0, f32)))


def _entries(old: SSAValue, alpha: SSAValue, beta: SSAValue, at: SSAValue) -> SSAValue:
    """Inside a body over the core: alpha on the diagonal of column `at`, beta below it, and other columns as they
    are."""
    row, column = loop_index(0), loop_index(1)
    below = compare(arith.AddiOp(column, constant(1, i64)).result, "eq", row)
    changed = select(below, beta, select(compare(row, "eq", column), alpha, old))
    return select(compare(column, "eq", at), changed, old)


def _start(problem: Problem) -> SSAValue:
    """The weights of the rows in the start vector [S]: `runtime.lanczos.start_weights`."""
    seed = problem.seed
    if seed is None:
        return filled((problem.rows,), f32, 1)

    def weight() -> SSAValue:
        row = arith.AddiOp(loop_index(0), constant(1, i64)).result
        offset = constant(seed * 25173 % 65536, i64)
        phase = arith.AddiOp(arith.MuliOp(row, constant(40503, i64)), offset).result
        low = arith.ShRUIOp(arith.AndIOp(phase, constant(65535, i64)), constant(6, i64)).result
        share = multiply(arith.SIToFPOp(low, f32).result, constant(1 / 1024, f32))
        return add(share, constant(0.5, f32))

    return structured("->s", [], f32, weight, sizes={"s": problem.rows})


def _truncate(us: SSAValue, core: SSAValue, vs: SSAValue, done: SSAValue, rank: int) -> Sequence[SSAValue]:
    """U [S, R], core [R, R], V [R, H] by the SVD of the bidiagonal, zero past the number of steps."""
    left, values, right = _singular_vectors(core, rank)

    def stepped(x: SSAValue, count: SSAValue) -> SSAValue:
        row = loop_index(0)
        return select(compare(row, "slt", count), x, constant(0, f32))

    left, right = (structured("ri,->ri", [rows, done], f32, stepped) for rows in (left, right))
    return (
        contract("ri,is->sr", left, us),
        structured("r->rq", [values], f32, lambda value: multiply(_identity(), value), sizes={"q": rank}),
        contract("ri,ih->rh", right, vs),
    )


def _keep_energy(
    a: SSAValue, us: SSAValue, core: SSAValue, vs: SSAValue, rank: int, energy: float
) -> Sequence[SSAValue]:
    """U, core and V of the SVD, zero past the singular values that hold a share of the energy of `a`."""
    left, values, right = _singular_vectors(core, rank)
    total = structured("sh->", [a], f32, add_square, initial=0)

    def earlier(value: SSAValue, sum_: SSAValue) -> SSAValue:
        before = compare(loop_index(1), "slt", loop_index(0))
        return add(sum_, select(before, multiply(value, value), constant(0, f32)))

    sums = structured("q->r", [values], f32, earlier, initial=0, sizes={"r": rank})

    def keep(before: SSAValue, all_: SSAValue) -> SSAValue:
        needed = compare(before, "olt", multiply(constant(energy, f32), all_))
        return one_where(needed)

    kept = structured("r,->r", [sums, total], f32, keep)
    return (
        structured("sr,r->sr", [contract("ri,is->sr", left, us), kept], f32, multiply),
        structured(
            "r,r->rq", [values, kept], f32, lambda x, on: multiply(_identity(), multiply(x, on)), sizes={"q": rank}
        ),
        structured("rh,r->rh", [contract("ri,ih->rh", right, vs), kept], f32, multiply),
    )


def _singular_vectors(core: SSAValue, rank: int) -> Sequence[SSAValue]:
    """The leading left singular vectors [R, m], singular values [R] and right singular vectors [R, k] of core [m, k].

    One-sided Jacobi on the rows: rotations Q make the rows of W = Q core orthogonal; their norms are the singular
    values, their directions the right vectors, and the rows of Q the left vectors.
    """
    size, _ = shape_of(core)
    span = constant(size, i64)

    def turn(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        w, q = carried
        at = arith.RemUIOp(arith.IndexCastOp(index, i64).result, span).result

        def meet(t: SSAValue, n: SSAValue) -> SSAValue:
            both_indices = arith.AddiOp(loop_index(0), loop_index(1)).result
            met = compare(arith.RemUIOp(both_indices, n).result, "eq", t)
            return one_where(met)

        partner = structured(",->jp", [at, span], f32, meet, sizes={"j": size, "p": size})
        w_partner, q_partner = (contract("jp,pi->ji", partner, x) for x in (w, q))
        tangents = structured(
            "j,j,j,,->j",
            [_dots(w, w), _dots(w_partner, w_partner), _dots(w, w_partner), at, span],
            f32,
            _tangent,
        )
        return tuple(
            structured("ji,ji,j->ji", [x, y, tangents], f32, _rotate) for x, y in ((w, w_partner), (q, q_partner))
        )

    basis = structured("->ji", [], f32, _identity, sizes={"j": size, "i": size})
    w, q = loop(SWEEPS * size, [core, basis], turn)
    norms = structured("j->j", [_dots(w, w)], f32, lambda x: math.SqrtOp(x).result)

    order = structured("j,i->j", [norms, norms], i64, count_above(0), initial=0)
    pick = structured(
        "j->rj",
        [order],
        f32,
        lambda at: one_where(compare(at, "eq", loop_index(0))),
        sizes={"r": rank},
    )

    right = structured("ji,j->ji", [w, norms], f32, quotient)
    return contract("rj,ji->ri", pick, q), contract("rj,j->r", pick, norms), contract("rj,ji->ri", pick, right)


def _dots(a: SSAValue, b: SSAValue) -> SSAValue:
    """The dot products of the rows of two matrices."""
    return contract("ji,ji->j", a, b)


def _tangent(mine: SSAValue, other: SSAValue, dot: SSAValue, turn: SSAValue, span: SSAValue) -> SSAValue:
    """The tangent of the rotation that makes row j orthogonal to its partner; 0 where they are orthogonal already.

    The partner's is its exact negative, since both come from the same three numbers.
    """
    zero, one = constant(0, f32), constant(1, f32)
    j = loop_index(0)
    partner = arith.RemUIOp(arith.AddiOp(arith.SubiOp(turn, j).result, span).result, span).result
    zeta = divide(subtract(other, mine), multiply(constant(2, f32), dot))
    later = compare(j, "sgt", partner)
    negative = either(compare(zeta, "olt", zero), both(compare(zeta, "oeq", zero), later))
    size = add(math.AbsFOp(zeta).result, math.SqrtOp(add(one, multiply(zeta, zeta))).result)
    tangent = divide(select(negative, constant(-1, f32), one), size)
    scale = multiply(math.SqrtOp(mine).result, math.SqrtOp(other).result)
    needed = compare(math.AbsFOp(dot).result, "ogt", multiply(constant(CONVERGED, f32), scale))
    return select(both(needed, compare(j, "ne", partner)), tangent, zero)


def _rotate(mine: SSAValue, other: SSAValue, tangent: SSAValue) -> SSAValue:
    """cos (mine - tan other)."""
    one = constant(1, f32)
    cosine = divide(one, math.SqrtOp(add(one, multiply(tangent, tangent))).result)
    return multiply(cosine, subtract(mine, multiply(tangent, other)))


def _identity() -> SSAValue:
    """Inside a body: the entry of the identity matrix."""
    return one_where(compare(loop_index(0), "eq", loop_index(1)))
