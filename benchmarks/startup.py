"""How long `dcomc` takes to say what it can do: nothing heavy may be imported for that.

Run: python benchmarks/startup.py [--repeat N]
"""

import argparse

from measure import Goal, best, finish

from dcomc.tables import print_table

COMMANDS = ("--help", "compile --help", "opt --help", "sim --help", "run --help", "compile --print-pipeline")


def main() -> None:
    """Measure each command; the claim is that `dcomc --help` takes less than 0.4 s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, of which the quickest counts")
    repeat = parser.parse_args().repeat
    results = {command: best(command.split(), repeat) for command in COMMANDS}
    print_table(
        ("dcomc", "seconds", "processor", "memory"),
        [
            (command, f"{m.seconds:.2f} s", f"{m.cpu_seconds:.2f} s", f"{m.peak_bytes / 1e6:.0f} MB")
            for command, m in results.items()
        ],
    )
    finish("startup", {**results}, [Goal("`dcomc --help`, seconds", results["--help"].seconds, 0.4)])


if __name__ == "__main__":
    main()
