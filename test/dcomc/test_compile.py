"""`dcomc compile`: every option, every stage, every mistake."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dcomc.cli import main
from dcomc.commands.compile import parse_layers
from dcomc.container import read_program
from dcomc.diagnostics import DcomError
from dcomc.program import Program
from runtime.machine import load_machine

SHIPPED = Path(__file__).resolve().parents[2] / "dcomc" / "configs" / "machines" / "dcom-16x16.toml"


def compiled(ir: Path, folder: Path, *options: str) -> Program:
    output = folder / "prog.bin"
    assert main(["compile", str(ir), *options, "-o", str(output)]) == 0
    return read_program(str(output))


def printed(ir: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["compile", str(ir), *options]) == 0
    streams = capsys.readouterr()
    assert streams.err == ""
    return streams.out


def keys(program: Program) -> list[str]:
    return [launch.key for launch in program.launches]


def test_defaults(tiny_ir: Path, tmp_path: Path) -> None:
    """Rank 10, 15 iterations, 2 passes, all sites, 3% outliers, on the shipped machine."""
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "1")
    assert keys(program) == ["layer1.qkv", "layer1.o", "layer1.gate_up", "layer1.down"]
    assert {(launch.rank, launch.prompts) for launch in program.launches} == {(10, 2)}
    shapes = {(k.layout.rows, k.layout.cols, k.layout.iterations) for k in program.kernels}
    assert shapes == {(24, 64, 15), (24, 160, 15)}
    assert program.machine == load_machine("dcom-16x16")
    # 3% of 64 and of 160 channels, rounded up
    assert "capacity = 2 : i64" in program.host and "capacity = 5 : i64" in program.host
    assert "reorthogonalisation = 2 : i64" in program.host
    assert program.options["model"]["model"] == "tiny"
    assert program.activations == {}


def test_launches_are_in_the_order_of_execution(tiny_ir: Path, tmp_path: Path) -> None:
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "3,0-1", "--sites", "down,qkv")
    assert keys(program) == [f"layer{n}.{site}" for n in (0, 1, 3) for site in ("qkv", "down")]


def test_options_of_the_decomposition(tiny_ir: Path, tmp_path: Path) -> None:
    options = ["--rank", "4", "--iterations", "6", "--reorthogonalisation", "1", "--seed", "9", "--outliers", "0"]
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "2", "--sites", "o", *options)
    (kernel,) = program.kernels
    assert (kernel.layout.iterations, kernel.seed, program.launches[0].rank) == (6, 9, 4)
    assert sum(word.instruction.mnemonic == "dots" for word in kernel.words) == 2
    assert "outlier" not in program.host
    assert "iterations = 6 : i64, reorthogonalisation = 1 : i64, seed = 9 : i64, kernel = @" in program.host


def test_most_iterations_and_ranks(tiny_ir: Path, tmp_path: Path) -> None:
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "0", "--rank", "24")
    assert {kernel.layout.iterations for kernel in program.kernels} == {24}
    assert compiled(tiny_ir, tmp_path, "--decompose-layers", "0", "--rank", "1").launches[0].rank == 1


def test_thresholds_table(tiny_ir: Path, tmp_path: Path) -> None:
    table = tmp_path / "thresholds.toml"
    sites = "qkv = 3.5\no = 1.0\ngate_up = 2.0\ndown = 0.5\n"
    table.write_text(f"capacity_percent = 10.0\nmin_tokens_percent = 25.0\n\n[thresholds.1]\n{sites}")
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "1", "--outliers", str(table))
    assert "capacity = 7 : i64, threshold = 3.500000e+00 : f32, min_count = 6 : i64" in program.host
    assert str(tmp_path) not in program.host + repr(program.options)


def test_no_layers_is_the_dense_model(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = compiled(tiny_ir, tmp_path)
    assert "no layer is decomposed: choose some by --decompose-layers\n" in capsys.readouterr().err
    (tmp_path / "c.toml").write_text("[layers.1]\nrank = 3\n")
    compiled(tiny_ir, tmp_path, "--config", str(tmp_path / "c.toml"))
    assert "--decompose-layers; --config has options of layers, and chooses none\n" in capsys.readouterr().err
    assert (program.kernels, program.launches) == ((), ())
    assert "dcom.decompose" not in program.host and "linalg.matmul" in program.host


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (["--rank", "10"], "--rank has no effect"),
        (["--seed", "0", "--block", "16", "--seed", "1", "--emit", "dcom"], "--seed, --block have no effect"),
    ],
)
def test_options_of_decompositions_without_one_are_warned_of(
    tiny_ir: Path, tmp_path: Path, options: list[str], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are given, the value of the default too."""
    assert main(["compile", str(tiny_ir), *options, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.startswith(f"warning: {warning}, as no layer is decomposed\n")
    assert main(["compile", str(tiny_ir), *options, "--decompose-layers", "1", "-o", str(tmp_path / "out")]) == 0
    assert "no effect" not in capsys.readouterr().err


def test_machine_of_a_file(tiny_ir: Path, tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    for key, value in (("rows", 4), ("cols", 4), ("mac_rows", 4), ("mac_cols", 4), ("buffer_bytes", 3072)):
        text = text.replace(f"\n{key} = {getattr_shipped(key)}", f"\n{key} = {value}")
    path = tmp_path / "small.toml"
    path.write_text(text.replace('"dcom-16x16"', '"small"'))
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "0", "--machine", str(path), "--mapping", "grid")
    assert program.machine == load_machine(str(path))
    assert (program.machine.name, program.machine.grid.rows) == ("small", 4)
    assert {kernel.layout.slice_rows for kernel in program.kernels} == {8}


def getattr_shipped(key: str) -> int:
    shipped = load_machine("dcom-16x16")
    part = shipped.grid if key in ("rows", "cols") else shipped.cluster
    return int(getattr(part, key))


def test_stored_activations(tiny_ir: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((48, 64)).astype(np.float32)
    archive = tmp_path / "x.npz"
    np.savez(archive, **{"layer1.qkv": x, "layer1.o": x.reshape(2, 24, 64)})
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "1", "--activations", str(archive))
    assert sorted(program.activations) == ["layer1.o", "layer1.qkv"]
    assert all((stored == x.astype(np.float16)).all() for stored in program.activations.values())


def test_same_program_from_any_folder(tiny_ir: Path, tmp_path: Path) -> None:
    files: list[bytes] = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tiny.mlir").write_bytes(tiny_ir.read_bytes())
        compiled(folder / "tiny.mlir", folder, "--decompose-layers", "1")
        files.append((folder / "prog.bin").read_bytes())
    assert files[0] == files[1]


def test_emit_dcom(tiny_ir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(tiny_ir, capsys, "--decompose-layers", "1", "--emit", "dcom")
    assert text.count("dcom.decompose ") == 4 and text.count("dcom.outlier_split ") == 4
    assert text.count("dcom.matmul ") == 7  # q, k, v share their factors, and gate and up
    assert "kernel = @" not in text and "cluster." not in text
    assert 'loc("model.layers.1.self_attn' in text


def test_emit_cluster(tiny_ir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(tiny_ir, capsys, "--decompose-layers", "1", "--emit", "cluster")
    assert text.count("cluster.kernel @") == 2 and "isa." not in text
    assert "mapping = {" in text and "banks = {" in text


def test_emit_isa(tiny_ir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(tiny_ir, capsys, "--decompose-layers", "1", "--emit", "isa")
    assert text.count("isa.kernel @") == 2 and "cluster." not in text
    assert "isa.mv.col" in text and '"z = A^T u"' in text


@pytest.mark.parametrize(("made", "asked"), [("cluster", "dcom"), ("isa", "dcom"), ("isa", "cluster")])
def test_passes_only_lead_down(
    made: str, asked: str, tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    lower = tmp_path / "lower.mlir"
    assert main(["compile", str(tiny_ir), "--decompose-layers=1", "--sites=o", f"--emit={made}", "-o", str(lower)]) == 0
    error = mistake("compile", lower, f"--emit={asked}")
    assert f"error: the module has kernels of the {made} dialect, which is below {asked}; emit {made}, or" in error


def test_emit_asm_assembles_to_the_same_program(
    tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(tiny_ir, capsys, "--decompose-layers", "1", "--emit", "asm")
    (tmp_path / "prog.s").write_text(text)
    assert main(["asm", str(tmp_path / "prog.s"), "-o", str(tmp_path / "again.bin")]) == 0
    compiled(tiny_ir, tmp_path, "--decompose-layers", "1")
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "prog.bin").read_bytes()


@pytest.mark.parametrize("stage", ["dcom", "asm"])
def test_emit_to_a_file(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str) -> None:
    options = ["--decompose-layers", "1", "--sites", "o", "--emit", stage]
    assert printed(tiny_ir, capsys, *options, "-o", str(tmp_path / "out")) == ""
    assert (tmp_path / "out").read_text() == printed(tiny_ir, capsys, *options, "-o", "-")


def test_stages_go_on_from_each_other(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(tiny_ir, capsys, "--decompose-layers", "1", "--emit", "dcom", "-o", str(tmp_path / "dcom.mlir"))
    lowered = printed(tmp_path / "dcom.mlir", capsys, "--emit", "isa")
    assert lowered == printed(tiny_ir, capsys, "--decompose-layers", "1", "--emit", "isa")


def test_dump_ir_dir(tiny_ir: Path, tmp_path: Path) -> None:
    dumps = tmp_path / "dumps" / "here"
    compiled(tiny_ir, tmp_path, "--decompose-layers", "1", "--dump-ir-dir", str(dumps))
    assert sorted(path.name for path in dumps.iterdir()) == [
        "00-input.mlir",
        "01-cse.mlir",
        "02-dcom-insert-outlier-split.mlir",
        "03-dcom-decompose-activations.mlir",
        "04-dcom-preserve-decomposed.mlir",
        "07-lower-dcom-to-cluster.mlir",
        "08-cluster-map.mlir",
        "09-cluster-schedule.mlir",
        "10-lower-cluster-to-isa.mlir",
    ]


def test_every_instruction_says_where_it_comes_from(tiny_ir: Path, tmp_path: Path) -> None:
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "1,2")
    for kernel in program.kernels:
        assert "?" not in kernel.locations
        assert all("modeling_llama.py:" in location for location in kernel.locations)
    assert program.launches[0].location.startswith("model.layers.1.self_attn")
    assert program.launches[-1].location.startswith("model.layers.2.mlp")


def test_what_was_made_is_said_on_stderr(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = compiled(tiny_ir, tmp_path, "--decompose-layers", "1")
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("compiled 1 layer: 4 decompositions by 2 kernels of ")
    assert program.machine.hash in streams.err
    gain = r"decomposed sites: [\d.]+ Mflop to [\d.]+ Mflop \([\d.]+x\), .*, and [\d.]+ Mflop to find the factors\n"
    assert re.fullmatch(gain, streams.err.splitlines(keepends=True)[1])


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        (["--rank", "23"], []),
        (["--rank", "24"], ["rank 24 is the full rank of 24 x 64, so the factors save nothing"]),
        (["--rank", "24", "--energy", "0.9"], []),
        (["--block", "8", "--rank", "8"], ["rank 8 is the full rank of 8 x 64, so the factors save nothing"]),
        (["--outliers", "100"], ["all 64 channels are kept exact, so nothing is left to decompose"]),
        (["--exact-rows", "99"], ["all 24 tokens are kept exact, so nothing is left to decompose"]),
    ],
)
def test_what_saves_nothing_is_said(
    tiny_ir: Path, tmp_path: Path, options: list[str], warnings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    compiled(tiny_ir, tmp_path, "--decompose-layers", "1,2", "--sites", "qkv,o", *options)
    *said, done, _ = capsys.readouterr().err.splitlines()
    assert said == [f"warning: layers 1-2 (qkv, o): {warning}" for warning in warnings]
    assert done.startswith("compiled 2 layers")


def test_layers() -> None:
    assert parse_layers("10,15") == (10, 15)
    assert parse_layers(" 3, 1-2 ,2") == (1, 2, 3)
    assert parse_layers("") == ()
    for text in ("a", "1-", "-1", "3-1", "1.5", "1 2"):
        with pytest.raises(DcomError, match="is no layer; write numbers and ranges"):
            parse_layers(text)


MISTAKES = [
    (["--decompose-layers", "4"], "error: layer 4 does not exist; the model has layers 0 to 3"),
    (["--decompose-layers", "x"], "error: --decompose-layers: 'x' is no layer"),
    (["--decompose-layers", "1", "--rank", "0"], "error: rank 0 is not between 1 and 24; site qkv of layer 1"),
    (["--decompose-layers", "1", "--rank", "25"], "error: rank 25 is not between 1 and 24; site qkv of layer 1"),
    (["--decompose-layers", "1", "--rank", "-3"], "error: rank -3 is not between 1 and 24"),
    (["--decompose-layers", "1", "--iterations", "9"], "error: iterations 9 is not between the rank 10 and 24"),
    (["--decompose-layers", "1", "--iterations", "25"], "error: iterations 25 is not between the rank 10 and 24"),
    (
        ["--decompose-layers", "1", "--sites", "qkv,k"],
        "error: unknown site 'k'; did you mean 'qkv'? known: down, gate_up, o, qkv",
    ),
    (["--decompose-layers", "1", "--sites", "up_proj"], "error: unknown site 'up_proj'; did you mean 'gate_up'?"),
    (["--decompose-layers", "1", "--sites", "gateup"], "error: unknown site 'gateup'; did you mean 'gate_up'?"),
    (["--decompose-layers", "1", "--sites", ""], "error: unknown site ''"),
    (["--decompose-layers", "1", "--seed", "-1"], "error: seed -1 is not between 0 and 2^63 - 1"),
    (["--decompose-layers", "1", "--reorthogonalisation", "0"], "error: reorthogonalisation 0 is not between 1 and 8"),
    (["--decompose-layers", "1", "--reorthogonalisation", "99999999"], "error: reorthogonalisation 99999999 is not"),
    (["--decompose-layers", "1", "--seed", str(2**63)], "error: seed 9223372036854775808 is not between 0 and 2^63"),
    (["--decompose-layers", "0-99999999"], "error: layer 4 does not exist; the model has layers 0 to 3"),
    (["--decompose-layers", "99999999-999999999999"], "error: layer 99999999 does not exist; the model has layers 0"),
    (["--decompose-layers", "9" * 5000], "error: --decompose-layers: '999"),
    (["--decompose-layers", "1", "--outliers", "101"], "error: outliers 101 is not between 0 and 100; it is the"),
    (["--decompose-layers", "1", "--outliers", "-1"], "error: outliers -1 is not between 0 and 100"),
    (["--decompose-layers", "1", "--outliers", ""], "error: --outliers is empty; give a percentage, or a thresholds"),
    (["--decompose-layers", "1", "--outliers", "nan"], "error: outliers nan is not between 0 and 100"),
    (["--decompose-layers", "", "--outliers", "nan"], "error: outliers nan is not between 0 and 100"),
    (["--decompose-layers", "", "--exact-rows", "inf"], "error: exact_rows inf is not between 0 and 100"),
    (["--decompose-layers", "1", "--energy", "1e-300"], "error: energy 1e-300 is not above 0 and at most 1"),
    (["--decompose-layers", "1", "--outliers", "none.toml"], "error: cannot read none.toml: No such file"),
    (["--decompose-layers", "1", "--machine", "dcom-8x8"], "error: unknown machine 'dcom-8x8'"),
    (["--decompose-layers", "1", "--machine", "none.toml"], "error: cannot read none.toml"),
    (["--decompose-layers", "1", "--activations", "none.npz"], "error: cannot read none.npz: No such file"),
    (["--decompose-layers", "1", "--emit", "elf"], "error: argument --emit: invalid choice: 'elf'"),
    (
        ["--decompose-layers", "1", "--emit", "dcom", "--activations", "none.npz"],
        "error: --activations are stored in programs, and --emit=dcom writes none; emit bin",
    ),
    (
        ["--decompose-layers", "1", "--model", "tiny"],
        "error: --model is for weights in factors, and no --weight-rank is given; leave it out, or add",
    ),
    (["--decompose-layers", "1", "--weight-method", "tucker2"], "error: --weight-method needs --weight-rank; for exam"),
    (["--weight-rank", "4", "--emit", "isa"], "error: --weight-rank has no layers; choose some by --weight-layers or"),
    (
        ["--decompose-layers", "1", "--emit", "dcom", "--explain"],
        "error: --explain is of mappings, and --emit=dcom stops before they are chosen; emit cluster, isa, asm or bin",
    ),
    (
        ["--decompose-layers", "1", "--rnak", "3"],
        "error: unrecognized arguments: --rnak 3; did you mean '--rank'? see dcomc compile --help",
    ),
    (["--decompose-layers", "1", "--batch", "2"], "error: unrecognized arguments: --batch 2; see dcomc compile --help"),
    (["--decompose-layers", "1", "--rank", "ten"], "error: argument --rank: invalid int value: 'ten'"),
]


@pytest.mark.parametrize(
    ("options", "message"), MISTAKES, ids=[" ".join(options[2:] or options)[:60] for options, _ in MISTAKES]
)
def test_mistakes(tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str], options: list[str], message: str) -> None:
    assert message in mistake("compile", str(tiny_ir), *options, "-o", str(tmp_path / "prog.bin"))
    assert list(tmp_path.iterdir()) == []


def test_missing_output(tiny_ir: Path, mistake: Callable[..., str]) -> None:
    assert mistake("compile", str(tiny_ir)) == "error: no output file given; add -o prog.bin\n"
    assert mistake("compile", str(tiny_ir), "-o", "-").startswith("error: a program is no text")


def test_output_in_a_missing_folder(tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    output = tmp_path / "none" / "prog.bin"
    error = mistake("compile", str(tiny_ir), "-o", str(output))
    assert error.startswith(f"error: cannot write {output}: No such file or directory; ")
    assert not output.parent.exists()


def test_output_is_kept_where_compiling_fails(tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    output = tmp_path / "prog.bin"
    output.write_bytes(b"before")
    mistake("compile", str(tiny_ir), "--decompose-layers", "99", "-o", str(output))
    assert output.read_bytes() == b"before"


def test_input_that_is_no_model(tmp_path: Path, mistake: Callable[..., str]) -> None:
    output = str(tmp_path / "prog.bin")
    missing = tmp_path / "none.mlir"
    assert mistake("compile", str(missing), "-o", output).startswith(f"error: cannot read {missing}: No such file")
    (tmp_path / "binary.mlir").write_bytes(b"\x7fELF\xff\xfe")
    assert "binary.mlir is not MLIR text" in mistake("compile", str(tmp_path / "binary.mlir"), "-o", output)
    (tmp_path / "text.mlir").write_text("func.func @main() {\n  func.return )\n}\n")
    error = mistake("compile", str(tmp_path / "text.mlir"), "-o", output)
    assert error.startswith(f"{tmp_path}/text.mlir:2:15: error: ")
    (tmp_path / "other.mlir").write_text("func.func @main() {\n  func.return\n}\n")
    error = mistake("compile", str(tmp_path / "other.mlir"), "--decompose-layers", "0", "-o", output)
    assert "error: the module has no call with a dcom.layer attribute; " in error
    assert not (tmp_path / "prog.bin").exists()


def test_buffers_that_are_too_small(tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SHIPPED.read_text().replace("buffer_bytes = 65536", "buffer_bytes = 512"))
    arguments = ["compile", str(tiny_ir), "--decompose-layers", "1", "--machine", str(path), "-o", str(tmp_path / "x")]
    error = mistake(*arguments, "--mapping", "grid")
    assert "error: kernel @lanczos_24x64_k15_r2_s0 needs " in error and "has 512 in a cluster" in error
    assert not (tmp_path / "x").exists()


BAD_ACTIVATIONS = [
    ({"layer2.qkv": np.zeros((48, 64))}, "activations 'layer2.qkv' belong to no launch; the launches are: layer1.qkv"),
    ({"layer1.qkv": np.zeros((24, 64))}, "activations 'layer1.qkv' have shape (24, 64); layer1.qkv takes (48, 64)"),
    ({"layer1.qkv": np.full((48, 64), np.nan)}, ", layer1.qkv has nan at (0, 0); every value must be finite"),
    ({"layer1.qkv": np.full((48, 64), 1e5)}, "activations 'layer1.qkv' overflow binary16; scale them"),
    ({"layer1.qkv": np.zeros(64)}, ", layer1.qkv is no real matrix"),
    ({"layer1.qkv": np.zeros((48, 64), complex)}, ", layer1.qkv is no real matrix"),
    ({"layer1.qkv": np.array([["a", "b"]])}, ", layer1.qkv is no real matrix"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ACTIVATIONS, ids=[message for _, message in BAD_ACTIVATIONS])
def test_activations_that_do_not_fit(
    tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str], arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    options = ["--decompose-layers", "1", "--sites", "qkv", "--activations", str(tmp_path / "x.npz")]
    assert message in mistake("compile", str(tiny_ir), *options, "-o", str(tmp_path / "prog.bin"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("output", ["-o", "--report-cost"])
@pytest.mark.parametrize("read", ["ir", "--config", "--activations", "--outliers", "--machine", "--weight-statistics"])
def test_nothing_that_is_read_is_written_over(
    read: str, output: str, tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    """Before anything is read of it, so that it may hold anything."""
    file, other = tmp_path / "file.json", tmp_path / "other.bin"
    file.write_text(text := "something of value")
    ir, options = (file, []) if read == "ir" else (tiny_ir, [read, str(file)])
    if read == "--weight-statistics":
        options += ["--weight-rank", "4", "--model", "tiny"]
    written = ["-o", str(file)] if output == "-o" else ["--report-cost", str(file), "-o", str(other)]
    error = mistake("compile", ir, "--decompose-layers", "1", *options, *written)
    if read not in ("--config", "--outliers"):  # which are read, and found wrong, before any output is looked at
        assert f"cannot write {file}: it is read, too" in error
    assert file.read_text() == text and not other.exists()


def test_two_outputs_are_two_files(tiny_ir: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    file = str(tmp_path / "x.json")
    error = mistake("compile", tiny_ir, "--decompose-layers", "1", "-o", file, "--report-cost", file)
    assert "-o and --report-cost are one file" in error
