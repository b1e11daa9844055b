"""What is told of several streams side by side: statistics, profile and trace."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from machines import compile_kernel, machine
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from dcomc.cli import main
from dcomc.perfetto_trace import Window, write_trace
from dcomc.profile import profile
from dcomc.program import Program
from runtime.counts import Direction
from runtime.events import run_events
from runtime.instructions import Unit
from runtime.program import Launch

SHIPPED = machine()
MATRICES = 5


@pytest.fixture(params=["1x2", "2x1"])
def program(request: pytest.FixtureRequest) -> Program:
    """Streams that share no bank, or all of them."""
    kernel = compile_kernel(24, 40, 5, matrices=MATRICES, streams=request.param)
    return Program(SHIPPED, (kernel,), (Launch(kernel.name, 3, "qkv", MATRICES, 1, "here"),), "")


def test_a_profile_tells_streams_apart(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = profile(program)
    timing = program.simulate(timing_only=True).launches[0].timings[0]
    lines = told.by("stream")
    assert [line.counts.cycles for line in lines] == [own.cycles for _, own in timing.streams]
    assert all(sum(line.counts.causes.values()) == line.counts.cycles for line in lines)
    assert told.cycles == timing.cycles < told.total.cycles
    for view in ("kernel", "op", "opcode", "instruction"):
        assert sum(line.counts.cycles for line in told.by(view)) == told.total.cycles
    for way in Direction:
        assert sum(told.bank_bytes(way)) == told.total.bank_bytes(way)
    assert told.busy[Unit.ARRAY] <= told.cycles and told.busy[Unit.BANK] <= told.cycles
    program.save(tmp_path / "prog.bin")
    assert main(["profile", str(tmp_path / "prog.bin")]) == 0
    shown = capsys.readouterr().out
    assert f"total: {timing.cycles:,} cycles" in shown
    assert f"add up their cycles, {told.total.cycles:,} together" in shown
    assert "stream 1, " in shown
    assert " ".join(shown.split()).count("cycles of all streams share") == 4


def test_banks_of_streams_are_their_own(program: Program) -> None:
    """Side by side, the second stream with fewer matrices leaves its banks more time; above one another, all alike."""
    moved = profile(program).bank_bytes(Direction.READ)
    beside = program.kernels[0].streams[1].col == 8
    assert (min(moved[:8]) > max(moved[8:])) is beside


def test_statistics_of_streams(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.save(tmp_path / "prog.bin")
    assert main(["sim", str(tmp_path / "prog.bin"), "--stats", str(tmp_path / "stats.json")]) == 0
    capsys.readouterr()
    (entry,) = json.loads((tmp_path / "stats.json").read_text())["decompositions"]
    assert [stream["row"] + stream["col"] for stream in entry["streams"]] == [0, 8]
    assert all(sum(stream["causes"].values()) == stream["cycles"] for stream in entry["streams"])
    assert max(stream["cycles"] for stream in entry["streams"]) == entry["cycles"]
    assert sum(entry["causes"].values()) == pytest.approx(entry["cycles"])
    assert entry["causes"]["issue"] == sum(stream["causes"]["issue"] for stream in entry["streams"]) / 2
    assert entry["causes"]["ended"] == sum(entry["cycles"] - stream["cycles"] for stream in entry["streams"]) / 2
    assert main(["profile", str(tmp_path / "prog.bin"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cycles"] == entry["cycles"] and told["causes"] == entry["causes"]
    assert told["stream_cycles"] == sum(stream["cycles"] for stream in entry["streams"])
    for view in ("decomposition", "stream", "op", "instruction"):
        assert sum(line["cycles"] for line in told[view]) == told["stream_cycles"]
        assert all(sum(line["causes"].values()) == line["cycles"] for line in told[view])


def test_programs_of_other_streams_are_compared_by_their_means(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = compile_kernel(24, 40, 5, matrices=MATRICES, streams="4x4")
    replace(program, kernels=(kernel,)).save(tmp_path / "many.bin")
    program.save(tmp_path / "prog.bin")
    files = [str(tmp_path / name) for name in ("prog.bin", "many.bin")]
    assert main(["compare", *files, "--json", str(tmp_path / "found.json")]) == 0
    found = {each["name"]: each for each in json.loads((tmp_path / "found.json").read_text())}
    assert (found["streams"]["first"], found["streams"]["second"]) == (2, 16)
    assert not any(name.startswith("streams.") for name in found)
    for side in ("first", "second"):
        causes = [each[side] or 0 for name, each in found.items() if name.startswith("causes.")]
        assert sum(causes) == pytest.approx(found["cycles"][side], rel=0.2), "but for those that are equal"


def test_a_trace_has_tracks_for_each_stream(program: Program, tmp_path: Path) -> None:
    write_trace(program, tmp_path / "trace")
    trace = Trace.FromString((tmp_path / "trace").read_bytes())
    names = {packet.track_descriptor.name for packet in trace.packet if packet.HasField("track_descriptor")}
    own = {f"stream {number} {track}" for number in range(2) for track in ("issues", "stalls", "array")}
    assert own | {f"bank {bank}" for bank in range(16)} <= names
    timing = program.simulate(timing_only=True).launches[0].timings[0]
    assert max(packet.timestamp for packet in trace.packet) == timing.cycles


def test_a_window_of_streams_has_what_the_whole_has_there(program: Program, tmp_path: Path) -> None:
    """The file of a window is that of the whole without the events of other cycles, and no later ones are made."""
    timing = program.simulate(timing_only=True).launches[0].timings[0]
    for first, end in ((0, 300), (900, 1400), (timing.cycles - 400, timing.cycles + 9)):
        write_trace(program, tmp_path / "part", Window(first, end))
        assert events(tmp_path / "part") == Counter(
            event for event in all_events(program, tmp_path).elements() if event[1] < end and event[2] > first
        )
    kernel = program.kernels[0]
    made = list(run_events(kernel, program.machine, MATRICES, until=500))
    assert {event.stream for event in made} == {0, 1} and len(made) < timing.instructions / 2


def all_events(program: Program, tmp_path: Path) -> Counter[tuple[str, int, int]]:
    write_trace(program, tmp_path / "whole")
    return events(tmp_path / "whole")


def events(path: Path) -> Counter[tuple[str, int, int]]:
    """Track, first cycle and end of each."""
    names: dict[int, str] = {}
    begun: dict[int, int] = {}
    found: Counter[tuple[str, int, int]] = Counter()
    for packet in Trace.FromString(path.read_bytes()).packet:
        if packet.HasField("track_descriptor"):
            names[packet.track_descriptor.uuid] = packet.track_descriptor.name
            continue
        track = packet.track_event.track_uuid
        if packet.track_event.type == TrackEvent.TYPE_SLICE_BEGIN:
            begun[track] = packet.timestamp
        else:
            found[names[track], begun.pop(track), packet.timestamp] += 1
    return found
