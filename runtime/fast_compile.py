"""How the fast engine's kernels are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile on the first call, without the interpreter's lock; keep the code on disk where numba finds a place."""
    options: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}
    try:
        return cast(Kernel, njit(cache=True, **options)(kernel))
    except RuntimeError:  # no folder of this file or of the user can be written
        return cast(Kernel, njit(**options)(kernel))
