"""What LLVM is told of this processor."""

from llvmlite import binding


def processor_features(features: str | None = None) -> str:
    """Features by LLVM's names, those of this processor unless given; with vectors of 512 bits where they cost nothing.

    LLVM uses half of them on Intel's processors, because the first that had them ran slower then. Those that know
    bfloat16 do not: on a Xeon with AMX attention in float32 takes a tenth less time.
    """
    known = binding.get_host_cpu_features().flatten() if features is None else features
    return f"{known},-prefer-256-bit" if "+avx512bf16" in known.split(",") else known
