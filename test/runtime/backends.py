"""Runs a module by every back end of the executor and holds the results against each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from runtime.executor import Executor
from runtime.executor_arrays import NUMPY, Arrays, NumpyArrays
from runtime.executor_torch import TorchArrays

FEW = 5
"""Points of a part where parts are tested: shapes of a real model have parts, those of tests would have none."""

BACKENDS: dict[str, Arrays] = {
    "numpy": NUMPY,
    "numpy in parts": NumpyArrays(part=FEW),
    "torch": TorchArrays(),
    "torch in parts": TorchArrays(part=FEW),
}
# Libraries differ in the last places of functions and in the order of sums.
TOLERANCES = {2: (4e-3, 1e-3), 4: (2e-5, 1e-5), 8: (1e-10, 1e-10)}


def run_all(module: ModuleOp, weights: Mapping[str, Any], *arguments: Any, **options: Any) -> tuple[Any, ...]:
    """The results of `main` by NumPy, after a check that those of all others are near."""
    wanted: tuple[Any, ...] | None = None
    for name, arrays in BACKENDS.items():
        results = Executor(module, weights, arrays=arrays, **options).run("main", *arguments)
        wanted = wanted or results
        assert len(results) == len(wanted), name
        for result, expected in zip(results, wanted, strict=True):
            assert_near(result, expected, name)
    assert wanted is not None
    return wanted


def assert_near(result: Any, expected: Any, what: str) -> None:
    """Both of one shape and element type, and as near as libraries are."""
    first, second = np.asarray(result), np.asarray(expected)
    assert (first.shape, first.dtype) == (second.shape, second.dtype), what
    if first.dtype.kind in "biu":
        np.testing.assert_array_equal(first, second, what)
    else:
        relative, absolute = TOLERANCES[first.dtype.itemsize]
        wide = (x.astype(np.float64) for x in (first, second))
        np.testing.assert_allclose(*wide, rtol=relative, atol=absolute, err_msg=what)
