"""Token blocks that stay on chip: cycles against the arithmetic bound, and against the plain method.

    python benchmarks/token_blocks.py [--prompts 64 --rows 4096 --cols 4096 --block 128 --iterations 10 --group 8x8]

The default is the paper's largest workload with a basis of its own for each 128 tokens. Each group of clusters has
several blocks in flight, and reads each block once. The bound is all multiplications of the 2k products, 2 k S H for a
prompt, at one a multiplier and cycle. The plain method decomposes whole prompts, one after another, on all clusters;
its own bound is that each of the 2k products reads A in binary16 from the banks. Cycles are counted without
data: they do not depend on any. The last line is one JSON object.
"""

import argparse
from math import ceil

from measure import Goal, finish

from dcomc.single_kernel import MACHINE, compile_kernel
from runtime.accelerator import time_launch
from runtime.instructions import Unit
from runtime.machine import load_machine
from runtime.timing import Timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("prompts", 64), ("rows", 4096), ("cols", 4096), ("block", 128), ("iterations", 10), ("passes", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--group", default="8x8", help="rows and columns of clusters (default: %(default)s)")
    args = parser.parse_args()
    machine = load_machine(MACHINE)
    bound = 2 * args.iterations * args.prompts * args.rows * args.cols // machine.multipliers
    bank_bytes_per_cycle = machine.grid.cols * machine.bank.stream_bytes_per_cycle
    reads = 2 * args.iterations * args.prompts * 2 * args.rows * args.cols / bank_bytes_per_cycle
    blocks = args.prompts * ceil(args.rows / args.block)

    shape = args.block, args.cols, args.iterations
    kernel = compile_kernel(*shape, passes=args.passes, mapping=args.group, matrices=blocks)
    plain = compile_kernel(args.rows, args.cols, args.iterations, passes=args.passes)
    runs: tuple[Timing, ...] = time_launch(kernel, machine, blocks)
    cycles = sum(run.cycles for run in runs)
    plain_cycles = sum(run.cycles for run in time_launch(plain, machine, args.prompts))
    result = {
        "workload": f"{args.prompts} x {args.rows} x {args.cols} in blocks of {args.block}, k = {args.iterations}",
        "group": args.group,
        "in_flight": kernel.layout.in_flight,
        "reorthogonalisation": args.passes,
        "cycles": cycles,
        "bound": bound,
        "ratio": round(cycles / bound, 3),
        "plain_cycles": plain_cycles,
        "plain_over_blocks": round(plain_cycles / cycles, 2),
        "array_busy": round(sum(run.busy[Unit.ARRAY] for run in runs) / cycles, 3),
        "bank_busy": round(sum(run.busy[Unit.BANK] for run in runs) / cycles, 3),
        "code_bytes": 16 * len(kernel.words),
    }
    print(f"cycles over the arithmetic bound: {result['ratio']}; plain method over it: {plain_cycles / bound:.2f}")
    finish(
        "token_blocks",
        result,
        [
            Goal("cycles over the arithmetic bound", cycles / bound, 1.5),
            Goal("cycles of the plain method over its reads of A", plain_cycles / reads, 1.15),
        ],
    )


if __name__ == "__main__":
    main()
