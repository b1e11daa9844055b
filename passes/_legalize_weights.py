"""Products with the weights of `dcom`, dense or in factors, in Level 0 operations."""

from typing import NamedTuple

from xdsl.ir import SSAValue

from passes._build import contract


class WeightFactors(NamedTuple):
    """A weight as U core V: U [H, P], core [P, Q] and V [Q, N], of the element type."""

    u: SSAValue
    core: SSAValue
    v: SSAValue


def times(letters: str, x: SSAValue, weight: SSAValue | WeightFactors) -> SSAValue:
    """x [letters, H] W, float32: in one product, or factor by factor."""
    if isinstance(weight, WeightFactors):
        return contract(f"{letters}q,qn->{letters}n", times_core(letters, x, weight), weight.v)
    return contract(f"{letters}h,hn->{letters}n", x, weight)


def times_core(letters: str, x: SSAValue, weight: WeightFactors) -> SSAValue:
    """(x U) core: all but the last factor, float32."""
    return contract(f"{letters}p,pq->{letters}q", contract(f"{letters}h,hp->{letters}p", x, weight.u), weight.core)
