"""Groups of clusters chosen by the shape and number of matrices, held against the simulator."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr
from xdsl.rewriter import InsertPoint, Rewriter

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module
from dcomc.pipeline import cluster_pipeline, isa_pipeline, run_passes
from dialects import isa
from dialects.cluster import KernelOp
from dialects.dcom import DecomposeOp
from passes import _candidates
from passes._candidates import Candidate, choose
from passes._streams import ONE_STREAM
from passes.cluster_expand_reductions import ClusterExpandReductionsPass
from passes.cluster_map import ClusterMapPass
from passes.cluster_schedule import ClusterSchedulePass
from passes.lower_dcom_to_cluster import LowerDcomToClusterPass
from runtime.accelerator import time_launch
from runtime.machine import load_machine
from runtime.program import Kernel

MACHINE = load_machine("dcom-16x16")
Shape = tuple[int, int, int]
"""Rows, columns and Lanczos steps."""


def decomposition(shape: Shape, matrices: int, gram_schmidt: str = "classical") -> ModuleOp:
    rows, cols, iterations = shape
    factored = f"!dcom.factored<{matrices}x{rows}x{cols}, rank 1, f32>"
    text = f"""func.func @f(%x: tensor<{matrices * rows}x{cols}xf32>) -> {factored} {{
      %f = dcom.decompose %x {{layer = 0 : i64, site = "qkv", iterations = {iterations} : i64,
        reorthogonalisation = 1 : i64, seed = 0 : i64, gram_schmidt = "{gram_schmidt}"}}
        : tensor<{matrices * rows}x{cols}xf32> -> {factored}
      func.return %f : {factored}
    }}"""
    return parse_module(text, "kernel.mlir", make_context())


def compiled(
    shape: Shape,
    matrices: int,
    mapping: str,
    in_flight: int | None = None,
    streams: str = "1x1",
    machine: str = "dcom-16x16",
) -> Kernel:
    module = decomposition(shape, matrices)
    passes = cluster_pipeline(machine, mapping, in_flight, streams=streams) + isa_pipeline(machine)
    run_passes(make_context(), module, passes)
    (kernel,) = (isa.assemble_kernel(op) for op in module.body.block.ops if isinstance(op, isa.KernelOp))
    return kernel


def cycles(kernel: Kernel, matrices: int) -> int:
    return sum(timing.cycles for timing in time_launch(kernel, MACHINE, matrices))


@pytest.mark.parametrize(
    ("shape", "matrices"), [((128, 1024, 3), 150), ((512, 576, 4), 1), ((64, 576, 8), 8), ((86, 2048, 5), 64)]
)
def test_what_is_expected_is_what_the_simulator_finds(shape: Shape, matrices: int) -> None:
    """Of the best mappings, and so the choice is the best of them, or as good."""
    module = decomposition(shape, matrices)
    run_passes(make_context(), module, [LowerDcomToClusterPass()])
    (kernel,) = (op for op in module.ops if isinstance(op, KernelOp))
    best = choose(kernel, MACHINE, [matrices], streams=ONE_STREAM, every=True).found[:3]
    found: list[int] = []
    for candidate in best:
        rows, cols = candidate.group
        found.append(cycles(compiled(shape, matrices, f"{rows}x{cols}", candidate.in_flight), matrices))
        assert candidate.cycles(matrices) == pytest.approx(found[-1], rel=0.15)
    assert found[0] <= 1.15 * min(found)
    assert cycles(compiled(shape, matrices, "auto"), matrices) == found[0]


@pytest.mark.parametrize(("factor", "groups"), [(None, True), (8, False)])
def test_modified_gram_schmidt_is_mapped_too(factor: int | None, groups: bool) -> None:
    """Its loops over vectors have instructions for groups; the paper's expansion of them takes the whole grid."""
    found: dict[str, int] = {}
    for mapping in ("auto", "grid"):
        module = decomposition((64, 64, 4), 64, "modified")
        passes = [LowerDcomToClusterPass(), ClusterMapPass(mapping=mapping), ClusterSchedulePass()]
        expansion = [] if factor is None else [ClusterExpandReductionsPass(factor)]
        run_passes(make_context(), module, [*passes[:1], *expansion, *passes[1:], *isa_pipeline("dcom-16x16")])
        (kernel,) = (isa.assemble_kernel(op) for op in module.body.block.ops if isinstance(op, isa.KernelOp))
        found[mapping] = cycles(kernel, 64)
    assert found["auto"] < found["grid"] if groups else found["auto"] == found["grid"]


def test_groups_for_token_blocks_and_the_grid_for_what_streams() -> None:
    blocks, prompts = compiled((128, 4096, 10), 2048, "auto").layout, compiled((4096, 4096, 10), 64, "auto").layout
    assert (blocks.span_rows, blocks.span_cols, blocks.in_flight, blocks.folded) == (8, 8, 3, 1)
    assert (prompts.span_rows, prompts.span_cols, prompts.in_flight, prompts.folded) == (0, 0, 1, 0)


@pytest.mark.parametrize(("shape", "group"), [((64, 64, 9), (2, 4)), ((24, 64, 10), (2, 2)), ((512, 576, 4), (16, 16))])
def test_one_matrix_takes_the_soonest_of_all_groups(shape: Shape, group: tuple[int, int]) -> None:
    """A small one a part of the grid. Those groups that are not timed would not have been the soonest."""
    module = decomposition(shape, 1)
    run_passes(make_context(), module, [LowerDcomToClusterPass()])
    (kernel,) = (op for op in module.ops if isinstance(op, KernelOp))
    every, some = choose(kernel, MACHINE, [1], every=True).found, choose(kernel, MACHINE, [1]).found
    assert every[0] == some[0] and set(some) <= set(every)
    assert every[0].group == group
    found = {one.group: cycles(compiled(shape, 1, f"{one.group[0]}x{one.group[1]}"), 1) for one in every[:4]}
    assert cycles(compiled(shape, 1, "auto"), 1) == found[group] == min(found.values())


@pytest.mark.parametrize("shape", [(512, 4096, 4), (86, 2048, 5), (1024, 11008, 3)])
@pytest.mark.parametrize("matrices", [1, 150])
def test_no_mapping_is_better_than_its_bound(shape: Shape, matrices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = decomposition(shape, matrices)
    run_passes(make_context(), module, [LowerDcomToClusterPass()])
    (kernel,) = (op for op in module.ops if isinstance(op, KernelOp))
    timed = {one.place: one for one in choose(kernel, MACHINE, [matrices], every=True).found}

    def unchanged(bound: Candidate, *_: object) -> Candidate:
        return bound

    monkeypatch.setattr(_candidates, "_timed", unchanged)
    bounds = {one.place: one for one in choose(kernel, MACHINE, [matrices], every=True).found}
    assert len(timed) > 1
    assert all(bounds[place].cycles(matrices) <= one.cycles(matrices) for place, one in timed.items())


def test_no_more_in_flight_than_there_are_matrices() -> None:
    assert compiled((128, 512, 4), 4, "8x8").layout.in_flight == 1
    assert compiled((128, 512, 4), 5, "8x8").layout.in_flight == 2
    assert compiled((128, 512, 4), 4, "auto").layout.in_flight == 1


def test_those_in_flight_that_are_given_are_chosen_for() -> None:
    """Groups in which so many have no room are none, and cycles are expected of so many."""
    module = decomposition((128, 4096, 10), 2048)
    run_passes(make_context(), module, [LowerDcomToClusterPass()])
    (kernel,) = (op for op in module.ops if isinstance(op, KernelOp))
    assert {candidate.in_flight for candidate in choose(kernel, MACHINE, [2048], every=True, in_flight=2).found} == {2}
    assert (8, 8) in {candidate.group for candidate in choose(kernel, MACHINE, [2048], every=True, in_flight=3).found}
    assert (8, 8) not in {
        candidate.group for candidate in choose(kernel, MACHINE, [2048], every=True, in_flight=4).found
    }
    assert compiled((128, 4096, 10), 2048, "auto", 4).layout.in_flight == 4


def test_the_group_that_was_taken_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it is expected to be the soonest or not, and if it would not be looked at otherwise."""
    for mapping, taken in (("grid", "16x16"), ("16x4", "16x4"), ("auto", "")):
        module = decomposition((128, 512, 4), 64)
        run_passes(make_context(), module, [LowerDcomToClusterPass(), ClusterMapPass(mapping=mapping, explain=True)])
        (marked,) = (line for line in capsys.readouterr().err.splitlines() if "(taken)" in line)
        assert marked.strip().startswith(taken)


def test_the_choice_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    module = decomposition((128, 512, 4), 64)
    run_passes(make_context(), module, [LowerDcomToClusterPass(), ClusterMapPass(mapping="auto", explain=True)])
    text = capsys.readouterr().err
    assert text.startswith("kernel lanczos_128x512_k4_r1_s0 on dcom-16x16, 1 launch of 64 matrices:\n")
    expected = [
        int(line.split("  ")[1].replace(",", "")) for line in re.findall(r"^ *\d+x\d+.*$", squeezed(text), re.M)
    ]
    assert len(expected) > 5 and expected == sorted(expected)


def squeezed(text: str) -> str:
    """With two spaces between columns and none before the first."""
    return re.sub(r"  +", "  ", re.sub(r"^ +", "", text, flags=re.M))


def all_cycles(shape: Shape, matrices: int) -> dict[str, int]:
    """Of each number of streams that halves the grid again and again, with a matrix in each, where there is room."""
    found: dict[str, int] = {}
    for down in (1, 2, 4, 8, 16):
        for across in (1, 2, 4, 8, 16):
            if 1 < down * across <= min(16, matrices):
                with suppress(DcomError):
                    kernel = compiled(shape, matrices, "grid", streams=f"{down}x{across}")
                    found[f"{down}x{across}"] = cycles(kernel, matrices)
    return found


@pytest.mark.parametrize(
    ("shape", "matrices", "several"),
    [((1024, 576, 3), 64, True), ((512, 2048, 4), 16, True), ((512, 4096, 2), 24, True), ((64, 576, 3), 64, False)],
)
def test_streams_are_chosen_where_they_save_cycles(shape: Shape, matrices: int, several: bool) -> None:
    """And then nearly as few as the best take."""
    auto, one = (compiled(shape, matrices, "auto", streams=streams) for streams in ("auto", "1x1"))
    assert bool(auto.streams) is several
    best = min(cycles(one, matrices), *all_cycles(shape, matrices).values())
    assert cycles(auto, matrices) <= 1.03 * best
    assert several == (best < 0.98 * cycles(one, matrices))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 3), st.integers(1, 40))
def test_a_choice_of_streams_never_takes_longer_than_one(rows: int, cols: int, iterations: int, matrices: int) -> None:
    shape = rows, cols, min(iterations, rows, cols)
    machine = load_machine("edge-4x4")
    found = {
        streams: sum(timing.cycles for timing in time_launch(kernel, machine, matrices))
        for streams in ("auto", "1x1")
        for kernel in [compiled(shape, matrices, "auto", streams=streams, machine="edge-4x4")]
    }
    assert found["auto"] <= found["1x1"]


def test_streams_that_share_a_bank_wait_for_it() -> None:
    """Eight matrices for four streams take two rounds, of a matrix alone or of the bank for all four."""
    for bank, a_round in ((40, 160), (20, 100)):
        candidate = Candidate((4, 1), (4, 16), 1, 1, alone=100, array=50, bank=bank)
        assert candidate.cycles(8) == 2 * a_round


@pytest.mark.parametrize("in_flight", [0, 5, -1])
def test_in_flight_is_a_number_of_slots(in_flight: int) -> None:
    with pytest.raises(DcomError, match=rf"in_flight {in_flight} is not between 1 and 4"):
        compiled((128, 512, 4), 1, "8x8", in_flight)


def test_buffers_that_are_too_small_name_sizes() -> None:
    message = (
        r"in_flight 4: kernel @lanczos_128x4096_k10_r1_s0 needs 21376 bytes of buffer for each of 4 matrices in flight,"
        r" but dcom-16x16 has 65536 in a cluster; at most 3 fit"
    )
    with pytest.raises(DcomError, match=message):
        compiled((128, 4096, 10), 64, "8x8", 4)


def test_copies_have_names_of_their_own(tmp_path: Path) -> None:
    """Where the module has a kernel of the name that a copy would have."""
    config = tmp_path / "sites.toml"
    config.write_text('[layers.0]\nmapping = "8x8"\n')
    module = decomposition((24, 40, 3), 4)
    LowerDcomToClusterPass().apply(make_context(), module)
    (kernel,) = (op for op in module.body.block.ops if isinstance(op, KernelOp))
    other, unused = kernel.clone(), kernel.clone()
    other.properties["sym_name"] = StringAttr(f"{kernel.sym_name.data}_8x8")
    unused.properties["sym_name"] = StringAttr("unused")
    module.body.block.add_ops([other, unused])
    (launch,) = (op for op in module.walk() if isinstance(op, DecomposeOp))
    second = launch.clone()
    second.properties["layer"] = IntegerAttr(1, 64)
    Rewriter.insert_op(second, InsertPoint.after(launch))
    ClusterMapPass("dcom-16x16", "grid", config=str(config)).apply(make_context(), module)
    module.verify()
    names = [op.sym_name.data for op in module.body.block.ops if isinstance(op, KernelOp)]
    assert len(set(names)) == len(names) == 4
    assert launch.kernel and launch.kernel.string_value() == f"{kernel.sym_name.data}_8x8_"
    assert second.kernel and second.kernel.string_value() == kernel.sym_name.data
