"""dcomc: compile a Llama onto low-rank factors of its activations, and simulate the accelerator that finds them.

    import dcomc

    module = dcomc.trace("smollm2-135m", seq_len=512)
    program = dcomc.compile(module, decompose_layers=[14, 18, 24, 26], rank=10, outliers=3)
    print(program.simulate().cycles)
    print(program.run("smollm2-135m", text).ratio)
    program.save("prog.bin")  # and dcomc.load("prog.bin") again

The commands of the command line call the same functions. Each is imported when it is first used: `import dcomc` itself
loads nothing, and torch comes only with `trace` and `Program.run`. A user's mistake raises `DcomError`.
"""

from importlib import import_module

TYPE_CHECKING = False  # `typing` takes most of the time of this import
if TYPE_CHECKING:
    from dcomc.compiler import compile, lower
    from dcomc.container import read_program as load
    from dcomc.diagnostics import DcomError
    from dcomc.pipeline import Decomposition
    from dcomc.program import Program
    from dcomc.tracer import trace

__version__ = "0.1.0"

__all__ = ["DcomError", "Decomposition", "Program", "compile", "load", "lower", "trace"]

_HOMES = {
    "DcomError": ("dcomc.diagnostics", "DcomError"),
    "Decomposition": ("dcomc.pipeline", "Decomposition"),
    "Program": ("dcomc.program", "Program"),
    "compile": ("dcomc.compiler", "compile"),
    "load": ("dcomc.container", "read_program"),
    "lower": ("dcomc.compiler", "lower"),
    "trace": ("dcomc.tracer", "trace"),
}
"""The module of each public name, and its name there."""


def __getattr__(name: str) -> object:
    """A public name, from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dcomc' has no attribute '{name}'")
    module, own_name = _HOMES[name]
    value = globals()[name] = getattr(import_module(module), own_name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
