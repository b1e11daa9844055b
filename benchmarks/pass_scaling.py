"""The time per operation of each pass at 10,000 and 100,000 operations: a quadratic pass takes ten times more.

Shapes: many layers of ordinary size, each a function of its own once decomposed; one layer whose body is repeated, so
that a single function is long; the same where each repetition has weights of its own, so that the function has many
parameters; one activation that very many products read; and many kernels. All but the last are made from the traced
preset `tiny`. Processor time counts. The first shape is printed and parsed too. Shapes are legalised at a sixth of the
size, of which legalisation makes the whole.

`canonicalize`, `cse` and `dce` are xDSL's passes; all other rows are ours, and the goal is of these. xDSL's `cse`
copies what it knows at each region: in one long function its time does grow faster.

Run: python benchmarks/pass_scaling.py [--small N] [--large N] [--shapes NAME …]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure import Goal, finish, measure
from scaling_shapes import SHAPES, Shape, count
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from dcomc.instrumentation import collection_paused
from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import Decomposition, WeightDecomposition, cluster_pipeline, compile_pipeline, isa_pipeline
from dcomc.tables import print_table
from dcomc.verification import Verifier
from passes import PASSES, UPSTREAM, make_passes

MACHINE = "dcom-16x16"
PRESERVE, LEGALISE = "dcom-preserve-decomposed", "dcom-legalize,canonicalize,cse,dce"
EXPANSION = 6
"""Operations that legalisation makes of one."""
LEAST = 0.5
"""Microseconds an operation, below which a time says nothing."""


@dataclass
class Times:
    """Microseconds of processor time per operation of each step."""

    label: str
    by_step: dict[str, float] = field(default_factory=dict[str, float])

    def note(self, name: str, module: ModuleOp, action: Callable[[], object]) -> None:
        """Do one step, by the operations that are there before or after it, whichever are more."""
        before = count(module)
        with collection_paused():  # as it is when a pipeline runs
            start = time.process_time()
            action()
            seconds = time.process_time() - start
        number = sum(known.partition(" ")[0] == name for known in self.by_step)
        operations = max(before, count(module))
        each = self.by_step[f"{name} ({number + 1})" if number else name] = 1e6 * seconds / operations
        print(
            f"{self.label}: {name}: {operations:,} operations in {seconds:.1f} s, {each:.1f} us each", file=sys.stderr
        )

    def run(self, context: Context, module: ModuleOp, passes: Sequence[ModulePass]) -> None:
        """Run passes, and verify what the largest of them has changed."""
        verifier = Verifier()
        for pass_ in passes:
            self.note(pass_.name, module, lambda pass_=pass_: pass_.apply(context, module))
            if pass_.name == PRESERVE:
                self.note("verify changes", module, lambda: verifier.verify_changes(module))


def pipeline(layers: int, level: str = "isa") -> list[ModulePass]:
    """Every pass of `dcomc compile` on so many layers; where there are none, those for kernels."""
    if not layers:
        lower, *place = cluster_pipeline(MACHINE)
        return [lower, *make_passes("cluster-expand-reductions{factor=8}"), *place, *isa_pipeline(MACHINE)]
    chosen = tuple(range(layers))
    weights = WeightDecomposition(chosen, ("o", "down"), rank=4)
    return compile_pipeline(Decomposition(chosen, rank=4, outliers=3.0, weights=weights), MACHINE, level)


def per_operation(text: str, name: str, shape: Shape, operations: int) -> dict[str, float]:
    """Microseconds per operation of each step, those of `dcomc compile` first."""
    times = Times(f"{name}, {operations:,}")
    context = make_context()
    module, layers = shape(text, context, operations)
    times.run(context, module, pipeline(layers))
    if name == next(iter(SHAPES)):
        printed: list[str] = []
        times.note("print", module, lambda: printed.append(print_module(module)))
        times.note("parse", module, lambda: parse_module(printed[0], "again.mlir", make_context()))
    if layers:
        context = make_context()
        module, layers = shape(text, context, operations // EXPANSION)
        with collection_paused():
            for pass_ in pipeline(layers, "dcom"):
                pass_.apply(context, module)
        times.run(context, module, make_passes(LEGALISE))
    return times.by_step


def ratios(shapes: dict[str, dict[str, dict[str, float]]]) -> Iterator[tuple[float, str, str]]:
    """How many times longer an operation takes at the large size, with the pass and the shape."""
    for shape, both in shapes.items():
        for name, large in both["large"].items():
            if large > LEAST:
                yield large / both["small"][name], name, shape


def main() -> None:
    """Measure the shapes at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=10_000, help="operations (default: %(default)s)")
    parser.add_argument("--large", type=int, default=100_000, help="operations (default: %(default)s)")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="(default: all)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.mlir"
        measure(["trace", "tiny", "--seq-len", "16", "-o", str(file)])
        text = file.read_text(encoding="utf-8")
    shapes: dict[str, dict[str, dict[str, float]]] = {}
    for name in args.shapes:
        small, large = (per_operation(text, name, SHAPES[name], operations) for operations in (args.small, args.large))
        shapes[name] = {"small": small, "large": large}
        print_table(
            (name, f"{args.small:,}", f"{args.large:,}", "ratio"),
            [
                (step, f"{small[step]:.2f} us", f"{large[step]:.2f} us", f"{large[step] / small[step]:.2f}")
                for step in small
            ],
            caption="processor time per operation",
        )
    measured = {step.partition(" ")[0] for both in shapes.values() for step in both["large"]}
    ours = [entry for entry in ratios(shapes) if entry[1].partition(" ")[0] not in UPSTREAM]
    worst, worst_of_all = max(ours), max(ratios(shapes))
    finish(
        "pass_scaling",
        {
            "shapes": shapes,
            "passes_not_measured": sorted(set(PASSES) - measured),
            "worst_ratio": worst,
            "worst_ratio_with_xdsl": worst_of_all,
        },
        [Goal("time an operation, large over small, of the worst pass of ours", worst[0], 3)],
    )


if __name__ == "__main__":
    main()
