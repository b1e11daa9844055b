"""The torch back end's own arithmetic against NumPy's."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime import attention_kernel, executor_torch
from runtime.attention_torch import LEAST_TOKENS, torch_is_faster
from runtime.executor_arrays import FLOAT, column_squares, scale_rows, split_columns, take_rows
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


@pytest.fixture(params=[False, True], ids=["ours", "torch"])
def faster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever attention is the faster one on another processor; float16 is always ours."""
    monkeypatch.setattr(executor_torch, "torch_is_faster", lambda dtype: request.param and dtype != torch.float16)


def test_torch_says_whether_a_processor_multiplies_tiles() -> None:
    """By the name that is asked for."""
    assert platform.machine() != "x86_64" or "amx_bf16" in torch.cpu.get_capabilities()
    assert not torch_is_faster(torch.float32)


def exact_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int) -> torch.Tensor:
    """In float64, of all scores at once."""
    place = torch.arange(q.shape[3])
    distance = place[:, None] - place
    seen = (distance >= 0) & (distance < window)
    scores = torch.where(seen, q.double() @ k.double()[:, :, None].mT * scale, -torch.inf)
    return (torch.softmax(scores, -1) @ v.double()[:, :, None]).permute(0, 3, 1, 2, 4)


ROUNDINGS = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 1e-5}
"""Half a unit in the last place of what the values are multiplied by; float16 is widened."""


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("element", ROUNDINGS)
@pytest.mark.parametrize("window", [None, 1, 100, 700])
@pytest.mark.parametrize(("width", "values"), [(16, 8), (128, 128), (7, 33)])
def test_attention_in_blocks_is_attention(element: torch.dtype, window: int | None, width: int, values: int) -> None:
    """Two prompts of odd length, whose last block is not whole, three heads to a key, values as wide as keys or not."""
    torch.manual_seed(0)
    batch, groups, shared, tokens = 2, 2, 3, LEAST_TOKENS + 45
    q = torch.randn(batch, groups, shared, tokens, width).to(element)
    k = torch.randn(batch, groups, tokens, width).to(element)
    v = torch.randn(batch, tokens, groups, values).to(element).transpose(1, 2)  # as programs have them
    found = attend_to(q, k, v, 0.25, window)
    assert found.dtype == torch.float32
    exact, rounding = exact_attention(q, k, v, 0.25, window or tokens), ROUNDINGS[element]
    torch.testing.assert_close(found.double(), exact, rtol=rounding, atol=rounding)


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("element", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [30.0, -30.0, 0.0])
@pytest.mark.parametrize("tokens", [LEAST_TOKENS, 50])
def test_attention_of_large_scores(element: torch.dtype, scale: float, tokens: int) -> None:
    """A few keys have all of the weight, and which they are changes from block to block."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, tokens, 32).to(element) for _ in range(3))
    found = attend_to(q[:, :, None], k, v, scale)
    exact = exact_attention(q[:, :, None], k, v, scale, tokens)
    torch.testing.assert_close(found.double(), exact, rtol=4e-3, atol=4e-3)


def attend_to(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None = None
) -> torch.Tensor:
    attention = TorchArrays().attention
    assert attention is not None
    return attention(q, k, v, scale, window)


def test_attention_where_no_instruction_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is widened then, which rounds less."""
    monkeypatch.setattr(attention_kernel, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(executor_torch, "torch_is_faster", lambda dtype: False)
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, LEAST_TOKENS, 16).bfloat16() for _ in range(3))
    exact = exact_attention(q[:, :, None], k, v, 0.25, LEAST_TOKENS)
    torch.testing.assert_close(attend_to(q[:, :, None], k, v, 0.25).double(), exact, rtol=1e-5, atol=1e-5)


def test_numba_may_be_told_of_another_processor() -> None:
    """Of an instruction that it lacks LLVM makes no code, and ends the process."""
    asked = "from runtime.attention_kernel import multiplies_bfloat16; print(multiplies_bfloat16())"
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic"}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_process_that_compiles_attention_computes_the_same_bits(tmp_path: Path) -> None:
    """As those after it, which find the code on disk."""
    asked = """if True:
        import torch
        from runtime.executor_torch import TorchArrays
        torch.manual_seed(0)
        q, k, v = (torch.randn(1, 1, *shared, 512, 32) for shared in ((1,), (), ()))
        print(TorchArrays("cpu").attention(q, k, v, 0.2, None).numpy().tobytes().hex())
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert list(tmp_path.rglob("attention_kernel._attend*.nbc")), "the first has left code"
    assert len(first.stdout) > 100 and first.stdout == second.stdout


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("element", [torch.float32, torch.bfloat16])
def test_what_attention_sees_of_what_is_no_number(element: torch.dtype) -> None:
    """A query with a NaN gives one, and the others do not see it; a key with one spoils those that see it."""
    q, k, v = (torch.ones(1, 1, LEAST_TOKENS, 16, dtype=element) for _ in range(3))
    q[0, 0, 40] = torch.nan
    k[0, 0, 300] = torch.nan
    lost = attend_to(q[:, :, None], k, v, 1.0)[0, :, 0, 0, 0].isnan()
    assert lost.nonzero()[:, 0].tolist() == [40, *range(300, LEAST_TOKENS)]


@pytest.mark.parametrize("element", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 9, 5), (2, 1025, 520), (1, 2050, 513)])  # the last two are read by a kernel
def test_squares_of_columns(element: torch.dtype, shape: Shape) -> None:
    torch.manual_seed(0)
    x, arrays = torch.randn(shape).to(element), TorchArrays()
    exact = x.double().square().sum(1)
    found = arrays.function(column_squares)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
    by_numpy = column_squares(arrays.to_numpy(x))
    torch.testing.assert_close(torch.from_numpy(by_numpy).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("element", [torch.float32, torch.bfloat16])
def test_rows_and_columns_that_are_chosen(element: torch.dtype) -> None:
    """Of a weight as programs have it, a transpose, and of a plain one; what they are taken from stays as it was."""
    torch.manual_seed(0)
    arrays, indices = TorchArrays(), np.array([[3, 0, 3], [6, 2, 1]])
    for weight in (torch.randn(5, 7).to(element).mT, torch.randn(7, 5).to(element)):
        found = arrays.function(take_rows)(weight, torch.from_numpy(indices))
        expected = take_rows(arrays.to_numpy(weight), indices)
        np.testing.assert_array_equal(arrays.to_numpy(found), expected)


@pytest.mark.parametrize("element", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 4, 7), (2, 1025, 520)])  # the last is read by a kernel
def test_columns_taken_apart(element: torch.dtype, shape: Shape) -> None:
    """By torch as by NumPy; what they are taken from stays as it was."""
    torch.manual_seed(0)
    arrays, x = TorchArrays(), torch.randn(shape).to(element)
    before, indices, counts = x.clone(), torch.tensor([[3, 0, 6], [5, 0, 0]]), torch.tensor([3, 0])
    values, rest = arrays.function(split_columns)(x, indices, counts)
    expected = split_columns(*map(arrays.to_numpy, (x, indices, counts)))
    for found, exact in zip((values, rest), expected, strict=True):
        np.testing.assert_array_equal(arrays.to_numpy(found), exact)
    assert torch.equal(x, before) and torch.equal(rest[1], x[1]) and not values[1].any()
    assert torch.equal(values[0], x[0][:, [3, 0, 6]]) and not rest[0][:, [3, 0, 6]].any()


def test_large_weights_columns_in_any_order() -> None:
    weight, indices = torch.randn(2050, 520), torch.randperm(520)[:100].reshape(1, 100)
    found = TorchArrays().function(take_rows)(weight.mT, indices)
    assert torch.equal(found, weight.mT[indices])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("diagonal", [True, False])
def test_rows_scaled_by_a_core(diagonal: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    core, v = torch.diag_embed(torch.rand(2, 3)), torch.randn(2, 3, 8).to(dtype)
    core[1, 0, 2] = 0 if diagonal else 1
    found = TorchArrays().function(scale_rows)(core, v)
    torch.testing.assert_close(found, (core @ v.float()).to(found.dtype))
    assert found.dtype == (dtype if diagonal else torch.float32)
    np.testing.assert_allclose(found.float(), scale_rows(core.numpy(), TorchArrays().to_numpy(v)), rtol=4e-3)


def test_gradients_pass_the_columns_that_are_left() -> None:
    x = torch.ones(2, 3, 4, requires_grad=True)
    indices, counts = torch.tensor([[1, 2], [0, 3]]), torch.tensor([2, 1])
    TorchArrays().function(split_columns)(x, indices, counts)[1].sum().backward()
    assert x.grad is not None and x.grad[:, 0].tolist() == [[1, 0, 0, 1], [0, 1, 1, 1]]
