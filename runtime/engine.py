"""What the two engines have in common: checks before an instruction, decisions, and the table of meanings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.access import check_access
from runtime.arithmetic import Single, with_one_nan
from runtime.instructions import BY_MNEMONIC, Unit
from runtime.machine import Machine
from runtime.operands import Values
from runtime.sequencer import Issue

Array = NDArray[Any]


class Engine(ABC):
    """The state of the machine while one stream runs; carries out its instructions one after another."""

    machine: Machine
    """The rectangle of the stream."""
    scalars: Single
    """[register, …], the clusters row by row of the grid: each cluster's scalar registers."""
    global_memory: Array
    """The machine's global memory, which streams side by side have in common."""

    @property
    @abstractmethod
    def bank_bytes(self) -> int:
        """Bytes of each bank."""

    @abstractmethod
    def carry_out(self, issue: Issue) -> None:
        """Carry out one instruction that `check_access` has passed; those of control are the sequencer's.

        NumPy's floating-point warnings are off where this is called: infinities and NaNs are values of the machine.
        """

    def execute(self, issue: Issue) -> None:
        """Check and carry out one instruction.

        Raises:
            MachineFault: memory that the instruction may not touch.
        """
        check_access(issue, self.machine, self.bank_bytes)
        with np.errstate(all="ignore"):
            self.carry_out(issue)

    def leaves(self, issue: Issue) -> bool:
        """Whether an `exit.ngt` leaves: the scalars of the first cluster decide."""
        a, b = (self.scalars[int(issue.values[name])].flat[0] for name in ("a", "b"))
        return not a > b


E = TypeVar("E", bound=Engine)
Meaning = Callable[[E, Values], None]
MeaningAlong = Callable[[E, Values, int], None]
"""Also takes an axis of the grid: 1, along which the clusters of a row lie, for the form `.row`, and 0 for `.col`."""


class Meanings(Generic[E]):
    """How an engine carries out each instruction; scalar arithmetic, the same in all engines, is included."""

    def __init__(self) -> None:
        self._by_mnemonic: dict[str, Meaning[E]] = {
            mnemonic: partial(_compute_scalar, mnemonic) for mnemonic in _SCALAR_FUNCTIONS
        }
        self._by_mnemonic["s.li"] = _set_scalar

    def of(self, issue: Issue) -> Meaning[E] | None:
        """The meaning of an instruction; None for those of control."""
        return self._by_mnemonic.get(issue.mnemonic)

    def executes(self, mnemonic: str) -> Callable[[Meaning[E]], Meaning[E]]:
        """Decorates the meaning of an instruction."""

        def register(meaning: Meaning[E]) -> Meaning[E]:
            self._by_mnemonic[mnemonic] = meaning
            return meaning

        return register

    def along(self, name: str) -> Callable[[MeaningAlong[E]], MeaningAlong[E]]:
        """Decorates the meaning of both `name.row` and `name.col`."""

        def register(meaning: MeaningAlong[E]) -> MeaningAlong[E]:
            self._by_mnemonic[f"{name}.row"] = lambda engine, v: meaning(engine, v, 1)
            self._by_mnemonic[f"{name}.col"] = lambda engine, v: meaning(engine, v, 0)
            return meaning

        return register

    def check(self) -> None:
        """Raise `ValueError` where the table has an instruction without a meaning here, or the other way round."""
        wanted = {name for name, instruction in BY_MNEMONIC.items() if instruction.unit is not Unit.CONTROL}
        if wanted != set(self._by_mnemonic):
            raise ValueError(f"meanings do not match the table: {sorted(wanted ^ set(self._by_mnemonic))}")


def _larger(a: Single, b: Single) -> Array:
    return np.where(a > b, a, b)


def _where_larger(a: Single, b: Single, c: Single) -> Array:
    return np.where(a > b, c, np.float32(0))


def _reciprocal_sqrt(a: Single) -> Array:
    return 1 / np.sqrt(a.astype(np.float64))


_SCALAR_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "s.mul": np.multiply,
    "s.div": np.divide,
    "s.max": _larger,
    "s.where": _where_larger,
    "s.rsqrt": _reciprocal_sqrt,
}
"""Of the scalar registers that an instruction reads, in the table's order."""


def _compute_scalar(mnemonic: str, engine: Engine, v: Values) -> None:
    registers = (engine.scalars[int(v[name])] for name in BY_MNEMONIC[mnemonic].scalars_read)
    engine.scalars[int(v["d"])] = with_one_nan(_SCALAR_FUNCTIONS[mnemonic](*registers).astype(np.float32))


def _set_scalar(engine: Engine, v: Values) -> None:
    engine.scalars[int(v["d"])] = with_one_nan(np.asarray(v["value"], np.float32))
