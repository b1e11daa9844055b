"""The registry of passes: every pass is described and has a FileCheck test, and pipelines are read strictly."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from dcomc.diagnostics import DcomError
from passes import PASSES, UPSTREAM, describe_pass, make_passes, pass_summaries
from passes.dcom_decompose_activations import DcomDecomposeActivationsPass
from passes.dcom_insert_outlier_split import DcomInsertOutlierSplitPass

FOLDER = Path(__file__).parent
OURS = sorted(set(PASSES) - set(UPSTREAM))
PACKAGE = FOLDER.parents[1] / "passes"


@pytest.mark.parametrize("name", OURS)
def test_every_pass_has_its_file_its_test_and_its_description(name: str) -> None:
    class_ = PASSES[name]()
    assert class_.name == name
    assert inspect.getfile(class_) == str(PACKAGE / f"{name.replace('-', '_')}.py")
    commands = (FOLDER / f"{name}.mlir").read_text(encoding="utf-8")
    assert re.search(rf"RUN:.*-p\s+'?{name}\b|RUN:.*,{name}\b", commands), f"{name}.mlir does not run the pass"
    assert dataclasses.is_dataclass(class_)
    with pytest.raises(dataclasses.FrozenInstanceError):
        class_(**dict.fromkeys(class_.required_fields(), ())).name = "other"
    text = describe_pass(name)
    assert "before" in text.lower() and "after" in text.lower(), (
        f"the description of {name} shows no IR before and after"
    )
    for field in dataclasses.fields(class_):
        assert f"\n  {field.name}: " in text


def test_every_file_of_the_package_is_a_registered_pass_or_a_helper() -> None:
    stems = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    assert stems == {name.replace("-", "_") for name in OURS}


def test_no_lit_file_without_a_pass() -> None:
    """A file is named as its pass; more files on the same pass say what they are about after that name."""
    for stem in (path.stem for path in FOLDER.glob("*.mlir")):
        assert any(stem == name or stem.startswith(f"{name}-") for name in OURS), stem


def test_summaries_are_one_sentence_each() -> None:
    summaries = pass_summaries()
    assert list(summaries) == list(PASSES)
    assert all(re.fullmatch(r"[A-Z].*\.", summary) for summary in summaries.values()), summaries


def test_options_become_fields() -> None:
    first, second, third = make_passes(
        "dcom-insert-outlier-split{layers=3 outliers=2},"
        "dcom-decompose-activations{layers=10,15 sites=qkv,gate_up rank=4},"
        'dcom-insert-outlier-split{layers=1 outliers="a/b.toml"}'
    )
    assert first == DcomInsertOutlierSplitPass(layers=(3,), outliers=2)
    assert second == DcomDecomposeActivationsPass(layers=(10, 15), sites=("qkv", "gate_up"), rank=4)
    assert third == DcomInsertOutlierSplitPass(layers=(1,), outliers="a/b.toml")


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("dcom-legalise", r"unknown pass 'dcom-legalise'; did you mean 'dcom-legalize'\?"),
        ("dcom-decompose-activations{layer=1}", r"has no option 'layer'; did you mean 'layers'\?"),
        ("dcom-legalize{rank=1}", "has no option 'rank'; it has none"),
        ("dcom-decompose-activations", "needs the option layers"),
        ("dcom-decompose-activations{layers=a}", "option layers .* is a; expected an integer"),
        ("dcom-decompose-activations{layers=1,true}", "option layers .* is 1,True; expected an integer"),
        ("dcom-decompose-activations{layers=1 rank=2.5}", r"option rank .* is 2\.5; expected an integer"),
        ("dcom-decompose-activations{layers=1 rank=2,3}", "option rank .* is 2,3; expected an integer"),
        ("dcom-decompose-activations{layers}", "option layers .* is nothing"),
        ("dcom-decompose-activations{layers=1", "is not a pipeline"),
        ("cse;dce", "is not a pipeline"),
        (",", "is not a pipeline"),
        ("", "the pipeline is empty"),
    ],
)
def test_mistakes_in_a_pipeline(pipeline: str, message: str) -> None:
    with pytest.raises(DcomError) as caught:
        make_passes(pipeline)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
