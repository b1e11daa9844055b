"""Kernels of `dcom` on weights in factors."""

from dataclasses import dataclass
from typing import cast

from xdsl.ir import Operation

from dialects import dcom
from runtime.executor_arrays import FLOAT, Arrays, Value
from runtime.executor_block import Builder, Host, Kernel, element_dtype


@dataclass(frozen=True)
class WeightFactors:
    """A weight [H, N] as U core V, in the back end's arrays; products are float32."""

    arrays: Arrays
    u: Value
    """[H, P]"""
    core: Value
    """[P, Q]"""
    v: Value
    """[Q, N]"""

    def __getitem__(self, rows: Value) -> Value:
        """Rows of the weight, [..., N] of indices [...]."""
        return self.after_u(self.u[rows]) @ self._wide(self.v)

    def after(self, x: Value) -> Value:
        """x W, [..., N] of x [..., H]."""
        return self.after_core(x) @ self._wide(self.v)

    def after_core(self, x: Value) -> Value:
        """(x U) core, [..., Q] of x [..., H]."""
        return self.after_u(self._wide(x) @ self._wide(self.u))

    def after_u(self, x: Value) -> Value:
        """x core, [..., Q] of x [..., P]."""
        return self._wide(x) @ self._wide(self.core)

    def _wide(self, x: Value) -> Value:
        return self.arrays.cast(x, FLOAT)


def _weight(op: dcom.WeightOp, host: Host) -> Kernel:
    def kernel(u: Value, core: Value, v: Value) -> tuple[WeightFactors]:
        return (WeightFactors(host.arrays, u, core, v),)

    return kernel


def _weight_matmul(op: dcom.WeightMatmulOp, host: Host) -> Kernel:
    """The one product of a factored weight that is as long as the activation."""
    dtype = element_dtype(op.result.type, op)

    def kernel(x: Value, weight: WeightFactors) -> tuple[Value]:
        return (host.arrays.cast(weight.after(x), dtype),)

    return kernel


BUILDERS: dict[type[Operation], Builder] = {
    dcom.WeightOp: cast(Builder, _weight),
    dcom.WeightMatmulOp: cast(Builder, _weight_matmul),
}
"""The operations of `dialects/dcom_weights.py`."""
