"""The torch back end's own arithmetic against NumPy's."""

import numpy as np
import pytest
import torch

from runtime.executor_arrays import FLOAT
from runtime.executor_torch import TorchArrays

Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((600, 70), (70, 300)),  # large enough for oneDNN, as are the next four
        ((3, 200, 70), (70, 300)),
        ((3, 200, 70), (1, 70, 300)),
        ((1, 200, 70), (1, 70, 300)),
        ((1, 5000), (5000, 60)),
        ((2, 200, 70), (2, 70, 300)),
        ((2, 200, 70), (1, 2, 70, 300)),
        ((4, 5), (5, 6)),
        ((2, 0, 5), (5, 6)),
        ((2, 4, 0), (0, 6)),
    ],
)
def test_products_of_all_shapes(left: Shape, right: Shape) -> None:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in (left, right))
    arrays = TorchArrays()
    by_columns = torch.from_numpy(np.ascontiguousarray(b.swapaxes(-1, -2))).mT
    wide = torch.from_numpy(np.pad(a, [(0, 0)] * (a.ndim - 1) + [(3, 5)]))[..., 3 : 3 + a.shape[-1]]
    for x, y in ((torch.from_numpy(a), torch.from_numpy(b)), (torch.from_numpy(a), by_columns), (wide, by_columns)):
        found = arrays.product(x, y, FLOAT)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(arrays.to_numpy(found), a.astype(np.float64) @ b, atol=1e-4)


def test_a_product_passes_gradients_on() -> None:
    a = torch.ones(600, 70, requires_grad=True)
    TorchArrays().product(a, torch.full((70, 300), 2.0), FLOAT).sum().backward()
    assert a.grad is not None and a.grad[0, 0] == 600
