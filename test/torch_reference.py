"""Decomposed execution of a transformers Llama in float32 torch, written without dcomc's executor or its Lanczos.

The linear layers of chosen sites are replaced while a context is open. For each prompt they keep the strongest
channels of their input exact, factor the rest, and multiply the factors in the order of the paper's Eq. 6.
Only the weights of the start vector come from the project: they are a convention, and not arithmetic.
"""

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from runtime.lanczos import start_weights

SITES = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""The linear layers of a decoder layer that share one input, by the site's name."""

Factorise = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Takes one prompt's activations [S, H], returns U [S, R], core [R, R], V [R, H] with U core V close to them."""


def lanczos(rank: int, iterations: int | None = None, seed: int = 0) -> Factorise:
    """Lanczos bidiagonalisation with two passes of Gram-Schmidt, cut to `rank` by the SVD of the bidiagonal.

    Args:
        rank: R.
        iterations: Lanczos steps (default: rank + 5).
        seed: of the start vector.
    """
    steps = rank + 5 if iterations is None else iterations

    def orthogonal(vector: Tensor, basis: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The unit vector of what `basis` leaves of `vector`, and its length before it was scaled."""
        for _ in range(2 if basis else 0):
            known = torch.stack(basis)
            vector = vector - known.T @ (known @ vector)
        length = torch.linalg.vector_norm(vector)
        return vector / length, length

    def factorise(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left: list[Tensor] = []
        right: list[Tensor] = []
        bidiagonal = a.new_zeros(steps, steps)
        next_right = a.T @ torch.from_numpy(start_weights(a.shape[0], seed)).to(a.dtype)
        for step in range(steps):
            vector, beta = orthogonal(next_right, right)
            if step:
                bidiagonal[step - 1, step] = beta
            right.append(vector)
            vector, bidiagonal[step, step] = orthogonal(a @ vector, left)
            left.append(vector)
            next_right = a.T @ vector
        p, sigma, q = torch.linalg.svd(bidiagonal)
        return (
            torch.stack(left, 1) @ p[:, :rank],
            torch.diag(sigma[:rank]),
            q[:rank] @ torch.stack(right),
        )

    return factorise


def truncated_svd(rank: int) -> Factorise:
    """The best factors of that rank (Eckart-Young)."""

    def factorise(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, sigma, v = torch.linalg.svd(a, full_matrices=False)
        return u[:, :rank], torch.diag(sigma[:rank]), v[:rank]

    return factorise


def nothing(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank 0: of the activations only the exact channels are left."""
    return a.new_zeros(a.shape[0], 0), a.new_zeros(0, 0), a.new_zeros(0, a.shape[1])


def multiply(x: Tensor, weight: Tensor, percent: float, factorise: Factorise) -> Tensor:
    """The product of one prompt's activations with a weight, in factors and exact channels.

    Args:
        x: [S, H].
        weight: [N, H].
        percent: of the H channels that are kept exact, rounded up; those with the largest sum of squares.
        factorise: gives the factors of the rest.

    Returns:
        [S, N].
    """
    count = math.ceil(percent * x.shape[1] / 100)
    exact = x.square().sum(0).argsort(descending=True, stable=True)[:count]
    rest = x.clone()
    rest[:, exact] = 0
    u, core, v = factorise(rest)
    return u @ (core @ (v @ weight.T)) + x[:, exact] @ weight[:, exact].T


@contextmanager
def decomposed(
    model: Any, layers: Iterable[int], sites: Iterable[str], percent: float, factorise: Factorise
) -> Generator[None]:
    """While open, the linear layers of `sites` in `layers` of a transformers Llama work on factors."""

    def replace(linear: torch.nn.Linear) -> Callable[[Tensor], Tensor]:
        return lambda batch: torch.stack([multiply(x, linear.weight, percent, factorise) for x in batch])

    names = [name for site in sites for name in SITES[site]]
    with ExitStack() as stack:
        for layer in layers:
            for name in names:
                linear = model.model.layers[layer].get_submodule(name)
                stack.enter_context(patch.object(linear, "forward", replace(linear)))
        yield


@contextmanager
def skipped(model: Any, layers: Iterable[int]) -> Generator[None]:
    """While open, `layers` of a transformers Llama pass on what they are given."""
    with ExitStack() as stack:
        for layer in layers:
            module = model.model.layers[layer]
            stack.enter_context(patch.object(module, "forward", lambda hidden, *_, **__: hidden))
        yield


def perplexity(model: Any, tokens: list[int]) -> float:
    """exp of the mean negative log-likelihood of tokens[1:], each given the ones before it."""
    ids = torch.tensor([tokens])
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[0, :-1]
        return math.exp(torch.nn.functional.cross_entropy(logits.double(), ids[0, 1:]))
