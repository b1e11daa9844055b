"""Options by layer and site from a file: which of them wins, and every mistake in one."""

import re
from pathlib import Path

import pytest

import dcomc
from dcomc.cli import main
from dcomc.config import SiteConfig, SiteOptions
from dcomc.diagnostics import DcomError

TEXT = """
rank = 3
outliers = 2
[sites.o]
rank = 4
block = 64
[layers.14]
rank = 5
seed = 9
[layers.14.sites.o]
decompose = false
reuse = true
"""


def read(folder: Path, text: str) -> SiteConfig:
    path = folder / "sites.toml"
    path.write_text(text, encoding="utf-8")
    return SiteConfig.read(str(path))


def test_the_more_exact_place_wins(tmp_path: Path) -> None:
    config = read(tmp_path, TEXT)
    defaults = SiteOptions(rank=1, iterations=20, outliers=1.0, exact_rows=7.0)
    assert config.options(3, "qkv", defaults) == SiteOptions(rank=3, iterations=20, outliers=2, exact_rows=7.0)
    assert config.options(3, "o", defaults).rank == 4
    assert config.options(14, "qkv", defaults) == SiteOptions(rank=5, seed=9, iterations=20, outliers=2, exact_rows=7.0)
    assert config.options(14, "o", defaults) == SiteOptions(
        decompose=False, rank=5, iterations=20, seed=9, block=64, reuse=True, outliers=2, exact_rows=7.0
    )
    assert config.sets("outliers") and config.sets("decompose") and not config.sets("exact_rows")
    assert SiteConfig().options(14, "o", defaults) == defaults


def test_what_is_named_must_be_chosen(tmp_path: Path) -> None:
    config = read(tmp_path, TEXT)
    config.check((3, 14), ("qkv", "o"))
    with pytest.raises(DcomError, match=r"\[layers.14\] is not decomposed; add it to the layers, 10, 3"):
        config.check((3, 10), ("qkv", "o"))
    with pytest.raises(DcomError, match="site o is not decomposed; add it to the sites, down, qkv"):
        config.check((3, 14), ("qkv", "down"))


def test_options_of_weights_and_of_activations_are_checked_apart(tmp_path: Path) -> None:
    config = read(tmp_path, "[layers.3]\nweight_rank = 4\n[layers.14.sites.o]\nrank = 2\n[layers.14.sites.qkv]\n")
    config.check((14,), ("o",))
    config.check((3,), ("down",), weights=True)
    with pytest.raises(DcomError, match=r"\[layers.3\] is not decomposed"):
        config.check((14,), ("o",), weights=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rnk = 3", "unknown key 'rnk'; did you mean 'rank'"),
        ("[layers.14]\nrnk = 3", "unknown key 'layers.14.rnk'; did you mean 'rank'"),
        ("[layers.14.sites.o]\nrnk = 3", "unknown key 'layers.14.sites.o.rnk'"),
        ("[layers.14.o]\nrank = 3", "unknown key 'layers.14.o'; did you mean 'sites.o'"),
        ("[layers.14.site.o]\nrank = 3", "unknown key 'layers.14.site'; did you mean 'sites'"),
        ("[layer.14]\nrank = 3", "unknown key 'layer'; did you mean 'layers'"),
        ("[down]\nrank = 3", "unknown key 'down'; did you mean 'sites.down'"),
        ("[layers.14.sites.o]\nqkv = 3", "unknown key 'layers.14.sites.o.qkv'; known: (?!.*sites)"),
        ("[layers.one]\nrank = 3", r"\[layers.one\] names no layer; write a layer's number"),
        ("[sites.qk]\nrank = 3", r"unknown site 'qk' in \[sites\]; did you mean 'qkv'"),
        ("[layers.2.sites.qk]\nrank = 3", r"unknown site 'qk' in \[layers.2.sites\]"),
        ("sites = 3", r"sites is 3, not a table; write \[sites\.o\] and keys under it"),
        ("[layers]\n4 = 3", r"layers.4 is 3, not a table"),
        ("rank = 3.5", "rank is 3.5; expected an integer"),
        ("rank = true", "rank is true; expected an integer"),
        ("[sites.o]\nreuse = 1", "sites.o.reuse is 1; expected true or false"),
        ('outliers = "3"', "outliers is '3'; expected a number"),
        ("rank =", "not TOML"),
        ("[layers.01]\nrank = 3\n[layers.1]\nrank = 4", r"\[layers.01\] names no layer; .* without zeros before it"),
        (f"[layers.{'9' * 5000}]", "names no layer"),
        ("reorthogonalisation = 9", "reorthogonalisation 9 is not between 1 and 8"),
        ("[sites.o]\nseed = -1", "seed -1 is not between 0 and 2"),
        ('start = "median"', "unknown start 'median'; did you mean 'mean'"),
        ('gram_schmidt = "block"', "unknown gram_schmidt 'block'"),
        ('weight_method = "pca"', "unknown method 'pca'; known: svd, tucker2, whitened"),
        ("start = 1", "start is 1; expected a word"),
        ("mapping = 8", "mapping is 8; expected a word"),
        ("energy = nan", "energy nan is not above 0 and at most 1"),
        ("[layers.2]\noutliers = 101", "outliers 101 is not between 0 and 100"),
        ("exact_rows = -0.5", "exact_rows -0.5 is not between 0 and 100"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DcomError) as caught:
        read(tmp_path, text)
    assert re.search(message, str(caught.value)), caught.value
    assert re.match(rf"{tmp_path / 'sites.toml'}(:\d+){{0,2}}: error: ", str(caught.value)), caught.value


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("\n[[layers]]\nrank = 3", "2", "layers is a list, not a table; write [layers.14] and keys under it"),
        ("layers = [{rank = 3}]", "1", "layers is a list, not a table; write [layers.14] and keys under it"),
        ("rank = 1\n[[sites.o]]\nrank = 3", "2", "sites.o is a list, not a table; write [sites.o] and keys under it"),
        ("rank = 1\n[sites]\n\no = {rank = [1]}", "4", "sites.o.rank is a list; expected an integer"),
        ("[sites.o]\nrank = 3\n[layers]\n4.rank = {}", "4", "layers.4.rank is a table; expected an integer"),
        ("[layers.4.sites.o]\n[layers.4]\nseed = 2026-01-01", "3", "layers.4.seed is 2026-01-01; expected an integer"),
        ("seed = 1\n'layers' . \"4\" . rank = true", "2", "layers.4.rank is true; expected an integer"),
        ("[layers.4]\n[layers.4.sites.q]", "2", "unknown site 'q' in [layers.4.sites]; did you mean 'qkv'?"),
        ("rank = 1\n\nrank = ,", "3:8", "not TOML: Invalid value"),
    ],
)
def test_mistakes_have_a_line_and_show_values_as_toml_has_them(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    with pytest.raises(DcomError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'sites.toml'}:{place}: error: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sites.o]\nrank = 99", "rank 99 is not between 1 and 24; site o of layer 1 is 24 x 64 a prompt"),
        ("block = 25", "block 25 is not between 1 and the 24 tokens of a prompt"),
        ("[layers.1.sites.qkv]\niterations = 2", "iterations 2 is not between the rank 10 and 24"),
        ("[sites.qkv]\nreuse = true", "site qkv of layer 1 reuses a basis, but no site before it has one"),
    ],
)
def test_what_does_not_fit_the_model_is_an_error_of_the_file(
    tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / "sites.toml"
    path.write_text(text, encoding="utf-8")
    command = ["compile", str(tiny_ir), "--decompose-layers", "1", "--sites", "qkv,o", "--emit", "dcom"]
    assert main([*command, "--config", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"{path}:{len(text.splitlines())}: error: {message}")
    assert main([*command, "--rank", "99"]) == 1
    assert re.match(r"model\.layers\.1\.self_attn\.\S.*: error: rank 99 is not", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("chosen", "text", "message"),
    [
        ("1", "rank = 2\n\n[layers.2]\nrank = 3", ":3: error: [layers.2] is not decomposed; add it to the layers, 1"),
        ("1", "[layers.1]\n[layers.9.sites.o]", ":2: error: layer 9 does not exist; the model has layers 0 to 3"),
        ("", "[layers.3]\nrank = 3\n[layers.4]\n", ":3: error: layer 4 does not exist; the model has layers 0 to 3"),
        ("", "[layers]\n9.rank = 3\n", ":2: error: layer 9 does not exist; the model has layers 0 to 3"),
    ],
)
def test_options_of_a_layer_that_is_not_decomposed_or_does_not_exist(
    tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: str, text: str, message: str
) -> None:
    path = tmp_path / "sites.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["compile", str(tiny_ir), "--decompose-layers", chosen, "--config", str(path), "--emit", "dcom"]) == 1
    assert capsys.readouterr().err == f"{path}{message}\n"


def test_mappings_of_single_sites(tiny_ir: Path, tmp_path: Path) -> None:
    """Sites of one shape share a kernel where they have one mapping."""
    path = tmp_path / "sites.toml"
    path.write_text('[sites.o]\nmapping = "grid"\n[layers.2.sites.qkv]\nmapping = "4x2"\n', encoding="utf-8")
    program = dcomc.compile(tiny_ir, [1, 2], sites=("qkv", "o", "gate_up"), config=path, mapping="8x8")
    kernels = {launch.key: program.kernel(launch.kernel) for launch in program.launches}
    spans = {key: (kernel.layout.span_rows, kernel.layout.span_cols) for key, kernel in kernels.items()}
    o, others = dict.fromkeys(("layer1.o", "layer2.o"), (0, 0)), ("layer1.qkv", "layer1.gate_up", "layer2.gate_up")
    assert spans == {**o, "layer2.qkv": (4, 2), **dict.fromkeys(others, (8, 8))}
    assert len(program.kernels) == 3 and len({kernel.name for kernel in kernels.values()}) == 3
    assert kernels["layer2.qkv"].name == f"{kernels['layer1.qkv'].name}_4x2"
    assert all((launch.relative_error or 1) < 1 for launch in program.simulate(seed=0).launches)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("3x3", "groups of 3 x 3 do not fill the 16 x 16 clusters of dcom-16x16; give divisors of these"),
        ("row", "unknown mapping 'row'; one of auto, grid, column, cluster"),
    ],
)
def test_a_mapping_that_the_machine_has_not(tiny_ir: Path, tmp_path: Path, mapping: str, message: str) -> None:
    path = tmp_path / "sites.toml"
    path.write_text(f'[layers.1]\nmapping = "{mapping}"\n', encoding="utf-8")
    with pytest.raises(DcomError) as caught:
        dcomc.compile(tiny_ir, [1], config=path)
    assert str(caught.value).startswith(f"{path}:2: error: site qkv of layer 1: {message}")


def test_streams_of_single_sites(tiny_ir: Path, tmp_path: Path) -> None:
    """A kernel for each combination that is asked for, whose names are one another's no more than of other kernels."""
    path = tmp_path / "sites.toml"
    path.write_text(
        '[sites.o]\nstreams = "2x2"\n[layers.2.sites.qkv]\nmapping = "4x2"\nstreams = "2x1"\n', encoding="utf-8"
    )
    program = dcomc.compile(tiny_ir, [1, 2], sites=("qkv", "o"), config=path, mapping="grid", streams="1x2")
    streams = {launch.key: len(program.kernel(launch.kernel).streams) for launch in program.launches}
    assert streams == {"layer1.qkv": 2, "layer1.o": 4, "layer2.qkv": 2, "layer2.o": 4}
    first = program.launches[0].kernel
    assert {kernel.name for kernel in program.kernels} == {first, f"{first}_2x2", f"{first}_4x2_2x1"}
    assert program.kernel(f"{first}_4x2_2x1").streams[1].row == 8
    assert all((launch.relative_error or 1) < 1 for launch in program.simulate(seed=0).launches)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[sites.qkv]\nrank = 4\nstreams = "3x1"\n',
            ":3: error: site qkv of layer 1: 3 x 1 streams do not fill the 16",
        ),
        ('[layers.1.sites]\no.streams = "2"\n', ":2: error: site o of layer 1: streams '2' are no rows and columns"),
        (
            'mapping = "16x16"\n[layers.1]\n"streams" = "1x2"',
            ":1: error: site qkv of layer 1: groups of 16 x 16 do not fill the 16 x 8 clusters",
        ),
        (
            '[layers.1]\nstreams = "1x2"',
            ":2: error: site qkv of layer 1: groups of 2 x 16 do not fill the 16 x 8 clusters",
        ),
        ("streams = 2", ":1: error: streams is 2; expected a word"),
    ],
)
def test_streams_that_the_machine_has_not(tiny_ir: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sites.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DcomError) as caught:
        dcomc.compile(tiny_ir, [1], sites=("qkv", "o"), config=path, mapping="2x16")
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DcomError, match=r"cannot read .*absent: No such file"):
        SiteConfig.read(str(tmp_path / "absent"))
