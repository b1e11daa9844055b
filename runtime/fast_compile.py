"""How the fast engine's kernels, and others in loops, are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import config as numba_config
from numba import njit
from numba.core.codegen import get_host_cpu_features

from runtime.processor import processor_features

config = cast(Any, numba_config)
# For all of this process, unless the user has said what to compile for (NUMBA_CPU_NAME, for one).
if config.CPU_NAME is None and config.CPU_FEATURES is None:
    config.CPU_FEATURES = processor_features(get_host_cpu_features())

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel, *, reassociate: bool = False) -> Kernel:
    """Compile on the first call, without the interpreter's lock; keep the code on disk where numba finds a place.

    Args:
        kernel: what numba can compile. What it calls that is compiled, too, is to stand in the same file: numba takes
            code from the disk for as long as that file is what it was.
        reassociate: whether sums may be in whatever order fills the vectors of the processor; else as written.
    """
    fastmath = {"reassoc", "contract", "nsz"} if reassociate else False
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        return cast(Kernel, njit(cache=True, **options)(kernel))
    except RuntimeError:  # no folder of this file or of the user can be written
        return cast(Kernel, njit(**options)(kernel))
