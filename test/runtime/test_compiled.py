"""What is compiled by numba and kept on disk."""

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from runtime import attention_kernel, columns_kernel, fast_banks, fast_kernels, lanczos_kernel
from runtime.processor import processor_features


@pytest.mark.parametrize(
    "module", [attention_kernel, fast_banks, fast_kernels, lanczos_kernel, columns_kernel], ids=lambda m: m.__name__
)
def test_what_compiled_code_calls_stands_in_its_file(module: ModuleType) -> None:
    """Or a change of it would have no effect, nor a test of it, while the code of its caller is on disk."""
    kernels: dict[str, Any] = {name: found for name, found in vars(module).items() if hasattr(found, "py_func")}
    for kernel in kernels.values():
        called = [kernels[name] for name in kernel.py_func.__code__.co_names if name in kernels]
        assert {each.py_func.__module__ for each in called} <= {kernel.py_func.__module__}


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ("+avx512f,+avx512bf16,+fma", "+avx512f,+avx512bf16,+fma,-prefer-256-bit"),
        ("+avx512f,-avx512bf16", "+avx512f,-avx512bf16"),  # one of those that run slower
        ("+neon,+bf16", "+neon,+bf16"),
        ("", ""),
    ],
)
def test_what_llvm_is_told_of_a_processor(known: str, told: str) -> None:
    assert processor_features(known) == told


@pytest.mark.parametrize(("variables", "wide"), [({}, True), ({"NUMBA_CPU_NAME": "haswell"}, False)])
def test_numba_uses_all_of_the_vectors_unless_told_what_to_compile_for(variables: dict[str, str], wide: bool) -> None:
    asked = """if True:
        import runtime.fast_compile
        from numba.core.registry import cpu_target
        print(cpu_target.target_context.codegen().magic_tuple()[2])
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU")}
    command = [sys.executable, "-c", asked]
    features = subprocess.run(command, env=plain | variables, capture_output=True, text=True, check=True).stdout.strip()
    assert ("-prefer-256-bit" in features.split(",")) == (wide and "-prefer-256-bit" in processor_features().split(","))
