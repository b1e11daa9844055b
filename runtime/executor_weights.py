"""Kernels of `dcom` on weights in factors."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime.executor_arrays import Array, Value
from runtime.executor_block import Builder, Host, Kernel, element_dtype

_FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class WeightFactors:
    """A weight [H, N] as U core V, in NumPy's arrays; products are float32."""

    u: Array
    """[H, P]"""
    core: Array
    """[P, Q]"""
    v: Array
    """[Q, N]"""

    def __getitem__(self, rows: Array) -> Array:
        """Rows of the weight, [..., N] of indices [...]."""
        return _wide(self.u[rows]) @ _wide(self.core) @ _wide(self.v)

    def after(self, x: Array) -> Array:
        """x W, [..., N] of x [..., H]."""
        return self.after_core(x) @ _wide(self.v)

    def after_core(self, x: Array) -> Array:
        """(x U) core, [..., Q] of x [..., H]."""
        return x @ _wide(self.u) @ _wide(self.core)


def _wide(x: Array) -> Array:
    return x.astype(_FLOAT, copy=False)


def _weight(op: dcom.WeightOp, host: Host) -> Kernel:
    def kernel(u: Array, core: Array, v: Array) -> tuple[WeightFactors]:
        return (WeightFactors(u, core, v),)

    return host.arrays.kernel(kernel)


def _weight_matmul(op: dcom.WeightMatmulOp, host: Host) -> Kernel:
    """In the back end's library: the one product of a factored weight that is as long as the activation."""
    arrays, dtype = host.arrays, element_dtype(op.result.type, op)
    matmul = arrays.function(np.matmul)

    def kernel(x: Value, weight: WeightFactors) -> tuple[Value]:
        product = arrays.cast(x, _FLOAT)
        for factor in (weight.u, weight.core, weight.v):
            product = matmul(product, arrays.cast(arrays.from_numpy(factor), _FLOAT))
        return (arrays.cast(product, dtype),)

    return kernel


BUILDERS: dict[type[Operation], Builder] = {
    dcom.WeightOp: cast(Builder, _weight),
    dcom.WeightMatmulOp: cast(Builder, _weight_matmul),
}
"""The operations of `dialects/dcom_weights.py`."""
