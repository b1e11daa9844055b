"""The torch back end's own arithmetic against NumPy's."""

import numpy as np
import pytest
import torch

from runtime.attention_torch import LEAST_TOKENS
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


@pytest.mark.parametrize("element", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [None, 1, 100, 700])
def test_attention_in_blocks_is_attention(element: torch.dtype, window: int | None) -> None:
    """Two prompts whose last block is not whole, three heads to a key, values not as wide as the keys."""
    torch.manual_seed(0)
    batch, groups, shared, tokens, width = 2, 2, 3, LEAST_TOKENS + 45, 16
    q = torch.randn(batch, groups, shared, tokens, width).to(element)
    k, v = (torch.randn(batch, groups, tokens, size).to(element) for size in (width, 8))
    attention = TorchArrays().attention
    assert attention is not None
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen = (distance >= 0) & (distance < (window or tokens))
    scores = torch.where(seen, q.double() @ k.double()[:, :, None].mT * 0.25, -torch.inf)
    exact = (torch.softmax(scores, -1) @ v.double()[:, :, None]).permute(0, 3, 1, 2, 4)
    found = attention(q, k, v, 0.25, window)
    assert found.dtype == torch.float32
    rounding = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[element]
    torch.testing.assert_close(found.double(), exact, rtol=rounding, atol=rounding)
