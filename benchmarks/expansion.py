"""Computation expansion: cycles against the factor f, for reorthogonalisation alone and for the whole kernel.

    python benchmarks/expansion.py [--rows 86 4096 --cols 4096 --iterations 10 --passes 2 --prompts 64]

Vectors and bases are in the banks, as in the paper, or resident in the buffers; partial sums go to replicated
multiplications, as in the paper, or are gathered and added in every cluster. Beside them stand modified Gram-Schmidt
without expansion and the default, classical, both in the buffers. All cycles are those of the simulation for `prompts`
prompts, one after another. Reorthogonalisation alone is its instructions with nothing else in the machine. The last
line is one JSON object.
"""

import argparse
from typing import Any

from measure import finish

from dcomc.expansion import SCHEDULES, Point, Workload, measure, sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[86, 4096], help="tokens a prompt (default: 86 4096)")
    for name, default in (("cols", 4096), ("iterations", 10), ("passes", 2), ("prompts", 64)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    args = parser.parse_args()
    result: dict[str, Any] = {name: getattr(args, name) for name in ("cols", "iterations", "passes", "prompts")}
    for rows in args.rows:
        work = Workload(rows, args.cols, args.iterations, args.passes)
        print(f"{args.prompts} x {rows} x {args.cols}, k = {args.iterations}, {args.passes} passes: million cycles")
        print(f"{'':24} {'f':>4} {'alone':>9} {'whole':>9}  most waited for")
        table: dict[str, dict[str, dict[str, int]]] = {}
        for sums in ("replicas", "all-gather"):
            for vectors in SCHEDULES:
                name = f"{vectors}, {sums}"
                table[name] = {}
                for factor, point in sweep(work, vectors, sums=sums):
                    table[name][str(factor)] = show(name, str(factor), point, args.prompts)
        for gram_schmidt in ("modified", "classical"):
            point = measure(work, gram_schmidt)
            table[gram_schmidt] = {"none": show(f"{gram_schmidt}, unexpanded", "", point, args.prompts)}
        result[f"rows {rows}"] = table
    finish("expansion", result)


def show(name: str, factor: str, point: Point, prompts: int) -> dict[str, int]:
    """Print a line of the table; its numbers."""
    alone, whole = prompts * point.alone, prompts * point.whole
    causes = sorted(point.causes.items(), key=lambda cause: -cause[1])[:3]
    most = ", ".join(f"{cause} {cycles / point.alone:.0%}" for cause, cycles in causes)
    print(f"{name:24} {factor:>4} {alone / 1e6:9.3f} {whole / 1e6:9.3f}  {most}")
    return {"alone": alone, "whole": whole}


if __name__ == "__main__":
    main()
