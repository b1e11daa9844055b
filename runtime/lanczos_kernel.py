"""The loops of `runtime.lanczos_large`, for numba.

Arrays of M blocks: a [M, S, H], float32, or uint16, the bits of bfloat16; u [M, k + 1, S] and v [M, k, H], the vectors
in rows; core [M, k + 1, k]. All but a are float32.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.fast_compile import compiled
from runtime.intrinsics import (
    LANES,
    ROWS,
    add,
    add_rows,
    load,
    multiply_and_add_rows,
    multiply_rows,
    single,
    store,
)

Array = NDArray[np.float32]

NEXT, DONE, STOP, COUNTERS = 0, 8, 16, 24
"""Counters of a team: the next share to be taken, shares that are done, whether no more are to come.

Each lies in a line of the cache of its own.
"""


class Reading(NamedTuple):
    """What a team of threads shares that reads A together."""

    counters: NDArray[np.int64]
    a: NDArray[Any]
    x: Array
    """[M, H], what A is multiplied with."""
    y: Array
    """[M, S], A x; or, `backwards`, what Aᵀ is multiplied with."""
    sums: Array
    """[shares, M, H], each share's part of Aᵀ y."""
    squares: Array
    """[shares, M, H], each share's sums of squares of the columns; set when `backwards`."""
    backwards: NDArray[np.bool_]
    """[1], whether Aᵀ y is all that is asked, and not A x."""


def _bidiagonalise(
    team: Reading,
    z: Array,
    hidden: NDArray[np.bool_],
    u: Array,
    core: Array,
    v: Array,
    options: tuple[int, bool, float, float],
) -> None:
    """Fill u, but for its first vectors, core and v, which are zero.

    Args:
        z: [M, H], Aᵀ u_0; used up.
        hidden: [M, H], columns of a that are taken as zero; those of z are.
        options: passes of Gram-Schmidt, whether modified; the tolerance of a breakdown; how far a rounding may grow.
    """
    passes, modified, tolerance, limit = options
    blocks, steps, cols = v.shape
    largest, going = np.zeros(blocks, np.float32), np.ones(blocks, np.bool_)
    known, growth = np.zeros((blocks, steps + 1), np.float32), np.ones((blocks, steps), np.float32)
    backs = np.empty((blocks, steps, cols), np.float32)
    y, certain = team.y, True
    for j in range(steps):
        if not certain:
            copy(u[:, j], y)
            team.backwards[0] = True
            read_all(team, hidden, z)
        copy(z, backs[:, j])
        extend(z, v, j, core[:, j, j], known, largest, going, passes, modified, tolerance)
        copy(v[:, j], team.x)
        team.backwards[0] = False
        read_all(team, hidden, z)
        extend(y, u, j + 1, core[:, j + 1, j], known, largest, going, passes, modified, tolerance)
        certain = j + 1 < steps and follow(z, backs, j + 1, core[:, j + 1, j], known, growth, limit)


def _copy(x: Array, to: Array) -> None:
    for m in range(len(x)):
        for i in range(x.shape[1]):
            to[m, i] = x[m, i]


def _extend(
    x: Array,
    basis: Array,
    place: int,
    norms: Array,
    known: Array,
    largest: Array,
    going: NDArray[np.bool_],
    passes: int,
    modified: bool,
    tolerance: float,
) -> None:
    """Row `place` of each basis [M, J, N] = the unit vector of x [M, N] less its parts along the rows before.

    known [M, J] becomes those parts and norms [M] the norm; x is used up. From a breakdown on, all are zero.
    """
    blocks, _, cols = basis.shape
    for m in range(blocks):
        rest, unit = x[m], basis[m, place]
        orthogonalise(rest, basis[m], place, known[m], passes, modified)
        square = np.float32(0)
        for i in range(cols):
            square += rest[i] * rest[i]
        norm = np.sqrt(square)
        largest[m] = max(largest[m], norm)
        going[m] = going[m] and norm > tolerance * largest[m]
        if going[m]:
            norms[m] = norm
            for i in range(cols):
                unit[i] = rest[i] / norm


def _orthogonalise(x: Array, basis: Array, rows: int, known: Array, passes: int, modified: bool) -> None:
    """x [N] less its parts along the first rows of `basis` [J, N], taken in so many passes; known [J] = the parts."""
    known[:] = 0
    shares = np.empty(rows, np.float32)
    for _ in range(passes):
        for i in range(rows):
            row, share = basis[i], np.float32(0)
            for j in range(len(x)):
                share += row[j] * x[j]
            shares[i] = share
            known[i] += share
            if modified:  # before the next part is computed
                subtract(x, shares, basis, i, i + 1)
        if not modified:
            subtract(x, shares, basis, 0, rows)


def _subtract(x: Array, shares: Array, basis: Array, start: int, stop: int) -> None:
    """x [N] -= shares [J] times the rows of `basis` [J, N], of those from `start` to `stop`."""
    for i in range(start, stop):
        row, share = basis[i], shares[i]
        for j in range(len(x)):
            x[j] -= share * row[j]


def _follow(z: Array, backs: Array, steps: int, norms: Array, known: Array, growth: Array, limit: float) -> bool:
    """z [M, H] = Aᵀ u_{j+1} of z = Aᵀ y where y = U known + beta u_{j+1}, with beta in `norms`; zero after a breakdown.

    Args:
        backs: its first `steps` rows are those of (Aᵀ U)ᵀ.
        growth: [M, k], how many times a rounding of each of these may have grown; set for the new one.

    Returns:
        Whether that is at most the limit; else z is of no use.
    """
    certain = True
    for m in range(len(z)):
        beta, grown = norms[m], np.float32(1)
        for i in range(steps):
            known[m, i] = known[m, i] / beta if beta > 0 else 0
            grown += abs(known[m, i]) * (1 + growth[m, i])
        growth[m, steps] = grown
        if grown > limit:
            certain = False
        for j in range(z.shape[1]):
            z[m, j] = z[m, j] / beta if beta > 0 else 0
        subtract(z[m], known[m], backs[m], 0, steps)
    if not certain:
        growth[:, steps] = 1
    return certain


def _read_all(team: Reading, hidden: NDArray[np.bool_], z: Array) -> None:
    """What the team asks of A, y and z = Aᵀ y [M, H], zero in the hidden columns, with those who help to read."""
    store(team.counters, DONE, 0)
    store(team.counters, NEXT, 0)
    while take_share(team):
        pass
    shares = len(team.sums)
    while load(team.counters, DONE) < shares:
        pass
    for m in range(len(z)):
        row, unseen = z[m], hidden[m]
        row[:] = 0
        for share in range(shares):
            part = team.sums[share, m]
            for j in range(len(row)):
                row[j] += part[j]
        for j in range(len(row)):
            if unseen[j]:
                row[j] = 0


def _help_to_read(team: Reading) -> None:
    """Take shares of one `read_all` after another, awake between them, until there are no more to come."""
    while not load(team.counters, STOP):
        if load(team.counters, NEXT) < len(team.sums):
            take_share(team)


def _take_share(team: Reading) -> bool:
    """Compute the next share of the rows, if one is left."""
    shares, rows = len(team.sums), team.a.shape[1]
    share = add(team.counters, NEXT, 1)
    if share >= shares:
        return False
    start, stop = rows * share // shares, rows * (share + 1) // shares
    team.sums[share] = 0
    if team.backwards[0]:
        team.squares[share] = 0
        back(team.a, team.y, team.sums[share], team.squares[share], start, stop)
    else:
        read(team.a, team.x, team.y, team.sums[share], start, stop)
    add(team.counters, DONE, 1)
    return True


def _read(
    a: NDArray[Any], v: NDArray[np.float32], y: NDArray[np.float32], w: NDArray[np.float32], start: int, stop: int
) -> None:
    """y = A v of the rows from `start` to `stop` of each block; w += Aᵀ y of those, each some rows after.

    Args:
        a: float32, or uint16, the bits of bfloat16; contiguous, as all others.
    """
    for m in range(len(a)):
        rows, x, sums, z = a[m], v[m], y[m], w[m]
        wide, done = len(x) // LANES * LANES, start
        while wide and done + ROWS <= stop:
            p, ahead = rows[done:], sums[done:]
            ahead[:ROWS] = 0
            ends = p.ctypes.data, ahead.ctypes.data, x.ctypes.data
            if done == start:
                multiply_rows(*ends, *ends, p.strides[0], wide // LANES, p[0, 0])
            else:
                q, known = rows[done - ROWS :], sums[done - ROWS :]
                given = q.ctypes.data, known.ctypes.data, z.ctypes.data
                multiply_and_add_rows(*ends, *given, p.strides[0], wide // LANES, p[0, 0])
            narrow_multiply(rows, x, sums, done, done + ROWS, wide)
            done += ROWS
        if done > start:
            q, known = rows[done - ROWS :], sums[done - ROWS :]
            given = q.ctypes.data, known.ctypes.data, z.ctypes.data
            add_rows(*given, *given, q.strides[0], wide // LANES, q[0, 0])
            narrow_add(rows, sums, z, start, done, wide)
        sums[done:stop] = 0
        narrow_multiply(rows, x, sums, done, stop, 0)
        narrow_add(rows, sums, z, done, stop, 0)


def _narrow_multiply(rows: NDArray[Any], x: Array, y: Array, start: int, stop: int, left: int) -> None:
    """y += the rows from `start` to `stop` times x, of the columns from `left` on."""
    for i in range(start, stop):
        row, total = rows[i], np.float32(0)
        for j in range(left, len(x)):
            total += single(row[j]) * x[j]
        y[i] += total


def _narrow_add(rows: NDArray[Any], y: Array, z: Array, start: int, stop: int, left: int) -> None:
    """z += the rows from `start` to `stop`, each times its number of y, of the columns from `left` on."""
    for i in range(start, stop if left < len(z) else start):
        row, share = rows[i], y[i]
        for j in range(left, len(z)):
            z[j] += share * single(row[j])


def _back(
    a: NDArray[Any], u: NDArray[np.float32], w: NDArray[np.float32], sums: NDArray[np.float32], start: int, stop: int
) -> None:
    """w += Aᵀ u and sums [M, H] += the squares of the elements, of the rows from `start` to `stop` of each block."""
    blocks, _, cols = a.shape
    for m in range(blocks):
        z, t = w[m], sums[m]
        for i in range(start, stop - 3, 4):
            p, q, r, s = a[m, i], a[m, i + 1], a[m, i + 2], a[m, i + 3]
            b, c, d, e = u[m, i], u[m, i + 1], u[m, i + 2], u[m, i + 3]
            for j in range(cols):
                f, g, h, k = single(p[j]), single(q[j]), single(r[j]), single(s[j])
                z[j] += (b * f + c * g) + (d * h + e * k)
                t[j] += (f * f + g * g) + (h * h + k * k)
        for i in range(stop - (stop - start) % 4, stop):
            p, b = a[m, i], u[m, i]
            for j in range(cols):
                z[j] += b * single(p[j])
                t[j] += single(p[j]) * single(p[j])


back = compiled(_back, reassociate=True)
narrow_multiply = compiled(_narrow_multiply, reassociate=True)
narrow_add = compiled(_narrow_add, reassociate=True)
read = compiled(_read)
take_share = compiled(_take_share)
help_to_read = compiled(_help_to_read)
read_all = compiled(_read_all)
copy = compiled(_copy)
subtract = compiled(_subtract, reassociate=True)
follow = compiled(_follow)
orthogonalise = compiled(_orthogonalise, reassociate=True)
extend = compiled(_extend, reassociate=True)
bidiagonalise = compiled(_bidiagonalise)
