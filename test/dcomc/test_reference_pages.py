"""Reference pages say what docstrings say, in Markdown that shows it, and are current."""

import pytest

from dcomc.docstrings import field_docs, first_sentence
from dcomc.reference import FILES, ROOT
from dcomc.reference.markdown import escape, prose, table
from dialects.dcom import DecomposeOp, FactoredType
from passes import PASSES, UPSTREAM, pass_options
from passes.dcom_decompose_activations import DcomDecomposeActivationsPass


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_from_the_code_is_current(name: str) -> None:
    """`make reference` writes it anew."""
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name](), "run `make reference`"


def test_fields_have_the_strings_below_them() -> None:
    assert field_docs(DcomDecomposeActivationsPass)["rank"] == "R, the columns of U that are kept."
    assert field_docs(FactoredType)["shape"] == "B, S and the number of channels.", "that of its base class"
    assert "seed" in field_docs(DecomposeOp) and "layer" not in field_docs(DecomposeOp)


def test_first_sentence() -> None:
    assert first_sentence("V* = V W (Eq. 6), and\nno more. Then this.") == "V* = V W (Eq. 6), and no more."
    assert first_sentence("No full stop\n\nin it.") == "No full stop"


def test_signs_of_markdown_are_escaped_outside_of_code() -> None:
    assert escape("B*S rows, `B*S`, a <T> b") == r"B\*S rows, `B*S`, a \<T> b"
    assert escape("one_hot, _x_ and 1 < 2") == r"one_hot, \_x\_ and 1 < 2"


def test_indented_blocks_are_fenced() -> None:
    text = "Before:\n\n    %a = f %b\n\n    %c = g %a\n\nand a table:\n\n    rank = 3\n"
    assert prose(text) == ("Before:\n\n```mlir\n%a = f %b\n\n%c = g %a\n```\n\nand a table:\n\n```toml\nrank = 3\n```")


def test_tables_leave_empty_columns_out() -> None:
    assert table(["a", "b", "c"], [["1", "", "x|y"], ["2", "", ""]]) == (
        "| a | c |\n| --- | --- |\n| 1 | x\\|y |\n| 2 |  |"
    )


@pytest.mark.parametrize("name", sorted(set(PASSES) - set(UPSTREAM)))
def test_every_option_of_a_pass_has_a_meaning(name: str) -> None:
    assert [option.name for option in pass_options(name) if not option.meaning] == []
