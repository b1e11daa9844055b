"""What `dcomc doctor` finds: the machine, the packages with their versions, and what computes with how many threads."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

from dcomc import __version__

PACKAGES: Mapping[str, tuple[str, str]] = {
    "numpy": ("", "arrays"),
    "ml-dtypes": ("", "bfloat16 in NumPy"),
    "numba": ("", "the fast engine"),
    "llvmlite": ("", "compiled loops of run and eval"),
    "xdsl": ("", "the IR"),
    "rich": ("", "tables"),
    "safetensors": ("", "weights"),
    "torch": ("model", "trace, run, calibrate, eval"),
    "transformers": ("model", "trace, run, calibrate, eval"),
    "gguf": ("model", "weights in GGUF files"),
    "accelerate": ("model", "weights in GGUF files"),
    "matplotlib": ("figures", "plots of reproduce -o"),
    "scipy": ("figures", "other algorithms of figure 2"),
    "lm-eval": ("harness", "python -m dcomc.harness"),
    "vl-convert-python": ("report", "charts of report"),
    "perfetto": ("perfetto", "sim --trace"),
}
"""By package: the extra of dcomc that brings it, none for what dcomc needs; and what it serves."""

TOOLS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "mlir-opt": ("the tests", tuple(f"mlir-opt-{version}" for version in range(30, 18, -1))),
    "iree-compile": ("the tests", ()),
    "Chromium": (
        "the tests of report",
        ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"),
    ),
}
"""Programs: what calls them, and under which other names they may be on the path."""

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux describes its processors."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    found: str
    why: str = ""
    good: bool = True


def packages() -> Iterator[Finding]:
    """Each package with its version, or how to get it; only what dcomc cannot do without is no good where missing."""
    for name, (extra, why) in PACKAGES.items():
        try:
            yield Finding(name, metadata.version(name), why)
        except metadata.PackageNotFoundError:
            what = f"dcomc[{extra}]" if extra else "dcomc"
            yield Finding(name, f"missing: `pip install {what}`", why, good=bool(extra))


def tools() -> Iterator[Finding]:
    """Each program that is on the path, or that it is not."""
    for name, (why, others) in TOOLS.items():
        found = any(shutil.which(one) for one in (name, *others))
        yield Finding(name, "on the path" if found else "not on the path", why)


def machine() -> Iterator[Finding]:
    """The processor, its cores and memory, and the interpreter."""
    yield Finding("dcomc", __version__)
    yield Finding("Python", f"{platform.python_version()} ({platform.python_implementation()}, {sys.platform})")
    yield Finding("processor", f"{processor()}, {usable_cores()} of {os.cpu_count()} cores usable")
    total = memory_bytes()
    if total is not None:
        yield Finding("memory", f"{total / 2**30:.1f} GiB")


def libraries() -> Iterator[Finding]:
    """What multiplies matrices, with how many threads; GPUs; and where compiled code is kept.

    Only packages that are installed are asked.
    """
    present = {finding.what for finding in packages() if not finding.found.startswith("missing")}
    limits = [f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ]
    yield Finding("limits of threads", ", ".join(limits) or "none in the environment")
    if "numpy" in present:
        import numpy as np

        built = cast(Mapping[str, Any], np.show_config(mode="dicts"))["Build Dependencies"]["blas"]
        yield Finding("NumPy's BLAS", f"{built.get('name', 'unknown')} {built.get('version', '')}".strip())
    if "torch" in present:
        import torch

        yield Finding("torch's threads", str(torch.get_num_threads()))
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("GPUs of torch", ", ".join(names) or "none")
    if {"numpy", "numba"} <= present:
        folder = Path(import_module("runtime.fast_kernels").__file__ or "").parent / "__pycache__"
        folder = Path(os.environ.get("NUMBA_CACHE_DIR") or folder)
        count = len(list(folder.rglob("*.nbi"))) if folder.is_dir() else 0
        kept = f"{count} functions" if count else "empty: the first run of the fast engine compiles for some seconds"
        yield Finding("numba's cache", kept)


def processor() -> str:
    """The processor's name, and whether it multiplies tiles of bfloat16 (AMX), several times as fast as vectors."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = said.get("model name") or platform.processor() or platform.machine()
    return f"{name} with AMX" if "amx_bf16" in said.get("flags", "").split() else name


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The machine's memory, where the system says."""
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    return os.sysconf(names[0]) * os.sysconf(names[1]) if set(names) <= set(os.sysconf_names) else None
