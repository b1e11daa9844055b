"""What `dcomc report` gathers: lines and origins of IR, the stages of a program, its cycles, and results given."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import dcomc
from dcomc.cli import main
from dcomc.diagnostics import DcomError
from dcomc.report import cycles
from dcomc.report.cycles import WAITS, time_kernels
from dcomc.report.data import Report, gather, page_json
from dcomc.report.ir_text import Origin, Origins, Place, cut_module, parse_lines
from dcomc.report.stages import group_layers, make_pipeline
from runtime.instructions import Unit

TEXT = """module @m {
  func.func private @decoder_layer_3(%x: f32 loc("model.layers.3"("a/b.py":1:1))) -> f32 {
    %a = arith.constant {text = "( loc(", n = 1 : i64} 1.0 : f32 loc("model.layers.3.mlp"("a/b.py":7:1))
    %b = linalg.generic ins(%a : f32) {
    ^bb0(%c: f32 loc("model.layers.3.mlp"("a/b.py":8:1))):
      linalg.yield %c : f32 loc(unknown)
    } -> f32 loc(fused["model.layers.3.q_proj"("a/b.py":8:1), "model.layers.3.k_proj"("a/b.py":9:1)])
  } loc("model.layers.3"("a/b.py":1:1))
  func.func @main() {
    func.call @decoder_layer_3(%x, %y) {dcom.layer = 3 : i64} : () -> ()
  }
}
"""


@pytest.fixture(scope="module")
def report(tiny_program: Path) -> Report:
    return gather(tiny_program, tiny_program.parent / "stages")


def test_lines_lose_their_locations_and_openings_have_those_of_their_ends():
    lines = parse_lines(cut_module(TEXT).operations["decoder_layer_3"])
    assert [line.text.strip() for line in lines] == [
        "func.func private @decoder_layer_3(%x: f32) -> f32 {",
        '%a = arith.constant {text = "( loc(", n = 1 : i64} 1.0 : f32',
        "%b = linalg.generic ins(%a : f32) {",
        "^bb0(%c: f32):",
        "linalg.yield %c : f32",
        "} -> f32",
        "}",
    ]
    assert lines[0].location == lines[-1].location == '"model.layers.3"("a/b.py":1:1)'
    assert lines[2].location == lines[5].location
    assert lines[3].location == '"model.layers.3.mlp"("a/b.py":8:1)'
    assert lines[4].location == "unknown"


def test_the_names_of_units_are_of_the_data_alone(report: Report) -> None:
    """So that the page shows a unit that its scripts know nothing of."""
    scripts = Path(cycles.__file__).parent.glob("template/*.js")
    assert not [(script.name, unit) for script in scripts for unit in Unit if f'"{unit}"' in script.read_text()]
    for kernel in report.kernels:
        assert list(kernel.busy) == [unit for unit in Unit if unit in kernel.busy]
        assert {*kernel.event_units} - {WAITS} <= {unit for unit, busy in kernel.busy.items() if busy > 0}


def test_modules_are_cut_into_functions_and_layers():
    module = cut_module(TEXT)
    assert list(module.operations) == ["decoder_layer_3", "main"]
    assert module.layers == {3: "decoder_layer_3"}


def test_origins_have_places_without_layers_and_the_step_of_a_kernel():
    origins = Origins()
    fused = 'fused["model.layers.3.q_proj"("a/b.py":8:1), "model.layers.4.q_proj"("a/b.py":8:1), "m"("c.py":2:1)]'
    assert origins.number(fused) == 0
    assert origins.number(f'"z = A^T u"({fused})') == 1
    assert origins.number('"z = A^T u"("m"("c.py":2:1))') == 2
    assert origins.number("unknown") == -1
    assert list(origins.places) == [Place("model.layers.*.q_proj", "a/b.py", 8), Place("m", "c.py", 2)]
    assert list(origins.origins) == [Origin("", (0, 1)), Origin("z = A^T u", (0, 1)), Origin("z = A^T u", (1,))]


def test_layers_that_differ_in_their_number_alone_are_together():
    def layer(number: int, rank: int) -> str:
        return f"    %f = dcom.decompose %x {{layer = {number} : i64, rank = {rank}}}\n"

    functions = {f"decoder_layer_{n}": layer(n, rank) for n, rank in ((1, 4), (2, 5), (12, 4))}
    module = cut_module(TEXT)
    host = replace(module, operations=functions, layers={n: f"decoder_layer_{n}" for n in (1, 2, 12)})
    assert group_layers(host) == [(1, 12), (2,)]


def test_a_program_with_its_stages(report: Report):
    (view,) = report.pipeline.views
    assert view.layers == (1, 2)
    levels = [stage.level for stage in view.stages]
    assert levels == sorted(levels, key=["Python", "Level 0", "dcom", "cluster", "isa"].index)
    assert set(levels) == {"Python", "Level 0", "dcom", "cluster", "isa"}
    first = view.stages[1]
    assert first.name == "00-input"
    assert any("linalg.matmul" in report.pipeline.lines[line] for line in first.lines)
    assert {(each.layer, each.site) for each in report.decompositions} == {
        (layer, site) for layer in (1, 2) for site in ("qkv", "o", "gate_up", "down")
    }
    assert {each.state for each in report.sites if each.layer in (0, 3)} == {"dense"}
    assert all(reason.layers == (1, 2) and reason.stopped and "dense" in reason.chosen for reason in report.reasons)


def test_a_line_of_python_is_tied_to_instructions(report: Report):
    pipeline = report.pipeline
    python, *_, instructions = pipeline.views[0].stages
    (query,) = (n for n, line in enumerate(python.lines) if "self.q_proj(" in pipeline.lines[line])
    places = set(pipeline.origins[python.origins[query]].places)
    tied = [n for n, origin in enumerate(instructions.origins) if places & set(pipeline.origins[origin].places)]
    assert any(instructions.instructions[n] for n in tied)


def test_instructions_are_numbered_as_in_their_kernel(tiny_program: Path, report: Report):
    program, pipeline = dcomc.load(tiny_program), report.pipeline
    stage = pipeline.views[0].stages[-1]
    for line, name in zip(stage.lines, stage.instructions, strict=True):
        if name:
            kernel, _, number = name.partition(":")
            word = program.kernel(kernel).words[int(number)]
            assert pipeline.lines[line].split()[0] == f"isa.{word.instruction.mnemonic}"
    launched = {launch.kernel for launch in program.launches if launch.layer == 1}
    assert sum(map(bool, stage.instructions)) == sum(len(program.kernel(name).words) for name in launched)


def test_other_kernels_than_the_passes_make_are_shown_as_they_are(tiny_program: Path):
    from dcomc.ir import parse_module

    program = dcomc.load(tiny_program)
    kernels = tuple(replace(kernel, seed=int(kernel.seed or 0) + 1) for kernel in program.kernels)
    pipeline = make_pipeline(replace(program, kernels=kernels), parse_module(program.host, "host"), None)
    assert [stage.level for stage in pipeline.views[0].stages] == ["Python", "dcom", "isa"]
    assert pipeline.views[0].stages[-1].name == "instructions"


def test_cycles_of_instructions_and_causes_add_up(tiny_program: Path):
    program = dcomc.load(tiny_program)
    for kernel in time_kernels(program):
        assert sum(kernel.causes.values()) == kernel.cycles
        assert sum(sum(each.cycles.values()) for each in kernel.instructions) == kernel.cycles
        waits = sum(count for cause, count in kernel.causes.items() if cause != "issue")
        assert waits == sum(
            end - start
            for unit, start, end in zip(kernel.event_units, kernel.event_starts, kernel.event_ends, strict=True)
            if unit == WAITS
        )
        assert all(start < end for start, end in zip(kernel.event_starts, kernel.event_ends, strict=True))


def test_a_timeline_of_streams(tiny_ir: Path, monkeypatch: pytest.MonkeyPatch):
    """Each has its events up to a common cycle, and what is told of all is their mean."""
    program = dcomc.compile(tiny_ir, [1], sites=("qkv",), rank=2, block=8, mapping="grid", streams="2x2")
    (found,) = time_kernels(program)
    assert found.all_streams == len(found.streams) == 4 and {*found.event_streams} == {0, 1, 2, 3}
    assert sum(found.causes.values()) == pytest.approx(found.cycles) and found.causes["ended"] > 0
    own = sum(sum(each.cycles.values()) for each in found.instructions)
    assert own + found.causes["ended"] == pytest.approx(found.cycles)
    monkeypatch.setattr(cycles, "MOST_EVENTS", 400)
    monkeypatch.setattr(cycles, "MOST_STREAMS", 2)
    (cut,) = time_kernels(program)
    assert cut.all_streams == 4 and len(cut.streams) == 2 and {*cut.event_streams} == {0, 1}
    assert cut.event_streams.count(0) >= 200 and len(cut.event_streams) < 600
    assert max(cut.event_ends) < found.cycles


def test_the_roofline_holds_what_is_reached_below_it(report: Report):
    roofline = report.roofline
    assert {name for point in roofline.points for name in point.launches} >= {"layer1.qkv", "layer2.down"}
    for point in roofline.points:
        assert point.bytes / point.seconds <= roofline.bytes_per_second
        assert point.flops / point.seconds < roofline.flops_per_second


def test_errors_of_a_simulation_are_taken(tiny_program: Path, tmp_path: Path):
    stats = tmp_path / "stats.json"
    assert main(["sim", str(tiny_program), "--stats", str(stats)]) == 0
    report = gather(tiny_program, results=[stats])
    assert all(each.error and each.optimal_error and each.error >= each.optimal_error for each in report.decompositions)


def test_results_of_another_program_are_refused(tiny_program: Path, tmp_path: Path):
    stats = tmp_path / "stats.json"
    assert main(["sim", str(tiny_program), "--timing-only", "--stats", str(stats)]) == 0
    values = json.loads(stats.read_text())
    stats.write_text(json.dumps({**values, "options": {**values["options"], "rank": 5}}))
    with pytest.raises(DcomError, match="of another program"):
        gather(tiny_program, results=[stats])


def test_scores_of_a_run(tiny_program: Path, tmp_path: Path):
    scores = {"perplexity": 30.0, "ratio": 1.5}
    run = {"dense_perplexity": 20.0, **scores, "tokens": 512, "controls": {"rank_0": {"perplexity": 40, "ratio": 2}}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (quality,) = gather(tiny_program, results=[tmp_path / "run.json"]).quality
    assert [(score.name, score.value, score.change) for score in quality.scores] == [
        ("dense", 20.0, None),
        ("program", 30.0, 1.5),
        ("rank_0", 40.0, 2.0),
    ]


def test_latencies_of_an_estimate(tiny_program: Path, tmp_path: Path):
    stats = tmp_path / "estimate.json"
    assert main(["estimate", str(tiny_program), "--tp=2", "--batch=4", "--stats", str(stats)]) == 0
    latency = gather(tiny_program, results=[stats]).latency
    assert [each.variant for each in latency] == ["dense", "gpu", "dcom"]
    assert {(each.host, each.batch, each.source) for each in latency} == {("2 x a100-80gb", 4, "estimate.json")}
    assert all(0 < each.fastest <= each.seconds <= each.slowest for each in latency)
    values = json.loads(stats.read_text())
    stats.write_text(json.dumps({**values, "options": {**values["options"], "rank": 5}}))
    with pytest.raises(DcomError, match="of another program"):
        gather(tiny_program, results=[stats])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"decompositions": [1]}', '{"models": {}}', '{"dense_perplexity": "x"}', '{"variants": {}}'],
)
def test_files_without_results_are_named(tiny_program: Path, tmp_path: Path, text: str):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DcomError, match=r"results\.json holds no"):
        gather(tiny_program, results=[tmp_path / "results.json"])


def test_a_page_that_is_there_is_written_again_but_no_result(
    tiny_program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    result, page = tmp_path / "result.json", tmp_path / "page.html"
    result.write_text("{}")
    page.write_text("old")
    command = ["report", str(tiny_program), "--result", str(result), "-o"]
    assert main([*command, str(page)]) == 1
    assert "result.json holds no" in capsys.readouterr().err
    assert main([*command, str(result)]) == 1
    assert "result.json: it is read, too" in capsys.readouterr().err


def test_stages_of_another_program_are_refused(tiny_program: Path, tiny_ir: Path, tmp_path: Path):
    other = ["compile", str(tiny_ir), "--decompose-layers=1-2", "--rank=5", "--iterations=6", "--emit=dcom"]
    assert main([*other, "--dump-ir-dir", str(tmp_path / "stages"), "-o", str(tmp_path / "other.mlir")]) == 0
    with pytest.raises(DcomError, match="end in another layer 1"):
        gather(tiny_program, tmp_path / "stages")
    with pytest.raises(DcomError, match="holds no stage"):
        gather(tiny_program, tmp_path)


def test_values_cannot_end_the_element_that_holds_them():
    assert "</" not in page_json({"text": "</script><b>"})
    assert json.loads(page_json({"text": "</script>"})) == {"text": "</script>"}


def test_the_expansion_factor_is_swept(tiny_program: Path):
    program = dcomc.load(tiny_program)
    swept = gather(tiny_program, expansion=True).expansion
    assert [each.kernel for each in swept] == [kernel.name for kernel in program.kernels]
    for each in swept:
        assert {(point.vectors, point.factor) for point in each.points} == {
            (vectors, 1 << exponent) for vectors in ("banks", "buffers") for exponent in range(9)
        }
        assert all(point.reorthogonalisation < point.cycles for point in each.points)
