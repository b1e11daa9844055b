"""Simulating several programs, some at a time, each with a statistics file; what is finished is not run again."""

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dcomc.diagnostics import DcomError, counted, write_text
from runtime.accelerator import check_lengths
from runtime.machine import Machine


@dataclass(frozen=True)
class Job:
    """A program to simulate."""

    program: Path
    stats: Path
    """The file of its numbers, JSON."""
    inputs: Path | None
    options: Mapping[str, Any]
    """Of `Program.simulate`."""

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on: files by their SHA-256; not the engine, for all give the same."""
        decides = ("seed", "timing_only", "errors")
        return {
            "program": _sha256(self.program),
            "input": None if self.inputs is None else _sha256(self.inputs),
            **{name: self.options[name] for name in decides},
        }

    def finished(self) -> bool:
        """Whether its file is there, of the same program and the same options."""
        try:
            found: Any = json.loads(self.stats.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and cast(dict[str, Any], found).get("run") == self.identity()


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    cycles: int = 0
    error: str | None = None


def jobs_of(programs: Sequence[Path], folder: Path, inputs: Path | None, options: Mapping[str, Any]) -> list[Job]:
    """A job for each program, with its numbers in `folder/NAME.json`.

    Raises:
        DcomError: two programs have the same name, or the folder cannot be made.
    """
    jobs = [Job(program, folder / f"{program.stem}.json", inputs, options) for program in programs]
    for number, job in enumerate(jobs):
        for other in jobs[:number]:
            if other.stats == job.stats:
                raise DcomError(
                    f"{other.program} and {job.program} would both write {job.stats}", hint="give one another name"
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DcomError(f"cannot make the folder {folder}: {error.strerror}") from error
    return jobs


def run_jobs(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    """Run jobs in so many processes; each outcome as it comes. What a job gave is on disk before it is told."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_run, job) for job in jobs]):
            yield future.result()


def announce(jobs: Sequence[Job], processes: int, machine: Machine | None) -> str:
    """How many jobs there are, how long they will take, and how much memory.

    Raises:
        DcomError: a program cannot be read, is not for `machine`, or needs more memory than a job may have.
    """
    import dcomc
    from dcomc.container import check_machine
    from dcomc.simulate import beside_of, work_of
    from runtime.engines import duration, plan, size

    seconds, held = [0.0], [0]
    for job in jobs:
        program = dcomc.load(job.program)
        if machine is not None:
            check_machine(program, machine)
        if job.options["timing_only"]:
            continue
        check_lengths(program, job.options["max_instructions"])
        beside = beside_of(program, made=job.inputs is None, errors=job.options["errors"])
        engine, threads, limit = (job.options[name] for name in ("engine", "threads", "memory_limit"))
        chosen = plan(engine, work_of(program), program.machine, threads=threads, memory_limit=limit, beside=beside)
        seconds.append(chosen.seconds)
        held.append(chosen.bytes)
    longest = max(sum(seconds) / processes, *seconds)
    most = size(sum(sorted(held)[-processes:]))
    return f"{counted(len(jobs), 'program')}, {processes} at a time: about {duration(longest)} and {most}"


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
        raise DcomError(f"cannot read {path}: {error.strerror}") from error
