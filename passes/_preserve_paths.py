"""How far a reconstruction moves down, by a cost model: along each path of linear operations, to the cheapest place."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from xdsl.dialects.builtin import StringAttr
from xdsl.dialects.tensor import ExtractSliceOp
from xdsl.ir import Operation, SSAValue, Use
from xdsl.rewriter import InsertPoint, Rewriter

from dcomc.costs import Work, bytes_of, reconstruction, work_of
from passes._build import building
from passes._preserve_steps import State, Step, take
from passes._roofline import Roofline
from passes._sites import erase_dead

CHOSEN = "dcom.chosen"
"""The attribute of a reconstruction that says what its place costs, and what it would where the dense tensor begins."""


@dataclass(frozen=True)
class _Taken:
    """A step that has been built on factors."""

    reader: Operation
    """What it stands for."""
    step: Step
    made: list[Operation]

    @property
    def computes(self) -> bool:
        """Whether it does more than move or leave out elements."""
        return bool(self.made) and not isinstance(self.reader, ExtractSliceOp)


@dataclass
class _Path:
    """The linear operations that follow a dense tensor one after another, each the only reader of the one before."""

    start: State
    taken: list[_Taken]
    refusal: tuple[Operation, str] | None
    """The linear operation that factors cannot take, and why."""
    forks: bool
    """Whether several operations read the last result."""

    def times(self, model: Roofline, start: float) -> list[float]:
        """The time of all operations of the path with reconstruction after each number of steps on factors.

        Args:
            start: the time of reconstruction before them.
        """
        dense = [model.time(map(work_of, step.step.dense)) for step in self.taken]
        factored, total = [0.0], 0.0
        for step in self.taken:
            total += model.time(map(work_of, (*step.made, *step.step.parted)))
            factored.append(total)
        states = [step.step.state for step in self.taken]
        rest = sum(dense)
        result = [start + rest]
        for state, before, own in zip(states, factored[1:], dense, strict=True):
            rest -= own
            result.append(before + model.time(reconstruction_works(state)) + rest)
        return result


def reconstruction_works(state: State) -> Iterable[Work]:
    """The work of making a tensor dense in its layout."""
    work = reconstruction(state.type, left_first=state.left_first)
    batch, rows, cols = state.type.dimensions
    dense = batch // state.heads * rows * cols * bytes_of(state.type.element_type)
    yield work if state.heads == 1 else Work(work.flops, bytes_of(state.type) + dense)
    if state.initial is not None:
        yield Work(dense // bytes_of(state.type.element_type), 3 * dense)
    if state.layout.transposed:
        yield Work(0, 2 * dense // bytes_of(state.type.element_type) * bytes_of(state.element))


@dataclass
class Descent:
    """Moves the reconstructions of one block down."""

    model: Roofline
    refusals: dict[Operation, str] = field(default_factory=dict[Operation, str])
    """Why the tensor is dense where a linear operation reads it, by that operation."""

    def run(self, dense: SSAValue, start: State) -> None:
        """Move the making of `dense`, a tensor in factors, as far down as pays on each path from it."""
        pending = [(dense, start)]
        while pending:
            value, state = pending.pop()
            uses = list(value.uses)
            reads = Counter(use.operation for use in uses)
            paths = [_follow(state, use) for use in uses if reads[use.operation] == 1]
            stays = len(paths) < len(uses) or not all(path.taken for path in paths)
            places = self._choose(paths, state, stays)
            for path, (place, costs) in zip(paths, places, strict=True):
                below = self._place(path, place, costs)
                if below is not None and (place or len(uses) == 1):
                    pending.append(below)
            erase_dead(value)

    def _choose(self, paths: list[_Path], state: State, stays: bool) -> list[tuple[int, str]]:
        """The number of steps on factors of each path, and what it costs.

        The dense tensor is free where something else needs it in any case.

        Args:
            stays: whether something needs the dense tensor in any case.
        """
        start = 0.0 if stays else self.model.time(reconstruction_works(state))
        times = [path.times(self.model, start) for path in paths]
        places = [row.index(min(row)) for row in times]
        if not stays and any(places) and (0 in places or self._is_cheaper_whole(paths, start)):
            return self._choose(paths, state, True)
        for path, row, place in zip(paths, times, places, strict=True):
            self._explain(path, row, place)
        return [
            (place, f"{self.model.text(row[place])}, {self.model.text(row[0])} dense")
            for row, place in zip(times, places, strict=True)
        ]

    def _is_cheaper_whole(self, paths: list[_Path], start: float) -> bool:
        """Whether a dense tensor that is made once is cheaper than its slices, each of which reads all of U."""
        if not all(isinstance(path.taken[0].reader, ExtractSliceOp) for path in paths):
            return False
        apart = sum(min(path.times(self.model, start)) for path in paths)
        return start + sum(min(path.times(self.model, 0.0)) for path in paths) <= apart

    def _explain(self, path: _Path, times: list[float], place: int) -> None:
        """Keep why the path leaves its factors, where an operation that is linear and computes something comes next."""
        numbers = range(place, len(path.taken))
        next_ = next((number for number in numbers if path.taken[number].computes), None)
        if next_ is not None:
            after = path.taken[next_]
            compared = self.model.comparison(times[place], min(times[next_ + 1 :]))
            parted = ", with the softmax before it in memory" if after.step.parted else ""
            self.refusals[after.reader] = f"{compared}{parted}"
        elif path.refusal is not None:
            self.refusals[path.refusal[0]] = path.refusal[1]

    def _place(self, path: _Path, place: int, costs: str) -> tuple[SSAValue, State] | None:
        """Reconstruct after `place` steps of a path, and say there what that `costs`.

        Returns:
            The dense tensor, where the path forks there, or after operations that only move elements.
        """
        for taken in reversed(path.taken[place:]):
            for op in reversed(taken.made):
                Rewriter.erase_op(op)
        rest = path.taken[place:]
        if place:
            last = path.taken[place - 1]
            (result,) = last.reader.results
            with building(InsertPoint.before(last.reader), last.reader.location) as made:
                dense = last.step.state.reconstruct()
            made[0].attributes[CHOSEN] = StringAttr(costs)
            dense.name_hint = result.name_hint
            result.replace_all_uses_with(dense)
            erase_dead(result)
            if path.forks and not rest:
                return dense, last.step.state
        if path.forks and rest and not any(taken.made for taken in rest):
            return rest[-1].reader.results[0], rest[-1].step.state
        return None


def _follow(state: State, use: Use) -> _Path:
    """Build the operations on the path of `use` on factors, as far as they are linear."""
    path = _Path(state, [], None, False)
    while True:
        reader = use.operation
        with building(InsertPoint.before(reader), reader.location) as made:
            step = take(state, use)
        if not isinstance(step, Step):
            path.refusal = None if step is None else (reader, step)
            return path
        path.taken.append(_Taken(reader, step, made))
        state = step.state
        uses = list(reader.results[0].uses)
        if len(uses) != 1:
            path.forks = len(uses) > 1
            return path
        use = uses[0]
