"""The passes from Level 0 to the dcom dialect on traced models: what they choose, share, keep and refuse."""

import re
from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects import ml_program
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import CallOp, FuncOp

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import Decomposition, decompose_pipeline, run_passes
from dialects import dcom
from passes import make_passes
from runtime.executor import Executor

_LIT = Path(__file__).with_name("dcom-insert-outlier-split.mlir").read_text(encoding="utf-8")
TOY = "\n".join(line for line in _LIT.splitlines() if not line.startswith("//"))
"""Three layers of q, k and v on two prompts of 8 tokens and 12 channels."""


_LIT_REUSE = Path(__file__).with_name("dcom-decompose-activations-reuse.mlir").read_text(encoding="utf-8")
REUSE = "\n".join(line for line in _LIT_REUSE.splitlines() if not line.startswith("//"))
"""One layer with the sites qkv, o and down."""


def toy(text: str = TOY) -> ModuleOp:
    return parse_module(text, "toy", make_context())


def run(module: ModuleOp, pipeline: str) -> ModuleOp:
    run_passes(make_context(), module, make_passes(pipeline))
    return module


def of_type(module: ModuleOp, class_: type) -> list[object]:
    return [op for op in module.walk() if isinstance(op, class_)]


def values(module: ModuleOp) -> list[np.ndarray]:
    """Random arguments of @main of a toy module, and what it makes of them."""
    main = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == "main")
    rng = np.random.default_rng(3)
    arguments = [rng.normal(size=type_.get_shape()).astype(np.float32) for type_ in main.function_type.inputs]
    return [np.asarray(value) for value in Executor(module, {}).run("main", *arguments)]


def test_splitting_changes_no_result() -> None:
    """dense W + outliers W is x W."""
    before = values(toy())[0]
    after = values(run(toy(), "dcom-insert-outlier-split{layers=0,1,2 sites=qkv outliers=30}"))[0]
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()


def test_full_rank_changes_no_result() -> None:
    before = values(toy())[0]
    module = run(toy(), "dcom-decompose-activations{layers=0,1,2 sites=qkv rank=8},dcom-preserve-decomposed")
    after = values(module)[0]
    assert np.abs(before - after).max() <= 1e-4 * np.abs(before).max()


def test_preserving_changes_no_result() -> None:
    """(U core V) W is U core (V W)."""
    first = "dcom-insert-outlier-split{layers=0,1,2 sites=qkv outliers=10},"
    second = "dcom-decompose-activations{layers=0,1,2 sites=qkv rank=3}"
    reconstructed = values(run(toy(), first + second))[0]
    preserved = values(run(toy(), f"{first}{second},dcom-preserve-decomposed"))[0]
    assert np.abs(reconstructed - preserved).max() <= 1e-5 * np.abs(reconstructed).max()
    assert np.abs(reconstructed - values(toy())[0]).max() > 0.1


def test_exact_tokens_change_no_result() -> None:
    """dense W + outliers W + tokens W is x W."""
    before = values(toy())[0]
    module = run(toy(), "dcom-insert-outlier-split{layers=0,1,2 sites=qkv outliers=10 exact_rows=30}")
    assert np.abs(before - values(module)[0]).max() <= 1e-5 * np.abs(before).max()


@pytest.mark.parametrize(
    "tokens", ["", "dcom-insert-outlier-split{layers=0 sites=qkv,o,down exact_rows=20 reuse=o,down},"]
)
def test_a_full_basis_serves_all_sites(tokens: str) -> None:
    """Every site projected on the 8 directions of a prompt's 8 tokens stays what it is, exact tokens included."""
    before = values(toy(REUSE))
    pipeline = f"{tokens}dcom-decompose-activations{{layers=0 sites=qkv,o,down rank=8 reuse=o,down}}"
    after = values(run(toy(REUSE), f"{pipeline},dcom-preserve-decomposed"))
    for expected, value in zip(before, after, strict=True):
        assert np.abs(expected - value).max() <= 1e-4 * np.abs(expected).max()


def test_a_chosen_layer_is_called_by_its_own_name_only() -> None:
    module = run(toy(), "dcom-decompose-activations{layers=2,0,2 sites=qkv rank=2}")
    names = [op.sym_name.data for op in module.ops if isinstance(op, FuncOp)]
    assert names == ["decoder_layer", "decoder_layer_0", "decoder_layer_2", "main"]
    calls = [op.callee.root_reference.data for op in of_type(module, CallOp)]
    assert calls == ["decoder_layer_0", "decoder_layer", "decoder_layer_2"]


def test_a_later_pass_keeps_the_layers_function() -> None:
    module = run(
        toy(),
        "dcom-insert-outlier-split{layers=1 sites=qkv outliers=9},"
        "dcom-decompose-activations{layers=1 sites=qkv rank=2}",
    )
    assert [op.sym_name.data for op in module.ops if isinstance(op, FuncOp)] == [
        "decoder_layer",
        "decoder_layer_1",
        "main",
    ]


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    """A traced variant may be called as a layer's own function would be."""
    module = run(
        toy(TOY.replace("@decoder_layer(", "@decoder_layer_1(")),
        "dcom-decompose-activations{layers=1 sites=qkv rank=2}",
    )
    assert [op.callee.root_reference.data for op in of_type(module, CallOp)] == [
        "decoder_layer_1",
        "decoder_layer_1_0",
        "decoder_layer_1",
    ]


def test_layers_with_different_functions() -> None:
    """Layers that differ in structure have a function each; each is cloned for itself."""
    function = TOY[TOY.index("  func.func private @decoder_layer(") : TOY.index("  func.func @main")]
    variant = function.replace("@decoder_layer(", "@decoder_layer_wide(")
    text = TOY.replace(function, function + variant)
    text = re.sub(r"@decoder_layer(\(.*dcom\.layer = 1)", r"@decoder_layer_wide\1", text)
    module = run(toy(text), "dcom-decompose-activations{layers=1,2 sites=qkv rank=2}")
    # The variant had only the one call: nothing is left of it but the layer's own function.
    assert {op.sym_name.data for op in module.ops if isinstance(op, FuncOp)} == {
        "decoder_layer",
        "decoder_layer_1",
        "decoder_layer_2",
        "main",
    }


def test_capacity_is_rounded_up_to_whole_channels() -> None:
    for percent, capacity in ((0.1, 1), (8.3, 1), (8.4, 2), (25, 3), (100, 12)):
        module = run(toy(), f"dcom-insert-outlier-split{{layers=0 sites=qkv outliers={percent}}}")
        (split,) = (op for op in module.walk() if isinstance(op, dcom.OutlierSplitOp))
        assert split.capacity.value.data == capacity


SPLIT, DECOMPOSE = "dcom-insert-outlier-split", "dcom-decompose-activations"


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (f"{DECOMPOSE}{{layers=3 sites=qkv}}", "layer 3 does not exist; the model has layers 0 to 2"),
        (f"{SPLIT}{{layers=-1 sites=qkv outliers=3}}", "layer -1 does not exist; the model has layers 0 to 2"),
        (f"{DECOMPOSE}{{layers=0 sites=qv}}", r"unknown site 'qv'; did you mean 'qkv'\? known: down, gate_up, o, qkv"),
        (f"{DECOMPOSE}{{layers=0 rank=4}}", 'layer 0 has no linalg.matmul with dcom.role "o_proj"'),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=0}}", "rank 0 is not between 1 and 8; .* is 8 x 12 a prompt"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=9}}", "rank 9 is not between 1 and 8"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=4 iterations=3}}", "iterations 3 is not between the rank 4 and 8"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=4 iterations=9}}", "iterations 9 is not between the rank 4 and 8"),
        (
            f"{DECOMPOSE}{{layers=0 sites=qkv rank=4 reorthogonalisation=0}}",
            "reorthogonalisation 0 is not between 1 and 8; 2 is the default",
        ),
        (
            f"{DECOMPOSE}{{layers=0 sites=qkv rank=4 reorthogonalisation=9}}",
            "reorthogonalisation 9 is not between 1 and 8",
        ),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=4 seed=-1}}", "seed -1 is not between 0 and 2.63 - 1"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=4}},{DECOMPOSE}{{layers=0 sites=qkv rank=4}}", "already decomposed"),
        (
            f"{DECOMPOSE}{{layers=0 sites=qkv rank=4}},dcom-preserve-decomposed,"
            f"{DECOMPOSE}{{layers=0 sites=qkv rank=4}}",
            "site qkv of layer 0 is already decomposed",
        ),
        (
            f"{DECOMPOSE}{{layers=0 sites=qkv rank=4}},{SPLIT}{{layers=0 sites=qkv outliers=3}}",
            "already decomposed; split what is to be exact from it before that",
        ),
        (f"{DECOMPOSE}{{layers=0 sites=qkv reuse=o}}", "site o is in reuse, but not in sites; sites are qkv"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv,o reuse=qkv}}", "site qkv cannot reuse a basis: it is the first site"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv block=0}}", "block 0 is not between 1 and the 8 tokens of a prompt"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv block=9}}", "block 9 is not between 1 and the 8 tokens of a prompt"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=4 block=3}}", "rank 4 is not between 1 and 3; .* is 3 x 12 a block"),
        (f"{DECOMPOSE}{{layers=0 sites=qkv rank=4 energy=0.0}}", "energy 0 is not above 0 and at most 1"),
        (f"{SPLIT}{{layers=0}}", "give outliers, exact_rows or config; for example outliers=3"),
        (f"{SPLIT}{{layers=0 exact_rows=101}}", "exact_rows 101 is not between 0 and 100"),
        (f"{SPLIT}{{layers=0 outliers=101}}", "outliers 101 is not between 0 and 100"),
        (f"{SPLIT}{{layers=0 outliers=-1}}", "outliers -1 is not between 0 and 100"),
        (f"{SPLIT}{{layers=0 outliers=absent}}", "cannot read absent: No such file"),
    ],
)
def test_mistakes(pipeline: str, message: str) -> None:
    with pytest.raises(DcomError) as caught:
        run(toy(), pipeline)
    assert re.search(message, str(caught.value)), caught.value


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("dcom.layer", "no call with a dcom.layer attribute"),
        ("dcom.batch", "no attribute dcom.batch"),
        ("dcom.seq_len", "no attribute dcom.seq_len"),
        ("dcom.role", "no linalg.matmul with dcom.role"),
    ],
)
def test_a_module_that_was_not_traced(missing: str, message: str) -> None:
    with pytest.raises(DcomError, match=message):
        run(toy(TOY.replace(missing, "other")), f"{DECOMPOSE}{{layers=0 sites=qkv rank=4}}")


TABLE = "capacity_percent = 40\nmin_tokens_percent = 30.0\n[thresholds.1]\nqkv = 2.5\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("40", "-1"), "capacity_percent is -1, not a number between 0 and 100"),
        (("40", '"a"'), "^[^:]+:1: error: capacity_percent is 'a', not a number"),
        (("30.0", "{ a = 1 }"), "^[^:]+:2: error: min_tokens_percent is a table, not a number between 0 and 100"),
        (("2.5", "true"), "^[^:]+:4: error: thresholds.1.qkv is true, not a number zero or more"),
        (("capacity_percent", "capacity"), "unknown key 'capacity'; did you mean 'capacity_percent'"),
        (("min_tokens_percent = 30.0\n", ""), "min_tokens_percent is missing; write min_tokens_percent = …"),
        (("30.0", "nan"), "min_tokens_percent is nan"),
        (("thresholds.1", "thresholds.one"), r"\[thresholds.one\] names no layer"),
        (("thresholds.1", "thresholds.0"), "no entry for site qkv of layer 1; add `qkv = …` to .thresholds.1."),
        (
            ("[thresh", "[thresholds.7]\n[thresh"),
            "the table has layer 7, and the model has layers 0 to 2; calibrate",
        ),
        (("capacity", 'model = "big"\ncapacity'), "the table is of big, not of toy; calibrate this model"),
        (("qkv", "kv"), "unknown site 'kv' in .thresholds.1.; did you mean 'qkv'"),
        (("2.5", "-2.5"), "thresholds.1.qkv is -2.5, not a number zero or more"),
        (("[thresholds.1]", "[thresholds.1"), "not TOML"),
    ],
)
def test_mistakes_in_a_thresholds_table(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = tmp_path / "table.toml"
    file.write_text(TABLE.replace(*change), encoding="utf-8")
    with pytest.raises(DcomError) as caught:
        run(toy(), f'{SPLIT}{{layers=1 sites=qkv outliers="{file}"}}')
    assert re.search(message, str(caught.value)), caught.value
    assert re.match(rf"{file}(:\d+){{0,2}}: error: ", str(caught.value)), caught.value


def traced(batch: int = 1) -> ModuleOp:
    from dcomc.model import resolve_model
    from dcomc.tracer import trace

    return trace(resolve_model("tiny"), 8, batch, "f32")


def test_traced_model_decomposes_at_every_site_with_every_location() -> None:
    module = traced(batch=2)
    options = Decomposition(layers=(1, 3), rank=3, outliers=3)
    run_passes(make_context(), module, decompose_pipeline(options))
    found = [op for op in module.walk() if isinstance(op, dcom.DecomposeOp)]
    assert [(op.layer.value.data, op.site.data) for op in found] == [
        (layer, site) for layer in (1, 3) for site in ("qkv", "o", "gate_up", "down")
    ]
    readers = [len(list(op.factors.uses)) for op in found]
    assert readers == [3, 1, 2, 1] * 2
    assert all(isinstance(use.operation, dcom.MatmulOp) for op in found for use in op.factors.uses)
    text = print_module(module)
    assert "loc(unknown)" not in text
    assert '"model.layers.3.self_attn.q_proj"' in text
    # Level 0 stands for all layers at once; a layer's own function names the layer.
    own = text[text.index("@decoder_layer_3(") : text.index("func.func @main")]
    assert "model.layers.*" not in own


def test_weights_and_other_layers_are_untouched() -> None:
    module = traced()
    before = print_module(module)
    run_passes(make_context(), module, decompose_pipeline(Decomposition(layers=(2,), rank=2)))
    after = print_module(module)
    function = before[before.index("  func.func private @decoder_layer(") : before.index("  func.func @main")]
    assert function in after
    globals_before = [line for line in before.splitlines() if "ml_program.global private" in line]
    assert globals_before == [line for line in after.splitlines() if "ml_program.global private" in line]
    assert len(globals_before) == len([op for op in module.ops if isinstance(op, ml_program.GlobalOp)])
