"""The decomposition in torch against its definition in NumPy."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch

from runtime import lanczos, lanczos_kernel, lanczos_large, lanczos_torch, shares
from runtime.lanczos import Factored


def decompose(x: np.ndarray, batch: int, rank: int, iterations: int, **options: Any) -> Factored:
    """In torch, as NumPy's arrays."""
    found = lanczos_torch.decompose(torch.from_numpy(x), batch, rank, iterations, **options)
    return Factored(*(part.numpy() for part in (found.u, found.core, found.v)))


def blocks(count: int, rows: int, cols: int) -> np.ndarray:
    """Blocks one after another, with singular values that fall by a tenth each."""
    random = np.random.default_rng(rows + cols)
    terms = min(rows, cols)
    left = np.linalg.qr(random.standard_normal((count, rows, terms)))[0]
    right = np.linalg.qr(random.standard_normal((count, cols, terms)))[0]
    return (left * 0.9 ** np.arange(terms) @ right.swapaxes(1, 2)).astype(np.float32).reshape(count * rows, cols)


@pytest.mark.parametrize(("rows", "cols"), [(24, 40), (40, 24), (9, 9)])
@pytest.mark.parametrize(("rank", "iterations"), [(1, 1), (4, 4), (4, 8)])
@pytest.mark.parametrize(("seed", "modified"), [(7, False), (7, True), (None, False)])
def test_factors_are_those_of_the_definition(
    rows: int, cols: int, rank: int, iterations: int, seed: int | None, modified: bool
) -> None:
    x = blocks(3, rows, cols)
    options: dict[str, Any] = {"seed": seed, "reorthogonalisation": 1, "modified": modified}
    expected = lanczos.decompose(x, 3, rank, iterations, **options)
    factors = decompose(x, 3, rank, iterations, **options)
    for part in ("u", "core", "v"):
        found, wanted = getattr(factors, part), getattr(expected, part)
        assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    np.testing.assert_allclose(factors.reconstruct(), expected.reconstruct(), atol=1e-4)
    np.testing.assert_allclose(np.abs(factors.core), np.abs(expected.core), atol=1e-4)


def test_each_block_breaks_down_by_itself() -> None:
    """Blocks of rank 3, of rank 0, of full rank, and of rank 6 among 4 kept."""
    random = np.random.default_rng(0)
    products = [random.standard_normal((16, rank)) @ random.standard_normal((rank, 20)) for rank in (3, 0, 16, 6)]
    x = np.concatenate(products).astype(np.float32)
    expected = lanczos.decompose(x, 4, 4, 9)
    factors = decompose(x, 4, 4, 9)
    np.testing.assert_allclose(factors.reconstruct(), expected.reconstruct(), atol=1e-3)
    assert not factors.u[0][:, 3:].any() and factors.u[0][:, :3].any()
    assert not any(part[1].any() for part in (factors.u, factors.core, factors.v))
    assert np.abs(factors.reconstruct()[:16] - products[0]).max() < 1e-3


def spectrum(values: np.ndarray, noise: float = 0.0, mean: float = 0.0) -> np.ndarray:
    """[1024, 1100], large enough to be read once a step, with some singular values."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.standard_normal((n, len(values))))[0] for n in (1024, 1100))
    x = (left * values) @ right.T + noise * random.standard_normal((1024, 1100)) + mean * random.standard_normal(1100)
    return x.astype(np.float32)


@pytest.mark.parametrize(
    "x",
    [
        spectrum(0.8 ** np.arange(100)),
        spectrum(0.5 ** np.arange(40)),
        spectrum(np.array([1000.0, 900.0, 1.0]), noise=1e-3),
        spectrum(np.ones(1), noise=1.0, mean=30.0),
        spectrum(np.array([4.0, 3.0, 2.0])),
    ],
    ids=["slow decay", "fast decay", "cliff", "mean token", "breakdown"],
)
@pytest.mark.parametrize(("passes", "modified"), [(2, False), (1, True), (0, False)])
@pytest.mark.parametrize("growth", [0.0, 64.0])
def test_a_large_matrix_read_once_a_step_gives_the_same(
    x: np.ndarray, passes: int, modified: bool, growth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanczos_large, "_GROWTH", growth)  # 0: each product with the transpose is computed from A
    options: dict[str, Any] = {"reorthogonalisation": passes, "modified": modified}
    expected = lanczos.decompose(x, 1, 6, 11, **options).reconstruct()
    found = decompose(x, 1, 6, 11, **options).reconstruct()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_large_blocks_break_down_each_by_itself() -> None:
    x = np.concatenate([spectrum(np.array([4.0, 3.0])), np.zeros((1024, 1100), np.float32), spectrum(np.ones(9))])
    expected = lanczos.decompose(x, 3, 4, 6).reconstruct()
    np.testing.assert_allclose(decompose(x, 3, 4, 6).reconstruct(), expected, atol=1e-5)


@pytest.mark.parametrize("growth", [0.0, 64.0])
def test_a_large_bfloat16_matrix_is_read_as_it_is(growth: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decomposed as the same numbers in float32 are, in the same blocks; their rows do not share out evenly."""
    monkeypatch.setattr(lanczos_large, "_GROWTH", growth)
    x = torch.from_numpy(spectrum(0.8 ** np.arange(100))[:1002]).bfloat16()
    given = torch.cat([x, -0.5 * x])
    found, expected = lanczos_torch.decompose(given, 2, 6, 11), lanczos_torch.decompose(given.float(), 2, 6, 11)
    for part, wanted in zip((found.u, found.core, found.v), (expected.u, expected.core, expected.v), strict=True):
        assert part.dtype == torch.float32
        torch.testing.assert_close(part, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_blocks_do_not_depend_on_the_threads(dtype: torch.dtype) -> None:
    """Not one bit: shares of the rows are the same, whoever reads them; here twice as many threads as shares."""
    x = torch.from_numpy(spectrum(0.8 ** np.arange(100))).to(dtype).reshape(2, 512, -1)
    squares = x.float().square().sum(1).numpy()
    hidden = squares > np.median(squares, 1, keepdims=True)

    def hide(found: np.ndarray) -> np.ndarray:
        np.testing.assert_allclose(found, squares, rtol=1e-5)
        return hidden

    options: dict[str, Any] = {"reorthogonalisation": 1, "modified": False, "hide": hide}
    start, a = lanczos.start_vector(512, 0, np.dtype(np.float32)), lanczos_torch.bits(x)
    alone, *others = (lanczos_large.bidiagonalise(a, start, 9, threads=threads, **options) for threads in (1, 2, 16))
    for parts in others:
        for part, expected in zip(parts, alone, strict=True):
            np.testing.assert_array_equal(part, expected)
    assert not alone[2].transpose(0, 2, 1)[hidden].any() and alone[2].transpose(0, 2, 1)[~hidden].all()


def test_no_thread_stays_awake_where_others_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the interpreter ends, or an interrupt comes between two of them: the first would spin for ever."""
    teams: list[Any] = []

    class Pool:
        def submit(self, work: Callable[[Any], None], team: Any) -> Future[None]:
            teams.append(team)
            if len(teams) > 1:
                raise RuntimeError
            return shares.pool().submit(work, team)

    monkeypatch.setattr(lanczos_large, "pool", Pool)
    a, start = blocks(1, 1024, 96).reshape(1, 1024, 96), lanczos.start_vector(1024, 0, np.dtype(np.float32))
    options: dict[str, Any] = {"reorthogonalisation": 1, "modified": False, "hide": None}
    try:
        with pytest.raises(RuntimeError):
            lanczos_large.bidiagonalise(a, start, 3, threads=3, **options)
        assert teams[0].counters[lanczos_kernel.STOP]
    finally:
        teams[0].counters[lanczos_kernel.STOP] = 1
