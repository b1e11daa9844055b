"""`dcomc trace`: what a module holds, where its operations come from, its cost, and its errors."""

import contextlib
import json
import math
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import LLAMA, random_model
from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import FileLineColLoc, IntegerAttr, LocationAttr, ModuleOp, NameLoc, TensorType
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.dialects.ml_program import GlobalOp

from dcomc.cli import main
from dcomc.diagnostics import DcomError
from dcomc.ir import print_module, verify_module
from dcomc.model import resolve_model
from dcomc.tracer import ops, trace
from dcomc.tracer.capture import capture
from dcomc.tracer.convert import convert
from dcomc.tracer.graph import INPUT, Graph, Node, Source
from dcomc.tracer.program import build_module

ROOT = Path(__file__).resolve().parents[2]


def module_of(config: dict[str, Any], seq_len: int = 8, batch: int = 1, dtype: str = "f32") -> ModuleOp:
    module = build_module(capture(config, seq_len, batch, dtype), "test", seq_len, batch)
    verify_module(module, "test")
    return module


def folder_of(path: Path, config: dict[str, Any]) -> str:
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(path)


def functions(module: ModuleOp) -> list[str]:
    return [op.sym_name.data for op in module.body.block.ops if isinstance(op, FuncOp)]


def test_every_operation_and_argument_has_a_location() -> None:
    file = "transformers/models/llama/modeling_llama.py"
    length = len((Path(transformers.__file__).parents[1] / file).read_text().splitlines())

    def check(location: LocationAttr) -> None:
        assert isinstance(location, NameLoc) and location.desc.data
        assert isinstance(location.location, FileLineColLoc)
        assert location.location.filename.data == file
        assert 1 <= location.location.line.data <= length

    module = trace(resolve_model("tiny"), 8, 1, "f32")
    count = 0
    for op in module.walk():
        count += 1
        check(op.location)
        for argument in (argument for region in op.regions for block in region.blocks for argument in block.args):
            check(argument.location)
    assert count > 300
    # The same holds of the text, where each operation but `module {` and `func … {` ends its line with its location.
    for line in print_module(module).splitlines():
        assert re.search(rf'loc\("[^"]+"\("{file}":\d+:1\)\)\)?[ :{{]*$|[{{]$', line), line


def test_projections_come_from_their_line() -> None:
    text = print_module(trace(resolve_model("tiny"), 8, 1, "f32"))
    source = (Path(transformers.__file__).parent / "models/llama/modeling_llama.py").read_text()
    for role in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"):
        found = re.search(rf'linalg\.matmul {{dcom\.role = "{role}"}}.* loc\("([^"]+)"\("[^"]+":(\d+):1\)\)', text)
        assert found, role
        assert found[1].rpartition(".")[2] == role
        assert f"self.{role}(" in source.splitlines()[int(found[2]) - 1]


def test_weights_are_the_checkpoints_and_tied_ones_stand_once() -> None:
    for tied in (False, True):
        config = LLAMA | {"tie_word_embeddings": tied, "attention_bias": True}
        names = [name for name, _ in random_model(config).named_parameters()]
        assert ("lm_head.weight" in names) != tied
        found = [op.sym_name.data for op in module_of(config).body.block.ops if isinstance(op, GlobalOp)]
        assert sorted(found) == sorted(names)


def test_layers_share_one_function() -> None:
    module = module_of(LLAMA | {"num_hidden_layers": 5})
    assert functions(module) == ["decoder_layer", "main"]
    calls = [op.attributes["dcom.layer"] for op in module.walk() if isinstance(op, CallOp)]
    assert [call.value.data for call in calls if isinstance(call, IntegerAttr)] == list(range(5))


def test_layers_of_another_structure_get_another_function() -> None:
    # Every fourth layer of SmolLM3 has no rotary embedding.
    module = module_of(LLAMA | {"model_type": "smollm3", "num_hidden_layers": 8, "pad_token_id": 0})
    assert functions(module) == ["decoder_layer", "decoder_layer_variant1", "main"]
    callees = [op.callee.root_reference.data for op in module.walk() if isinstance(op, CallOp)]
    assert callees == (["decoder_layer"] * 3 + ["decoder_layer_variant1"]) * 2


def test_no_constant_grows_with_the_square_of_the_prompt() -> None:
    module = module_of(LLAMA, seq_len=64)
    sizes = [
        math.prod(op.result.type.get_shape())
        for op in module.walk()
        if isinstance(op, ConstantOp) and isinstance(op.result.type, TensorType)
    ]
    assert sizes == [3, 3]  # half a head, for cos and for sin


def test_the_seven_billion_model_traces_in_time_and_memory(tmp_path: Path) -> None:
    output = tmp_path / "llama2.mlir"
    program = (
        "import re; from dcomc.cli import main; "
        f"code = main(['trace', 'llama2-7b', '--seq-len', '4096', '-o', {str(output)!r}]); "
        # Not ru_maxrss: a child of a large process starts with its parent's.
        "print(code, re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    code, kibibytes = done.stdout.split()
    assert code == "0", done.stderr
    assert int(kibibytes) < 2 * 2**20
    text = output.read_text(encoding="utf-8")
    assert len(text) < 400_000
    assert "func.func @main(%input_ids: tensor<1x4096xi64>" in text
    assert text.count("func.call @decoder_layer(") == 32


def test_output_to_a_file_and_to_stdout_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.mlir"
    assert main(["trace", "tiny", "--seq-len", "8", "-o", str(output)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("traced tiny: batch 1, 8 tokens, f32, in ")
    assert main(["trace", "tiny", "--seq-len", "8", "-o", "-"]) == 0
    assert capsys.readouterr().out == output.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["out.mlir"]


def test_steps_are_shown_on_a_terminal_and_an_error_is_one_line_after_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, LLAMA | {"hidden_act": "mish"})
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "dcomc", "trace", folder, "-o", "-"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # at the end of what a terminal shows, Linux says EIO
            while part := os.read(controller, 4096):
                shown += part
        os.close(controller)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "\n", shown.decode()).split("\n")
    assert any(f"exporting {tmp_path.name} on the meta device" in line for line in lines)
    last = [line for line in lines if line][-1]
    assert process.returncode == 1 and last.startswith("error: operators without a lowering: aten.mish.default")


def test_the_prompt_is_512_tokens_or_what_the_model_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for limit, expected in ((64, 64), (2048, 512)):
        assert main(["trace", folder_of(tmp_path, LLAMA | {"max_position_embeddings": limit}), "-o", "-"]) == 0
        assert f"dcom.seq_len = {expected} : i64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seq-len", "0"], "error: seq-len 0 is out of range; it goes from 1 to 64"),
        (["--seq-len", "65"], "error: seq-len 65 is out of range; it goes from 1 to 64"),
        (["--seq-len", "many"], "argument --seq-len: invalid int value"),
        (["--batch", "0"], "error: batch 0 is out of range"),
        (["--dtype", "f64"], "invalid choice: 'f64'"),
    ],
)
def test_bad_options(tmp_path: Path, mistake: Callable[..., str], options: list[str], message: str) -> None:
    output = tmp_path / "out.mlir"
    assert message in mistake("trace", folder_of(tmp_path, LLAMA), *options, "-o", str(output))
    assert not output.exists()


def test_all_unsupported_operators_are_listed_at_once(tmp_path: Path, mistake: Callable[..., str]) -> None:
    output = tmp_path / "out.mlir"
    output.write_text("before", encoding="utf-8")
    gpt2 = {"model_type": "gpt2", "n_layer": 3, "n_embd": 16, "n_head": 2, "vocab_size": 50}
    error = mistake("trace", folder_of(tmp_path, gpt2), "--seq-len", "8", "-o", str(output))
    assert re.search(r"aten\.addmm\.default x12 \(transformers/models/gpt2/modeling_gpt2\.py:\d+,\d+,\d+,\d+\)", error)
    assert re.search(r"aten\.to\.dtype_layout x1 \(transformers/models/gpt2/modeling_gpt2\.py:\d+\);", error)
    assert error.endswith("; dcomc traces models of the Llama family\n")
    assert output.read_text(encoding="utf-8") == "before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "out.mlir"]


def test_of_many_unsupported_operators_the_rest_is_counted(tmp_path: Path, mistake: Callable[..., str]) -> None:
    mixture = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    error = mistake("trace", folder_of(tmp_path, mixture), "--seq-len", "8", "-o", "-")
    listed, family = error.rstrip().split("; ")
    assert re.search(r"aten\.topk\.default x\d+ .*, and \d+ more$", listed)
    assert listed.count("modeling_mixtral.py") == 8
    assert family == "dcomc traces models of the Llama family, not mixtures of experts"


def test_another_activation_is_named_with_its_line(tmp_path: Path, mistake: Callable[..., str]) -> None:
    error = mistake("trace", folder_of(tmp_path, LLAMA | {"hidden_act": "mish"}), "-o", "-")
    assert re.search(
        r"operators without a lowering: aten\.mish\.default x2 \(transformers/models/llama/\w+\.py:\d+\);", error
    )


def test_attention_that_is_not_causal_is_named(tmp_path: Path, mistake: Callable[..., str]) -> None:
    config = LLAMA | {"model_type": "gemma3_text", "head_dim": 6, "use_bidirectional_attention": True}
    error = mistake("trace", folder_of(tmp_path, config), "--seq-len", "9", "-o", "-")
    assert "attention with a mask that is no causal window and no causal order x2 (transformers/models/gemma3/" in error


def test_an_operator_in_a_form_without_a_lowering_is_named_with_the_form() -> None:
    x = Node("x", INPUT, (), (), (2, 3), "f32", Source("model", "model.py", 1))
    counts = Node("n", INPUT, (), (), (2, 3), "i64", Source("model", "model.py", 1))
    scaled = Node("a", "aten.add.Tensor", (x, x), (("alpha", 2),), (2, 3), "f32", Source("model", "model.py", 7))
    integer = Node("b", "aten.mul.Tensor", (counts, counts), (), (2, 3), "i64", Source("model", "model.py", 8))
    joined = Node("c", "aten.bmm.default", (scaled, integer), (), (2, 3), "f32", Source("model", "model.py", 9))
    with pytest.raises(DcomError) as caught:
        build_module(Graph((x, counts, scaled, integer, joined), joined), "test", 3, 2)
    assert "aten.add.Tensor with alpha=2 x1 (model.py:7)" in str(caught.value)
    assert "aten.mul.Tensor from i64 to i64[2, 3] x1 (model.py:8)" in str(caught.value)
    assert "aten.bmm.default x1 (model.py:9)" in str(caught.value)


class _Changing(torch.nn.Module):
    """A projection [2, 4], something that changes a tensor in place, and an output."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.change(self.linear(x)) + 1


def _view_before(y: torch.Tensor) -> torch.Tensor:
    view = y.view(4, 2)
    y.clamp_(-1, 1)
    return view


def _through_a_view(y: torch.Tensor) -> torch.Tensor:
    y.view(4, 2).clamp_(-1, 1)
    return y


@pytest.mark.parametrize("change", [_view_before, _through_a_view])
def test_what_is_changed_in_place_through_a_view_is_no_graph_of_ours(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """The change is no operand of what shows it: it was left out, without a word."""
    model = _Changing(change)
    program = torch.export.export(model, (torch.ones(2, 4),), strict=False)
    with pytest.raises(DcomError) as caught:
        build_module(convert(program, model, {}), "test", 2, 1)
    assert "aten.clamp_.default of what others may see x1 (" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "the model's configuration has no model_type"),
        ({"model_type": "nothing"}, "transformers knows no model type 'nothing'"),
        ({"model_type": "vit"}, "model type 'vit' is no causal language model"),
        (LLAMA | {"hidden_size": 37, "head_dim": None}, "invalid configuration of model type 'llama'"),
        (LLAMA | {"num_hidden_layers": "two"}, "invalid configuration of model type 'llama'"),
        (LLAMA | {"num_key_value_heads": 4}, "6 query heads do not divide among 4 key and value heads"),
        (LLAMA | {"model_type": "jetmoe"}, "JetMoeForCausalLM has shapes that depend on data"),
        (LLAMA | {"model_type": "falcon"}, "it has attention of its own in the place of transformers' functions"),
        (LLAMA | {"rope_scaling": {"type": "magic"}}, "'llama': nothing is known by the name 'magic'"),
        ({"model_type": "blt"}, "Could not guard on data-dependent expression"),
        ({"model_type": "gemma3n"}, "invalid configuration of model type 'gemma3n': TimmWrapperModel"),
        (LLAMA | {"model_type": "ctrl"}, "operators without a lowering"),
    ],
)
def test_bad_configurations(tmp_path: Path, mistake: Callable[..., str], config: dict[str, Any], message: str) -> None:
    assert message in mistake("trace", folder_of(tmp_path, config), "-o", "-")


def test_attention_of_shapes_that_do_not_fit() -> None:
    query, value = torch.empty(1, 4, 3, 8, device="meta"), torch.empty(1, 1, 3, 8, device="meta")
    with pytest.raises(ValueError, match=r"do not fit: \[1, 4, 3, 8\], \[1, 2, 3, 8\], \[1, 1, 3, 8\]"):
        ops.attention(query, query[:, :2], value, 1.0, 0, 0.0)


def test_bad_places(tmp_path: Path, mistake: Callable[..., str]) -> None:
    assert "no model folder, GGUF file or preset 'tinny'; did you mean 'tiny'?" in mistake("trace", "tinny", "-o", "-")
    assert f"{tmp_path} has no config.json" in mistake("trace", str(tmp_path), "-o", "-")
    (tmp_path / "config.json").write_text('{"model_type": "llama"', encoding="utf-8")
    assert "is not valid JSON" in mistake("trace", str(tmp_path), "-o", "-")
    assert f"{tmp_path}/config.json is not a GGUF file" in mistake("trace", str(tmp_path / "config.json"), "-o", "-")
    assert "cannot write" in mistake("trace", "tiny", "-o", str(tmp_path / "none" / "out.mlir"))
