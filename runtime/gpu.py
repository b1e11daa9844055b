"""A GPU as a host: one description, read from TOML, of what its kernels, launches and links take."""

from dataclasses import dataclass

from dcomc.diagnostics import DcomError
from dcomc.toml_files import Description, from_table, read_toml, shipped_file
from runtime.bounds import Bounds, check_bounds


@dataclass(frozen=True)
class FlopsPerSecond:
    """Peak rates by element type: binary16 on tensor cores, binary32."""

    half: float
    single: float


@dataclass(frozen=True)
class GemmUnit:
    """How matrix products run: in output tiles, each on one multiprocessor, at a share of the peak."""

    tile_rows: int
    tile_cols: int
    efficiency: Bounds


@dataclass(frozen=True)
class Efficiency:
    """The share of a peak that kernels of a kind reach."""

    efficiency: Bounds


@dataclass(frozen=True)
class LaunchSeconds:
    """Seconds for a kernel: as an operator of a framework, and as a node of a graph."""

    eager_seconds: Bounds
    graph_seconds: Bounds


@dataclass(frozen=True)
class AllReduce:
    """A ring over the links: seconds of a small message, and bus bandwidth of large ones."""

    latency_seconds: float
    bytes_per_second: Bounds


@dataclass(frozen=True)
class DcomLink:
    """Between the host's memory and the banks of a D-com."""

    bytes_per_second: Bounds


@dataclass(frozen=True)
class LanczosOnGpu:
    """What a decomposition takes on the GPU: the SVD of its k x k core, and the size of an element."""

    small_svd_seconds: Bounds
    element_bytes: int


@dataclass(frozen=True)
class Gpu(Description):
    """A GPU, as what its kernels, launches and links take."""

    sms: int
    memory_bytes: int
    memory_bytes_per_second: float
    link_bytes_per_second: float
    """One direction of its links, by the datasheet; what is counted is `all_reduce`, as measured."""
    flops_per_second: FlopsPerSecond
    gemm: GemmUnit
    attention: Efficiency
    stream: Efficiency
    launch: LaunchSeconds
    all_reduce: AllReduce
    dcom_link: DcomLink
    lanczos: LanczosOnGpu


def load_gpu(name_or_file: str) -> Gpu:
    """A GPU by the name of a shipped configuration, or from a TOML file.

    Raises:
        DcomError: neither a known name nor a readable, valid file, or a range that is upside down.
    """
    file, hint = shipped_file("gpus", name_or_file)
    gpu = from_table(Gpu, read_toml(file, hint), name_or_file, "a100-80gb.toml")
    check_bounds(gpu, name_or_file)
    for name in ("gemm", "attention", "stream"):
        if getattr(gpu, name).efficiency.high > 1:
            raise DcomError(f"'{name}.efficiency' is a share of the peak, at most 1", place=name_or_file)
    return gpu
