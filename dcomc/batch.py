"""Simulating several programs, some at a time, each with a statistics file; what is finished is not run again."""

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from dcomc import __version__
from dcomc.diagnostics import DcomError, counted, remove_unfinished, size, write_text
from runtime.accelerator import check_lengths
from runtime.engines import Plan, about
from runtime.machine import Machine

Array = NDArray[Any]


@dataclass(frozen=True)
class Job:
    """A program to simulate."""

    program: Path
    stats: Path
    """The file of its numbers, JSON."""
    inputs: Path | None
    options: Mapping[str, Any]
    """Keyword arguments of `Program.simulate`."""

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on: files by their SHA-256, and dcomc's version; not the engine, for all give
        the same."""
        decides = ("seed", "timing_only", "errors")
        return {
            "version": __version__,
            "program": _sha256(self.program),
            "input": None if self.inputs is None else _sha256(self.inputs),
            **{name: self.options[name] for name in decides},
        }

    def finished(self) -> bool:
        """Whether its file is there, of the same program, options and version; a program that cannot be read is not."""
        try:
            found: Any = json.loads(self.stats.read_text(encoding="utf-8"))
            return isinstance(found, dict) and cast(dict[str, Any], found).get("run") == self.identity()
        except (OSError, ValueError, DcomError):
            return False


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    cycles: int = 0
    error: str | None = None


def jobs_of(programs: Sequence[Path], folder: Path, inputs: Path | None, options: Mapping[str, Any]) -> list[Job]:
    """A job for each program, with its numbers in `folder/NAME.json`.

    Raises:
        DcomError: two programs have the same name.
    """
    jobs = [Job(program, folder / f"{program.stem}.json", inputs, options) for program in programs]
    for number, job in enumerate(jobs):
        for other in jobs[:number]:
            if other.stats == job.stats:
                raise DcomError(
                    f"{other.program} and {job.program} would both write {job.stats}", hint="give one another name"
                )
    return jobs


def make_folder(folder: Path) -> None:
    """Make the folder of the numbers; raises `DcomError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DcomError(f"cannot make the folder {folder}: {error.strerror}", hint="give another folder") from error


def workers(processes: int) -> ProcessPoolExecutor:
    """So many processes for work, which end with this one, however that ends."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    """In a process of `workers`: watch the one that started it, since nothing else tells that it was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            remove_unfinished()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_jobs(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    """Run jobs in so many processes; each outcome as it comes. What a job gave is on disk before it is told.

    Raises:
        DcomError: a process was killed, which is mostly for want of memory.
    """
    with workers(processes) as pool:
        for future in as_completed([pool.submit(_run, job) for job in jobs]):
            try:
                yield future.result()
            except BrokenProcessPool as error:
                hint = "what is finished stays: run it again, with fewer --jobs where memory is short"
                raise DcomError("a process was killed", hint=hint) from error


@dataclass(frozen=True)
class Announced:
    """What is known of jobs before they run."""

    ready: Sequence[Job]
    refused: Sequence[Outcome]
    text: str
    """How many jobs are ready, how long they will take, and how much memory."""


def announce(jobs: Sequence[Job], processes: int, machine: Machine | None) -> Announced:
    """Plan jobs. Refused is one whose program cannot be read, is not for `machine`, or asks for more than it may.

    Raises:
        DcomError: the inputs, which are of all jobs, cannot be read.
    """
    from dcomc.activations import given_activations

    inputs = next((job.inputs for job in jobs if job.inputs is not None), None)
    given = None if inputs is None else given_activations(inputs)[0]
    ready, refused, plans = list[Job](), list[Outcome](), list[Plan | None]()
    for job in jobs:
        try:
            plans.append(_plan(job, given, machine))
            ready.append(job)
        except DcomError as error:
            refused.append(Outcome(job, error=str(error)))
    seconds = [plan.seconds for plan in plans if plan is not None]
    longest = max(sum(seconds) / processes, *seconds, 0.0)
    most = size(sum(sorted(plan.bytes for plan in plans if plan is not None)[-processes:]))
    text = f"{counted(len(ready), 'program')}, {processes} at a time: {about(longest)} and {most}"
    return Announced(ready, refused, text)


def _plan(job: Job, given: Mapping[str, Array] | Array | None, machine: Machine | None) -> Plan | None:
    """How a job's data are simulated; None where only its time is asked for."""
    import dcomc
    from dcomc.container import check_machine
    from dcomc.simulate import plan_simulation

    program = dcomc.load(job.program)
    if machine is not None:
        check_machine(program, machine)
    if job.options["timing_only"]:
        return None
    check_lengths(program, job.options["max_instructions"])
    return plan_simulation(
        program, given, **{name: job.options[name] for name in ("errors", "engine", "threads", "memory_limit")}
    )


def _run(job: Job) -> Outcome:
    import dcomc

    try:
        program = dcomc.load(job.program)
        simulation = program.simulate(job.inputs, **job.options)
        document = {**simulation.to_json(), "options": dict(program.options), "run": job.identity()}
        write_text(job.stats, json.dumps(document, indent=1) + "\n")
    except DcomError as error:
        return Outcome(job, error=str(error))
    return Outcome(job, cycles=simulation.cycles)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint="give a file that can be read") from error
