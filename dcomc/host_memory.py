"""What a model needs of each GPU's memory: weights, activations while a layer runs, the cache of keys and values."""

from collections.abc import Sequence
from dataclasses import dataclass

from dcomc.gpu_model import Kernel
from dcomc.host_kernels import Step


@dataclass(frozen=True)
class Memory:
    """Bytes of each of the GPUs."""

    weights: int
    """Embeddings and norms are cut over the GPUs as projections are."""
    kv_cache: int
    """Keys and values of all tokens and layers."""
    layers: tuple[tuple[int, int], ...]
    """The most activations that live at once in each layer, by its number."""
    outside: int
    """The same outside of the layers: embedding, last norm, logits."""

    @property
    def activations(self) -> int:
        """The most that live at once anywhere."""
        return max([self.outside, *(size for _, size in self.layers)])

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.activations


def memory(steps: Sequence[Step], weight_bytes: int, share: float, tensor_parallel: int) -> Memory:
    """The memory of a model whose whole batch goes through together.

    A result lives from its kernel until the last that reads it.

    Args:
        steps: of the model.
        share: the batch over that of the program.
    """
    last = {need: number for number, step in enumerate(steps) for need in step.kernel.needs}
    most: dict[int | None, int] = {}
    live: dict[int, int] = {}
    for number, step in enumerate(steps):
        live[number] = _part(step.kernel, round(step.kernel.output_bytes * share), tensor_parallel)
        most[step.layer] = max(most.get(step.layer, 0), sum(live.values()))
        for done in [made for made in live if last.get(made, len(steps)) == number]:
            del live[done]
    cached = sum(step.kernel.cached_bytes for step in steps)
    return Memory(
        weight_bytes // tensor_parallel,
        round(cached * share) // tensor_parallel,
        tuple(sorted((layer, size) for layer, size in most.items() if layer is not None)),
        most.get(None, 0),
    )


def _part(kernel: Kernel, size: int, tensor_parallel: int) -> int:
    """What one GPU holds of a kernel's result; exchanges and sums work in place."""
    if kernel.accumulates or kernel.kind in ("all_reduce", "all_gather"):
        return 0
    return size // tensor_parallel if kernel.shard in ("column", "both") else size
