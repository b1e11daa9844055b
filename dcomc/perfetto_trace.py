"""A run as a Perfetto trace, for ui.perfetto.dev: what units and banks do when, and what the stream waits for.

A nanosecond of the trace is a cycle. Packets go to the file as they come, so that memory does not grow with the run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import IO, Any, Protocol, cast

from dcomc.diagnostics import DcomError, atomic_write, cannot_import, counted, size
from runtime.accelerator import time_launch
from runtime.costs import transfer_extent
from runtime.engines import about
from runtime.events import run_events
from runtime.instruction import GLOBAL_PORTS, Unit
from runtime.machine import Machine
from runtime.program import Kernel, Launch, Program
from runtime.sequencer import ISSUE_LIMIT, Issue
from runtime.timing import Timing

_SEQUENCE = 1
"""The one writer of the trace."""
_EVENT_BYTES = 100
"""Measured: its two packets and their texts are 80 to 105."""
_EVENTS_A_SECOND = 40_000
"""Measured, in round numbers."""
LARGE_BYTES = 20_000_000
"""A trace that takes some seconds to write."""


class _Builder(Protocol):
    """The library's `StreamingTraceProtoBuilder`; a packet is a `TracePacket` of its protobufs."""

    def create_packet(self) -> Any: ...

    def write_packet(self, packet: Any) -> None: ...


@dataclass(frozen=True)
class Window:
    """Cycles of a program from `first` to before `end`."""

    first: int = 0
    end: int | None = None

    def meets(self, first: int, end: int) -> bool:
        """Whether any of these cycles are in it."""
        return self.first < end and (self.end is None or first < self.end)


def check_perfetto() -> None:
    """Raise `DcomError` where the library that writes traces is not installed."""
    try:
        import_module("perfetto.trace_builder.proto_builder")
    except ImportError as error:
        raise cannot_import("perfetto", "a trace", "perfetto") from error


@dataclass(frozen=True)
class TraceSize:
    """What a trace is expected to hold."""

    cycles: int
    """Cycles of all runs, in the window of the trace or not."""
    events: int

    @property
    def bytes(self) -> int:
        """The size of its file, within a third."""
        return self.events * _EVENT_BYTES

    def __str__(self) -> str:
        return (
            f"trace: about {size(self.bytes)}, {about(self.events / _EVENTS_A_SECOND)}; "
            f"--trace-window A:B takes a part of its {counted(self.cycles, 'cycle')}"
        )


def trace_size(program: Program, window: Window = Window(), limit: int = ISSUE_LIMIT) -> TraceSize:
    """How large `write_trace` makes its file, from the cycles and issues of the runs alone.

    Args:
        window, limit: of `write_trace`.

    Raises:
        DcomError: nothing runs in the window, or a stream issues more than it may.
    """
    cycles, events = 0, 0.0
    for launch, timing in _runs(program, limit):
        inside = min(cycles + timing.cycles, window.end or inf) - max(cycles, window.first)
        if inside > 0:
            events += _most_events(program.kernel(launch.kernel), timing) * inside / timing.cycles
        cycles += timing.cycles
    if window.first and window.first >= cycles:
        raise DcomError(
            f"the trace window begins at cycle {window.first:,}, but the program ends at cycle {cycles:,}",
            hint="breakdowns left aside, as in a trace",
        )
    return TraceSize(cycles, round(events))


def _runs(program: Program, limit: int) -> Iterator[tuple[Launch, Timing]]:
    """The runs of a program's launches, one after another."""
    for launch in program.launches:
        for timing in time_launch(program.kernel(launch.kernel), program.machine, launch.prompts, limit=limit):
            yield launch, timing


def _most_events(kernel: Kernel, timing: Timing) -> int:
    """At most so many: an issue, a stall before it, and the work of its unit or of each bank."""
    columns = {index: columns for index, _, columns in timing.counts.streams}
    worked = {index for index, _ in timing.counts.busy}
    return sum(
        issues * (2 + (columns.get(index, 1) if index in worked else 0))
        for index, issues in timing.counts.issues.items()
    )


def write_trace(program: Program, path: Path, window: Window = Window(), limit: int = ISSUE_LIMIT) -> None:
    """Write what the runs of a program's launches do, one after another and without breakdowns, whole or not at all.

    Tracks: the decompositions, the stream (an event for each issue), its stalls, each unit, and each bank; where a
    kernel has several streams, what belongs to one of them has its number.

    Args:
        window: events of other cycles are left out.
        limit: instructions that a stream may issue.

    Raises:
        DcomError: perfetto is not installed, nothing runs in the window, a stream issues more than it may, or the file
            cannot be written.
    """
    check_perfetto()
    trace_size(program, window, limit)
    with atomic_write(path) as file:
        tracks, base = _Tracks(file, program.machine.name, window), 0
        for launch, timing in _runs(program, limit):
            if window.meets(base, base + timing.cycles):
                tracks.event("decompositions", launch.key, base, base + timing.cycles, launch.location)
                _run(tracks, program.machine, program.kernel(launch.kernel), launch.prompts, base, limit)
            base += timing.cycles


def _run(tracks: "_Tracks", machine: Machine, kernel: Kernel, prompts: int, base: int, limit: int) -> None:
    """The events of one run that begins in cycle `base`."""
    streams = kernel.streams_on(machine.grid)
    until = None if tracks.window.end is None else tracks.window.end - base
    for event in run_events(kernel, machine, prompts, until, limit):
        issue, stream = event.issue, streams[event.stream]
        own = f"stream {event.stream} " if len(streams) > 1 else ""
        waited, start, begun, end = (base + cycle for cycle in (event.waited, event.start, event.begun, event.end))
        instruction, location = issue.word.instruction, kernel.locations[issue.index].partition(" (")[0]
        tracks.event(f"{own}stalls", event.cause, waited, start, location, issue)
        tracks.event(f"{own}issues" if own else "stream", issue.mnemonic, start, begun, location, issue)
        if instruction.unit is Unit.BANK:
            part = machine.part(stream.rows, stream.cols)
            for bank in stream.columns[: transfer_extent(issue.values, part)[1]]:
                tracks.event(f"bank {bank}", issue.mnemonic, begun, end, location, issue)
        else:
            shared = instruction.unit in GLOBAL_PORTS
            tracks.event(
                instruction.unit if shared else f"{own}{instruction.unit}", issue.mnemonic, begun, end, location, issue
            )


class _Tracks:
    """Writes events, and each track's name before its first."""

    def __init__(self, file: IO[bytes], machine: str, window: Window) -> None:
        library = import_module("perfetto.trace_builder.proto_builder")
        packets = import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
        self.window = window
        self._builder = cast(_Builder, library.StreamingTraceProtoBuilder(file))
        self._begin, self._end = packets.TrackEvent.TYPE_SLICE_BEGIN, packets.TrackEvent.TYPE_SLICE_END
        self._numbers = {"": 1}
        self._describe(1, machine)

    def event(self, track: str, name: str, start: int, end: int, location: str, issue: Issue | None = None) -> None:
        """Something that goes on from a cycle to before another; nothing where these are one."""
        if start >= end or not self.window.meets(start, end):
            return
        if track not in self._numbers:
            self._numbers[track] = len(self._numbers) + 1
            self._describe(self._numbers[track], track, parent=1)
        packet = self._packet(self._begin, start, track)
        packet.track_event.name = name
        details = {"location": location}
        if issue is not None:
            details |= {"instruction": f"{issue.index}: {issue.word}"}
        for key, value in details.items():
            annotation = packet.track_event.debug_annotations.add()
            annotation.name, annotation.string_value = key, value
        self._builder.write_packet(packet)
        self._builder.write_packet(self._packet(self._end, end, track))

    def _packet(self, kind: int, cycle: int, track: str) -> Any:
        packet = self._builder.create_packet()
        packet.timestamp, packet.trusted_packet_sequence_id = cycle, _SEQUENCE
        packet.track_event.type, packet.track_event.track_uuid = kind, self._numbers[track]
        return packet

    def _describe(self, number: int, name: str, parent: int | None = None) -> None:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.track_descriptor.uuid, packet.track_descriptor.name = number, name
        if parent is not None:
            packet.track_descriptor.parent_uuid = parent
        self._builder.write_packet(packet)
