"""What is compiled by numba and kept on disk."""

from types import ModuleType
from typing import Any

import pytest

from runtime import attention_kernel, columns_kernel, fast_banks, fast_kernels, lanczos_kernel


@pytest.mark.parametrize(
    "module", [attention_kernel, fast_banks, fast_kernels, lanczos_kernel, columns_kernel], ids=lambda m: m.__name__
)
def test_what_compiled_code_calls_stands_in_its_file(module: ModuleType) -> None:
    """Or a change of it would have no effect, nor a test of it, while the code of its caller is on disk."""
    kernels: dict[str, Any] = {name: found for name, found in vars(module).items() if hasattr(found, "py_func")}
    for kernel in kernels.values():
        called = [kernels[name] for name in kernel.py_func.__code__.co_names if name in kernels]
        assert {each.py_func.__module__ for each in called} <= {kernel.py_func.__module__}
