"""Pipelines: what `dcomc compile` runs first, how passes are verified, and the dumps that they leave."""

from pathlib import Path

import pytest
from broken_pass import BreakIterations

from dcomc.diagnostics import DcomError
from dcomc.instrumentation import Instrumentation
from dcomc.ir import make_context, parse_module, print_module, read_module
from dcomc.pipeline import Decomposition, decompose_pipeline, run_passes
from passes import make_passes

TOY = Path(__file__).parents[1] / "passes" / "dcom-insert-outlier-split.mlir"


def test_no_layer_no_pass() -> None:
    assert decompose_pipeline(Decomposition(layers=())) == []


def test_outliers_are_split_before_decomposition() -> None:
    names = [p.name for p in decompose_pipeline(Decomposition(layers=(1,), outliers=3))]
    assert names == ["dcom-insert-outlier-split", "dcom-decompose-activations", "dcom-preserve-decomposed"]
    assert [p.name for p in decompose_pipeline(Decomposition(layers=(1,)))] == names[1:]
    assert [p.name for p in decompose_pipeline(Decomposition(layers=(1,), outliers="t.toml"))] == names


def test_dumps_are_numbered_written_on_change_and_able_to_go_on(tmp_path: Path) -> None:
    context = make_context()
    module = read_module(str(TOY), context)
    folder = tmp_path / "new" / "dumps"
    pipeline = "dcom-preserve-decomposed,dcom-decompose-activations{layers=1 sites=qkv rank=2},dcom-preserve-decomposed"
    run_passes(context, module, make_passes(pipeline), Instrumentation(dump_dir=folder))
    assert sorted(path.name for path in folder.iterdir()) == [
        "00-input.mlir",
        "02-dcom-decompose-activations.mlir",
        "03-dcom-preserve-decomposed.mlir",
    ]
    again = read_module(str(folder / "02-dcom-decompose-activations.mlir"), context)
    run_passes(context, again, make_passes("dcom-preserve-decomposed"))
    assert print_module(again) == (folder / "03-dcom-preserve-decomposed.mlir").read_text(encoding="utf-8")


def test_an_invalid_result_names_its_pass(tmp_path: Path) -> None:
    context = make_context()
    module = read_module(str(TOY), context)
    passes = [*decompose_pipeline(Decomposition(layers=(1,), sites=("qkv",), rank=2)), BreakIterations()]
    with pytest.raises(DcomError, match="pass break-iterations left the module invalid: iterations 99 is not between"):
        run_passes(context, module, passes, Instrumentation(dump_dir=tmp_path))
    assert not list(tmp_path.glob("*break*"))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    module = parse_module("module {}", "empty")
    with pytest.raises(DcomError, match="cannot make"):
        run_passes(make_context(), module, [], Instrumentation(dump_dir=file / "dumps"))
