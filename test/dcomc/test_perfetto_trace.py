"""`dcomc sim --trace`: the events of a trace, read back by the protobufs of Perfetto, are those of the timing."""

import contextlib
import io
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from dcomc import load
from dcomc.cli import main
from dcomc.diagnostics import DcomError
from dcomc.perfetto_trace import Window, trace_size, write_trace
from runtime.accelerator import time_kernel

Event = tuple[int, int, str, dict[str, str]]
"""Begin, end, name, annotations."""


@pytest.fixture(scope="module")
def program(tiny_ir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "prog.bin"
    options = ["--decompose-layers", "1", "--sites", "qkv,down", "--rank", "2", "--iterations", "3", "-o", str(path)]
    assert main(["compile", str(tiny_ir), *options]) == 0
    return path


def traced(program: Path, tmp_path: Path, *options: str) -> dict[str, list[Event]]:
    """Events by the name of their track."""
    path = tmp_path / "sim.pftrace"
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(["sim", str(program), "--timing-only", "--trace", str(path), *options]) == 0
    assert said.getvalue().startswith(f"wrote {path}, ")
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    names: dict[int, str] = {}
    open_events: dict[int, Any] = {}
    events: dict[str, list[Event]] = defaultdict(list)
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            assert names.setdefault(packet.track_descriptor.uuid, packet.track_descriptor.name)
            continue
        track = packet.track_event.track_uuid
        if packet.track_event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert track in names and track not in open_events
            open_events[track] = packet
        else:
            begin = open_events.pop(track)
            notes = {note.name: note.string_value for note in begin.track_event.debug_annotations}
            events[names[track]].append((begin.timestamp, packet.timestamp, begin.track_event.name, notes))
    assert not open_events
    return events


@pytest.fixture(scope="module")
def whole(program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Event]]:
    return traced(program, tmp_path_factory.mktemp("traced"))


def test_every_cycle_is_an_issue_or_a_stall(program: Path, whole: dict[str, list[Event]], tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    assert main(["sim", str(program), "--timing-only", "--stats", str(stats)]) == 0
    simulated = json.loads(stats.read_text())
    pieces = sorted((begin, end) for track in ("stream", "stalls") for begin, end, *_ in whole[track])
    assert pieces[0][0] == 0 and pieces[-1][1] == simulated["total_cycles"]
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(pieces))
    causes: dict[str, int] = defaultdict(int)
    for entry in simulated["decompositions"]:
        for cause, cycles in entry["causes"].items():
            causes[cause] += cycles
    stalls: dict[str, int] = defaultdict(int, issue=sum(end - begin for begin, end, *_ in whole["stream"]))
    for begin, end, cause, _ in whole["stalls"]:
        stalls[cause] += end - begin
    assert stalls == causes
    # Both prompts of a launch run at once, a group of clusters each.
    assert len(whole["decompositions"]) == 2 and {event[2] for event in whole["decompositions"]} == {
        "layer1.qkv",
        "layer1.down",
    }


def test_units_and_banks_are_as_busy_as_the_profile_says(
    program: Path, whole: dict[str, list[Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(program), "--json"]) == 0
    busy = json.loads(capsys.readouterr().out)["busy"]
    for unit in ("array", "row links", "column links", "scalar"):
        events = whole[unit]
        assert sum(end - begin for begin, end, *_ in events) == busy[unit] > 0
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(events)), "one at a time"
    banks = [sum(end - begin for begin, end, *_ in whole[f"bank {bank}"]) for bank in range(16)]
    assert sum(banks) / 16 == pytest.approx(busy["bank"])


def test_events_say_what_they_are_of(whole: dict[str, list[Event]]) -> None:
    notes = next(notes for _, _, name, notes in whole["array"] if name == "mv.col")
    assert notes["location"] == "z = A^T u" and ": mv.col [r0+0x" in notes["instruction"]
    assert "modeling_llama.py:" in whole["decompositions"][0][3]["location"]


def test_window(program: Path, whole: dict[str, list[Event]], tmp_path: Path) -> None:
    """Events that go on in it, the last of the first run and the first of the second."""
    cut = whole["decompositions"][0][1]
    first, end = cut - 200, cut + 300
    part = traced(program, tmp_path, "--trace-window", f"{first}:{end}")
    assert part == {
        track: kept
        for track, events in whole.items()
        if (kept := [event for event in events if event[1] > first and event[0] < end])
    }
    assert traced(program, tmp_path, "--trace-window", f"{first}:")["stream"][-1] == whole["stream"][-1]


def test_without_perfetto(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "perfetto.trace_builder.proto_builder", None)
    path = tmp_path / "sim.pftrace"
    assert main(["sim", str(program), "--trace", str(path)]) == 1
    streams = capsys.readouterr()
    assert (
        streams.err == "error: cannot import perfetto, which a trace needs; `pip install 'dcomc[perfetto]'` brings it\n"
    )
    assert streams.out == "" and not path.exists()


@pytest.mark.parametrize("window", ["5", "a:b", "7:7", "8:7", ":x", "-1:4"])
def test_windows_that_are_none(program: Path, window: str, mistake: Callable[..., str]) -> None:
    error = mistake("sim", program, "--trace", "x.pftrace", f"--trace-window={window}")
    assert f"'{window}' is no window of cycles" in error


def test_a_window_behind_the_end(
    program: Path, whole: dict[str, list[Event]], tmp_path: Path, mistake: Callable[..., str]
) -> None:
    end = max(end for _, end, *_ in whole["stream"])
    path = tmp_path / "sim.pftrace"
    error = mistake("sim", program, "--trace", path, f"--trace-window={end}:")
    assert f"the trace window begins at cycle {end:,}, but the program ends at cycle {end:,}" in error
    assert not path.exists()
    assert traced(program, tmp_path, f"--trace-window={end - 1}:")["stream"][0][2] == "halt"


def test_the_size_is_known_before(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sim.pftrace"
    for window in (Window(), Window(1000, 2500)):
        expected = trace_size(load(program), window)
        write_trace(load(program), path, window)
        assert path.stat().st_size / 1.5 < expected.bytes < path.stat().st_size * 1.5
    monkeypatch.setattr("dcomc.perfetto_trace.LARGE_BYTES", 100_000)
    assert main(["sim", str(program), "--timing-only", "--trace", str(path)]) == 0
    said, written = capsys.readouterr().err.splitlines()
    assert said.startswith("trace: about ") and f"of its {expected.cycles:,} cycles" in said
    assert written.startswith("wrote ")


def test_a_trace_has_the_limit_of_the_simulation(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the machine's own, which serves where none is given, as well as below."""
    path, loaded = tmp_path / "sim.pftrace", load(program)
    longest = max(time_kernel(kernel, loaded.machine).instructions for kernel in loaded.kernels)
    with pytest.raises(DcomError, match="the stream issues more than"):
        write_trace(loaded, path, limit=longest - 1)
    assert not path.exists()
    monkeypatch.setattr("runtime.sequencer.ISSUE_LIMIT", longest - 1)
    write_trace(loaded, path, limit=longest)
    assert path.exists()


def test_a_window_of_no_trace(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", str(program), "--trace-window", "1:2"]) == 1
    assert "give --trace FILE, too" in capsys.readouterr().err
