"""The loops of a structured operation, apart from how they are run."""

from dataclasses import dataclass
from typing import cast

from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineMap

_LONG = 64
"""Iterations of a loop that threads share about evenly."""


@dataclass(frozen=True)
class Nest:
    """A map over parallel loops; or, where there are others, a fold of each output over these."""

    space: tuple[int, ...]
    """The size of each loop."""
    maps: tuple[AffineMap, ...]
    """Of the operands; the last are outputs, accumulated into."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the operands; an output has that of its result."""
    body: Block
    parallel: tuple[int, ...]
    """The parallel loops, outermost first; the reduced ones are inside of them."""

    @property
    def yielded(self) -> tuple[SSAValue, ...]:
        assert self.body.last_op is not None
        return tuple(self.body.last_op.operands)

    @property
    def outputs(self) -> range:
        """Which operands are outputs."""
        return range(len(self.maps) - len(self.yielded), len(self.maps))

    @property
    def read(self) -> tuple[int, ...]:
        """Which operands are read."""
        return tuple(position for position, argument in enumerate(self.body.args) if argument.uses)

    @property
    def reduced(self) -> tuple[int, ...]:
        return tuple(loop for loop in range(len(self.space)) if loop not in self.parallel)

    @property
    def shared_loop(self) -> int:
        """The loop that threads share: the outermost that is no short one."""
        long = (loop for loop in self.parallel if self.space[loop] >= _LONG)
        return next(long, max(self.parallel, key=lambda loop: self.space[loop]))

    @property
    def operations(self) -> list[Operation]:
        """Those of the body, after those outside that it takes values from."""
        inside = {*self.body.args, *(result for op in self.body.ops for result in op.results)}
        used = [value.owner for op in self.body.ops for value in op.operands if value not in inside]
        return [*cast(dict[Operation, None], dict.fromkeys(used)), *self.body.ops]
