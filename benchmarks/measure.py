"""What the benchmarks share: a process's time and memory, goals, the machine's name, and how results are printed."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcomc.doctor import processor
from dcomc.tables import print_table

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measurement:
    """Of one process: wall-clock seconds, seconds of processor time, and the most memory that it held."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Goal:
    """A figure that a benchmark is held against."""

    what: str
    measured: float
    limit: float
    at_least: bool = False
    """Whether more is better."""

    @property
    def bound(self) -> str:
        """What is asked for, in words."""
        return f"at {'least' if self.at_least else 'most'} {self.limit:g}"

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


class Stopwatch:
    """Seconds of the turns that something took: the blocks of `with`, one after another."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._started = 0.0, 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._started
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def median_ratio(turns: Sequence[float], others: Sequence[float]) -> float:
    """The median over the turns of what one took by what the other did."""
    return statistics.median(one / other for one, other in zip(turns, others, strict=True))


def measure(arguments: Sequence[str]) -> Measurement:
    """Run `dcomc` with these arguments; its output is dropped, its errors are shown.

    Raises:
        RuntimeError: it exits with another code than 0.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "dcomc", *arguments], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"dcomc {' '.join(arguments)} exits with {process.returncode}")
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def machine() -> dict[str, Any]:
    """Where the numbers come from: they hold for this machine, as loaded as it was."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def start_anew_with(environment: Mapping[str, str]) -> None:
    """Start this script again, with these variables, which are read when a process begins, unless it has them."""
    if any(os.environ.get(name) != value for name, value in environment.items()):
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})


def best(arguments: Sequence[str], repeat: int) -> Measurement:
    """The quickest of several runs."""
    return min((measure(arguments) for _ in range(repeat)), key=lambda measurement: measurement.cpu_seconds)


def finish(name: str, results: dict[str, Any], goals: Sequence[Goal] = ()) -> None:
    """Print the goals, the machine, and all results as JSON in the last line."""
    if goals:
        rows = [(goal.what, f"{goal.measured:.4g}", goal.bound, "yes" if goal.met else "no") for goal in goals]
        print_table(("goal", "measured", "bound", "met"), rows)
        print()
    where = machine()
    print(f"on {where['processor']}, {where['cores']} cores, load {where['load_average']}, Python {where['python']}")
    plain = {key: asdict(value) if isinstance(value, Measurement) else value for key, value in results.items()}
    held = [asdict(goal) | {"bound": goal.bound, "met": goal.met} for goal in goals]
    print(json.dumps({"benchmark": name, "machine": where, **plain, "goals": held}))
