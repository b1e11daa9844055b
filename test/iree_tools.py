"""Level 0 text through IREE: an independent compiler that checks what dcomc's IR means."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import iree.runtime
import numpy as np

_GLOBAL = re.compile(r"dense_resource<(?P<name>[^>]+)>")


def tool(name: str) -> str:
    """The path of a console script of the iree-base-compiler wheel; it stands beside the Python in use."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert path, f"{name} is missing: install iree-base-compiler"
    return path


def _checked(command: list[str], text: str) -> bytes:
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr.decode()[:4000]}"
    return done.stdout


def optimise(text: str, *options: str) -> str:
    """Parse, verify and print a module by `iree-opt`."""
    return _checked([tool("iree-opt"), "-", *options], text).decode()


def compile_module(text: str) -> bytes:
    """Compile Level 0 text for the CPU. Weights become parameters that are found by name when the program is loaded."""
    parameters = _GLOBAL.sub(lambda match: f'#flow.parameter.named<"model"::"{match["name"]}">', text)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "module.vmfb"
        target = ["--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu"]
        options = [*target, "--iree-llvmcpu-target-cpu=host", "-o", str(result)]
        _checked([tool("iree-compile"), "-", *options], parameters)
        return result.read_bytes()


def run_module(compiled: bytes, weights: Mapping[str, np.ndarray[Any, Any]], *inputs: np.ndarray[Any, Any]) -> Any:
    """Call `@main` of a compiled module on the CPU; returns its result."""
    index = iree.runtime.ParameterIndex()
    for name, value in weights.items():
        # Parameters are bytes; IREE knows no NumPy type of bfloat16.
        data = np.ascontiguousarray(value).view(np.uint16) if value.dtype.name == "bfloat16" else value
        iree.runtime.parameter_index_add_numpy_ndarray(index, name, np.ascontiguousarray(data))
    config = iree.runtime.Config("local-sync")
    instance = config.vm_instance
    provider = index.create_provider(scope="model")
    modules = iree.runtime.load_vm_modules(
        iree.runtime.create_io_parameters_module(instance, provider),
        iree.runtime.create_hal_module(instance, config.device),
        iree.runtime.VmModule.copy_buffer(instance, compiled),
        config=config,
    )
    return modules[-1].main(*inputs).to_host()


def run(text: str, weights: Mapping[str, np.ndarray[Any, Any]], *inputs: np.ndarray[Any, Any]) -> Any:
    """Compile Level 0 text and call its `@main` with weights by name; returns the result as a NumPy array."""
    return run_module(compile_module(text), weights, *inputs)
