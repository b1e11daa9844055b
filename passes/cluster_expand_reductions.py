"""cluster-expand-reductions: the paper's computation expansion, a factor between one reduction and none."""

from dataclasses import dataclass
from math import ceil

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from dcomc.diagnostics import DcomError
from dcomc.ir import errors_at, place_of
from dialects import cluster
from dialects.cluster_types import COLS, BasisType, CellsType, VectorType, shift_of
from passes._build import building
from passes._expansion_groups import ExpansionGroups
from passes._kernels import only
from runtime.machine import Machine, load_machine

_MEMORIES = ("banks", "buffers")
_SUMS = ("replicas", "all-gather")


@dataclass(frozen=True)
class ClusterExpandReductionsPass(ModulePass):
    """Expand the steps of modified Gram-Schmidt, `c = v . x; x -= c v`, by a factor f (the paper's Fig. 9).

    Vectors are cut over all P clusters, which form f groups. (1) A group multiplies and sums its elements to one
    partial sum. (2) The f partial sums go once through the global memory to every group. (3) In each group f replicas
    multiply the group's part of v by one partial sum each, in P / f^2 clusters a replica; in turns, where f^2 > P. (4)
    A sum over the replicas of a group gives its part of the correction. f = 1 is Fig. 9a: one global reduction, and no
    replicas. `full` is Fig. 9b: each element is a group of its own, for vectors of at most P elements.

    Before:

        cluster.each first %j {
        ^bb0(%i: index):
          cluster.dot %v[%i], %z into %dots pieces 1 : i64
          cluster.all_reduce %dots across "cols"
          cluster.project_out %v[%i], %dots from %z pieces 2 : i64
        }

    After, with factor 8 on 16 x 16 clusters:

        cluster.part %z into %z_part
        cluster.write %z_part into %z_bank
        cluster.each first %j {
        ^bb0(%i: index):
          cluster.read %v_bank[%i] into %v_part
          cluster.read %z_bank into %z_part
          cluster.dot %v_part, %z_part into %dots pieces 1 : i64
          cluster.group_reduce %dots over 8 : i64 by 4 : i64
          cluster.exchange %dots of 8 : i64 by 4 : i64 into %sums over 8 : i64 by 1 : i64
          cluster.gather %v_part into %v_replica
          cluster.multiply %v_replica, %sums into %product pieces 2 : i64
          cluster.replica_reduce %product into %correction
          cluster.minus %z_part, %correction
          cluster.write %z_part into %z_bank
        }
        cluster.gather %z_part into %z
    """

    name = "cluster-expand-reductions"

    factor: int | str
    """f, the number of groups; or `full`."""
    vectors: str = "banks"
    """Where v and x are between the steps: `banks`, as in the paper; or `buffers`."""
    sums: str = "replicas"
    """`replicas`, as in the paper; or `all-gather`: each cluster adds the partial sums and multiplies once."""
    machine: str = "dcom-16x16"
    """The machine, by name or by its TOML file."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` where an option is none, or a kernel or the machine has no such groups."""
        for what, value, known in (("vectors", self.vectors, _MEMORIES), ("sums", self.sums, _SUMS)):
            if value not in known:
                raise DcomError(f"unknown {what} '{value}'", hint=f"one of {', '.join(known)}")
        machine = load_machine(self.machine)
        for kernel in op.body.block.ops:
            if isinstance(kernel, cluster.KernelOp):
                with errors_at(kernel.location):
                    _expand(self, kernel, machine)


class _Expansion:
    """The expansion of the steps against one basis."""

    def __init__(self, options: ClusterExpandReductionsPass, dot: cluster.DotOp, machine: Machine) -> None:
        self._options = options
        self._basis, self._x = dot.basis, dot.x
        x, count = dot.x.type, dot.basis.type.shape[0]
        self._length, self._axis = x.length, x.axis.data
        factor = options.factor
        if isinstance(factor, str):
            factor = _full(factor, self._length, self._axis, machine)
        self._groups = groups = ExpansionGroups.of(factor, self._axis, machine)
        _check_memory(factor, machine)
        self._gathers = options.sums == "all-gather"
        self._v_part, self._x_part = self._basis_room(1), self._vector_room(1)
        self._v_bank = self._x_bank = None
        if options.vectors == "banks":
            self._v_bank = self._room(cluster.BankRoomOp, "bank", self._basis, self._basis_type(1, count))
            self._x_bank = self._room(cluster.BankRoomOp, "bank", self._x, self._vector_type(1))
        self._sums = cluster.AllocOp(CellsType.of(factor if self._gathers else groups.turns)).room
        self._sums.name_hint = "sums"
        self._replica, self._product, self._correction = self._v_part, self._x_part, self._x_part
        if factor > 1 and not self._gathers:
            self._product = self._correction = self._vector_room(1, "correction")
            if groups.replicas > 1:
                self._replica = self._basis_room(groups.replicas, "replica")
                self._product = self._vector_room(groups.replicas, "product")

    def _basis_type(self, held: int, count: int = 1) -> BasisType:
        return BasisType.of(count, self._length, self._axis, held, self._groups.line)

    def _vector_type(self, held: int) -> VectorType:
        return VectorType.of(self._length, self._axis, held, self._groups.line)

    def _basis_room(self, held: int, name: str = "part") -> SSAValue:
        return self._room(cluster.AllocOp, name, self._basis, self._basis_type(held))

    def _vector_room(self, held: int, name: str = "part") -> SSAValue:
        return self._room(cluster.AllocOp, name, self._x, self._vector_type(held))

    def _room(
        self, op: type[cluster.AllocOp | cluster.BankRoomOp], name: str, of: SSAValue, kind: BasisType | VectorType
    ) -> SSAValue:
        room = op(kind).room
        room.name_hint = f"{of.name_hint or 'vector'}_{name}"
        return room

    def begin(self) -> None:
        """Cut the vector over all clusters."""
        cluster.PartOp(self._x, self._x_part)
        if self._x_bank is not None:
            cluster.WriteOp(self._x_bank, self._x_part)

    def end(self) -> None:
        """Put the vector together in each cluster of its line."""
        cluster.GatherOp(self._x_part, self._x)

    def keep(self, index: SSAValue | None, shift: int) -> None:
        """Write a new vector of the basis to the banks, if they hold it."""
        if self._v_bank is not None:
            cluster.PartOp(self._basis, self._v_part, index, shift)
            cluster.WriteOp(self._v_bank, self._v_part, index, shift)

    def step(self, dot: cluster.DotOp, project_out: cluster.ProjectOutOp) -> None:
        """c = v . x; x -= c v."""
        groups, index, pieces = self._groups, dot.index, shift_of(project_out.pieces)
        if self._v_bank is not None and self._x_bank is not None:
            cluster.ReadOp(self._v_bank, self._v_part, index)
            cluster.ReadOp(self._x_bank, self._x_part)
        else:
            cluster.PartOp(self._basis, self._v_part, index)
        cluster.DotOp(self._v_part, self._x_part, dot.out, pieces=shift_of(dot.pieces))
        cluster.GroupReduceOp(dot.out, groups.rows, groups.cols)
        pattern = (1, 1) if self._gathers else groups.pattern(self._axis)
        cluster.ExchangeOp(dot.out, (groups.rows, groups.cols), self._sums, pattern)
        if self._gathers:
            cluster.SumOp(self._sums, dot.out)
            cluster.ProjectOutOp(self._v_part, dot.out, self._x_part, pieces=pieces)
        elif self._correction is self._x_part:
            cluster.ProjectOutOp(self._v_part, self._sums, self._x_part, pieces=pieces)
        else:
            self._correct(index, pieces)
        if self._x_bank is not None:
            cluster.WriteOp(self._x_bank, self._x_part)

    def _correct(self, index: SSAValue | None, pieces: int) -> None:
        """Multiply in the replicas, and subtract the sum over them."""
        if self._replica is not self._v_part:
            if self._v_bank is not None:
                cluster.GatherOp(self._v_part, self._replica)
            else:
                cluster.PartOp(self._basis, self._replica, index)
        cluster.MultiplyOp(self._replica, self._sums, self._product, pieces)
        if self._product is not self._correction:
            cluster.ReplicaReduceOp(self._product, self._correction)
        cluster.MinusOp(self._x_part, self._correction)


def _full(factor: str, length: int, axis: str, machine: Machine) -> int:
    """The factor at which each element is a group; raises `DcomError` where a cluster would have several."""
    if factor != "full":
        raise DcomError(f"unknown factor '{factor}'", hint="a number of groups, or full")
    grid, tile = machine.grid, machine.cluster
    line, other, side = (grid.rows, grid.cols, tile.mac_cols) if axis == COLS else (grid.cols, grid.rows, tile.mac_rows)
    if side * ceil(length / (side * other)) > line:
        raise DcomError(
            f"a vector of {length} elements has more than one in some of the {line * other} clusters",
            hint="full expansion is for short vectors; give a factor",
        )
    return line * other


def _check_memory(factor: int, machine: Machine) -> None:
    size = 4 * factor
    if size > machine.global_memory.bytes:
        raise DcomError(
            f"{factor} partial sums take {size} bytes of global memory, but {machine.name} has "
            f"{machine.global_memory.bytes}",
            hint="give a smaller factor",
        )


def _expand(options: ClusterExpandReductionsPass, kernel: cluster.KernelOp, machine: Machine) -> None:
    """Expand all loops over the vectors of a turn, those of U and those of V."""
    loop, matrix = only(kernel, cluster.ForOp), only(kernel, cluster.MatrixOp)
    runs = _runs(loop)
    if not runs:
        raise DcomError(
            f"kernel @{kernel.sym_name.data} has no modified Gram-Schmidt",
            hint="decompose with gram_schmidt = modified and at least one pass",
        )
    expansions: dict[tuple[SSAValue, SSAValue], _Expansion] = {}
    for eachs in runs:
        dot, _ = _step_of(eachs[0])
        if (dot.basis, dot.x) not in expansions:
            with building(InsertPoint.before(_first_use(kernel)), matrix.location):
                expansions[dot.basis, dot.x] = _Expansion(options, dot, machine)
        expansion = expansions[dot.basis, dot.x]
        with building(InsertPoint.before(eachs[0]), eachs[0].location):
            expansion.begin()
        with building(InsertPoint.after(eachs[-1]), eachs[-1].location):
            expansion.end()
        for each in eachs:
            _rewrite(each, expansion)
    for (basis, _), expansion in expansions.items():
        for user in [use.operation for use in basis.uses]:
            if isinstance(user, cluster.LoadStartOp | cluster.ScaleOp):
                index, shift = (user.index, shift_of(user.shift)) if isinstance(user, cluster.ScaleOp) else (None, 0)
                with building(InsertPoint.after(user), user.location):
                    expansion.keep(index, shift)


def _runs(loop: cluster.ForOp) -> list[list[cluster.EachOp]]:
    """The passes of Gram-Schmidt in a turn, those together that follow one another on one vector."""
    runs: list[list[cluster.EachOp]] = []
    for op in loop.body.block.ops:
        if isinstance(op, cluster.EachOp):
            last = runs[-1][-1] if runs else None
            (dot, _), before = _step_of(op), _step_of(last)[0] if last else None
            again = before is not None and (dot.basis, dot.x) == (before.basis, before.x)
            if last is not None and last.next_op is op and again:
                runs[-1].append(op)
            else:
                runs.append([op])
    return runs


def _rewrite(each: cluster.EachOp, expansion: _Expansion) -> None:
    dot, project_out = _step_of(each)
    old = list(each.body.block.ops)
    with building(InsertPoint.at_end(each.body.block), each.location):
        expansion.step(dot, project_out)
    for op in reversed(old):
        Rewriter.erase_op(op)


def _first_use(kernel: cluster.KernelOp) -> Operation:
    """The first operation of a kernel that is no room."""
    rooms = cluster.MatrixOp | cluster.AllocOp | cluster.BankRoomOp
    return next(op for op in kernel.body.block.ops if not isinstance(op, rooms))


def _step_of(each: cluster.EachOp) -> tuple[cluster.DotOp, cluster.ProjectOutOp]:
    """The operations of one step of modified Gram-Schmidt; raises `DcomError` where a loop has others."""
    match list(each.body.block.ops):
        case [cluster.DotOp() as dot, cluster.AllReduceOp() as total, cluster.ProjectOutOp() as project_out] if (
            dot.out == total.data == project_out.cells
            and (dot.basis, dot.index, dot.x) == (project_out.basis, project_out.index, project_out.x)
            and not len(dot.x.type.parts)
        ):
            return dot, project_out
        case _:
            raise DcomError(
                "a loop over vectors is no step of modified Gram-Schmidt: dot, all_reduce, project_out of one vector",
                hint="expand a kernel once, as lower-dcom-to-cluster writes it",
                place=place_of(each.location),
            )
