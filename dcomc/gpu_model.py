"""What kernels take on a GPU: a roofline with stated efficiencies, launches, tensor parallelism and its collectives."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Literal

from dcomc.costs import Work
from passes._roofline import Roofline
from runtime.gpu import Gpu

Kind = Literal["gemm", "attention", "stream", "all_reduce", "all_gather", "decompose"]
Shard = Literal["none", "column", "row", "both"]

_MMA_ROWS = 16
"""Rows that a tensor core takes at a time: a product of fewer is padded."""


@dataclass(frozen=True)
class LanczosWork:
    """Lanczos bidiagonalisation of matrices of one shape."""

    matrices: int
    """Prompts, or blocks of prompts."""
    rows: int
    cols: int
    iterations: int
    """k"""
    rank: int
    passes: int
    """Passes of Gram-Schmidt for each new vector."""
    gram_schmidt: str = "classical"
    """The method of a D-com's kernel, `classical` or `modified`; that of a GPU is an argument of `dcomc.gpu_lanczos`.
    """


@dataclass(frozen=True)
class Kernel:
    """One kernel of the host, over a whole batch, before it is cut over GPUs."""

    name: str
    kind: Kind
    flops: int = 0
    input_bytes: int = 0
    """Activations read."""
    weight_bytes: int = 0
    output_bytes: int = 0
    rows: int = 0
    """Rows of the output of a `gemm`."""
    width: int = 0
    """Columns of the output of a `gemm`."""
    shard: Shard = "none"
    """What tensor parallelism cuts: the output's columns, the rows that are summed over, or everything."""
    site: str = ""
    """The site that it belongs to; none for normalisation, attention and the like."""
    needs: tuple[int, ...] = ()
    """Indices of the kernels whose results it reads."""
    cached_bytes: int = 0
    """Bytes of keys and values, which generation keeps."""
    accumulates: bool = False
    """Whether it adds its output to what is there."""
    decomposition: LanczosWork | None = None
    """What a kernel of kind `decompose` decomposes, on the host or on a D-com."""
    chosen_bytes: int = 0
    """Bytes of the rows of the weights that the prompts choose by their exact channels, each its own; 0: all rows are
    read. Together they may be more than the weight has, which is then read once."""

    @property
    def read_weight_bytes(self) -> int:
        """Bytes of the weights that are read."""
        return min(self.chosen_bytes, self.weight_bytes) if self.chosen_bytes else self.weight_bytes

    def of_prompts(self, share: float | Fraction) -> "Kernel":
        """The kernel for that share of the prompts: the weights are still read whole, or as far as these choose."""
        found = self.decomposition
        return replace(
            self,
            flops=round(self.flops * share),
            input_bytes=round(self.input_bytes * share),
            chosen_bytes=round(self.chosen_bytes * share),
            output_bytes=round(self.output_bytes * share),
            rows=ceil(self.rows * share),
            decomposition=found and replace(found, matrices=ceil(found.matrices * share)),
        )


@dataclass(frozen=True)
class Host:
    """GPUs of one kind that share a model by tensor parallelism, as Megatron-LM cuts it."""

    gpu: Gpu
    tensor_parallel: int = 1
    graph: bool = False
    """Whether kernels are launched as nodes of a graph, or one by one."""
    optimism: float = 0.5
    """Where in each range of the GPU's description: 0 slowest, 0.5 the middle, 1 fastest."""
    element_bytes: int = 2
    """Bytes of an element of activations and weights: products of 2 run on tensor cores, those of 4 do not."""

    @property
    def launch_seconds(self) -> float:
        """Between one kernel and the next."""
        launch = self.gpu.launch
        return (launch.graph_seconds if self.graph else launch.eager_seconds).at(1 - self.optimism)

    @property
    def bytes_per_second(self) -> float:
        """The bandwidth of the memory, as kernels reach it."""
        return self.gpu.memory_bytes_per_second * self.gpu.stream.efficiency.at(self.optimism)

    @property
    def dcom_bytes_per_second(self) -> float:
        """The bandwidth of the link to a D-com."""
        return self.gpu.dcom_link.bytes_per_second.at(self.optimism)

    def launched(self, seconds: float) -> float:
        """A kernel with its launch: hidden behind the kernel before where that is longer, but for a graph's gap."""
        return seconds + self.launch_seconds if self.graph else max(seconds, self.launch_seconds)

    def seconds(self, kernel: Kernel) -> float:
        """What a kernel takes on each of the GPUs, its launch included."""
        work = self._work(kernel)
        match kernel.kind:
            case "all_reduce" | "all_gather":
                return self._collective(kernel)
            case "decompose":
                raise ValueError("a decomposition is many kernels: see dcomc.gpu_lanczos")
            case "gemm":
                flops = self._peak * self._gemm_share(kernel)
            case "attention":
                flops = self._peak * self.gpu.attention.efficiency.at(self.optimism)
            case "stream":
                flops = float("inf")
        return self.launched(Roofline(flops, self.bytes_per_second, "s").time([work]))

    @property
    def _peak(self) -> float:
        rates = self.gpu.flops_per_second
        return rates.half if self.element_bytes == 2 else rates.single

    def _work(self, kernel: Kernel) -> Work:
        """The work of one of the GPUs."""
        n = self.tensor_parallel
        reads, weights, writes = kernel.input_bytes, kernel.read_weight_bytes, kernel.output_bytes
        flops = kernel.flops if kernel.shard == "none" else kernel.flops // n
        match kernel.shard:
            case "none":
                moved = reads + weights + writes
            case "column":
                moved = reads + (weights + writes) // n
            case "row":
                moved = (reads + weights) // n + writes
            case "both":
                moved = (reads + weights + writes) // n
        return Work(flops, moved)

    def _gemm_share(self, kernel: Kernel) -> float:
        """The share of the peak: of the kernel itself, of the last wave of tiles, and of rows that are no padding.

        Fewer tiles than multiprocessors are cut along the summed dimension (split K), which fills them.
        """
        unit = self.gpu.gemm
        width = ceil(kernel.width / self.tensor_parallel) if kernel.shard in ("column", "both") else kernel.width
        tiles = ceil(kernel.rows / unit.tile_rows) * ceil(width / unit.tile_cols)
        waves = ceil(tiles / self.gpu.sms)
        full = tiles / (waves * self.gpu.sms) if tiles >= self.gpu.sms else 1.0
        used = kernel.rows / (_MMA_ROWS * ceil(kernel.rows / _MMA_ROWS)) if kernel.rows else 1.0
        return unit.efficiency.at(self.optimism) * full * used

    def _collective(self, kernel: Kernel) -> float:
        """A ring: 2 (n - 1) / n of the bytes over each link to reduce, half of that to gather."""
        n, ring = self.tensor_parallel, self.gpu.all_reduce
        if n == 1:
            return 0.0
        share = (2 if kernel.kind == "all_reduce" else 1) * (n - 1) / n
        moved = kernel.output_bytes + kernel.read_weight_bytes
        return ring.latency_seconds + share * moved / ring.bytes_per_second.at(self.optimism)
