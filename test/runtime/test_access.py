"""What memory an instruction may not touch: every fault, and the nearest access that is none."""

import re

import pytest
from bench import GRIDS, Bench

from runtime.sequencer import MachineFault

UNALIGNED = [
    ("fill [r0+1], 4", 2),
    ("fill [r0+0], 5", 2),
    ("mv.row [r0+2], [r0+64], [r0+128], 1, 1, 0", 4),
    ("mv.row [r0+0], [r0+65], [r0+128], 1, 1, 0", 2),
    ("mv.row [r0+0], [r0+64], [r0+129], 1, 1, 0", 2),
    ("mv.col [r0+2], [r0+64], [r0+128], 1, 1, 0", 4),
    ("mv.col [r0+0], [r0+65], [r0+128], 1, 1, 0", 2),
    ("mv.col [r0+0], [r0+64], [r0+129], 1, 1, 0", 2),
    ("dots [r0+2], [r0+64], [r0+128], 3, 4, 0", 4),
    ("dots [r0+0], [r0+65], [r0+128], 3, 4, 0", 2),
    ("dots [r0+0], [r0+64], [r0+130], 3, 4, 0", 4),
    ("norm2 [r0+2], [r0+64], 1, 0", 4),
    ("norm2 [r0+0], [r0+66], 1, 0", 4),
    ("subtract [r0+2], [r0+64], [r0+128], 3, 4, 0", 4),
    ("subtract [r0+0], [r0+65], [r0+128], 3, 4, 0", 2),
    ("subtract [r0+0], [r0+64], [r0+130], 3, 4, 0", 4),
    ("scale [r0+1], [r0+64], s1, 4, 0", 2),
    ("scale [r0+0], [r0+66], s1, 4, 0", 4),
    *((f"{kind}.{line} [r0+2], 4, 0", 4) for kind in ("reduce", "bcast", "allreduce") for line in ("row", "col")),
    ("madd [r0+2], [r0+64], [r0+128], 3, 4, 0, 0", 4),
    ("madd [r0+0], [r0+65], [r0+128], 3, 4, 0, 0", 2),
    ("madd [r0+0], [r0+64], [r0+130], 3, 4, 0, 0", 4),
    ("sub [r0+0], [r0+66], 4", 4),
    ("sum [r0+2], [r0+64], 4", 4),
    ("part.row [r0+1], [r0+64], 8, 16, 1, 0", 2),
    ("part.col [r0+0], [r0+64], 8, 15, 1, 0", 2),
    ("gather.row [r0+1], [r0+64], 8, 16, 0", 2),
    ("gather.col [r0+0], [r0+64], 7, 16, 0", 2),
    *((f"{mnemonic} [r0+2], [r0+0], 1, 1, 1", 4) for mnemonic in ("put", "get")),
    *((f"{mnemonic} [r0+0], [r0+2], 1, 1, 1", 4) for mnemonic in ("put", "get")),
    ("s.ld s1, [r0+2]", 4),
    ("s.st [r0+2], s1", 4),
    *((f"{mnemonic} [r0+1], r1, 8, 0, 1, 1, t0", 2) for mnemonic in ("ld", "st")),
    *((f"{mnemonic} [r0+0], r1, 7, 0, 1, 1, t0", 2) for mnemonic in ("ld", "st")),
]


@pytest.mark.parametrize(("line", "element"), UNALIGNED)
def test_address_or_size_that_is_no_multiple_of_the_element(line: str, element: int) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 5, bank_bytes=8)
    wanted = rf"instruction 0, .*: bytes \d+ to \d+ are no whole elements of {element} bytes"
    with pytest.raises(MachineFault, match=wanted):
        bench.run(line)
    assert (bench.engine.buffers == bench.before).all()


@pytest.mark.parametrize("mnemonic", ["ld", "st"])
@pytest.mark.parametrize(("base", "stride"), [(1, 8), (0, 9)])
def test_odd_address_in_the_bank(mnemonic: str, base: int, stride: int) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 5)
    with pytest.raises(MachineFault, match=rf"instruction 1, .*: bank address {base} or stride {stride} is odd"):
        bench.run(f"li r4, {base}", f"{mnemonic} [r0+0], r4, 8, {stride}, 2, 1, t0")


OVERLAPS = [  # 4 x 2 multipliers; the last bytes of one operand are the first of the other
    "mv.row [r0+64], [r0+76], [r0+0], 1, 1, 0",
    "mv.row [r0+64], [r0+50], [r0+0], 1, 1, 1",
    "mv.row [r0+64], [r0+0], [r0+78], 1, 1, 1",
    "mv.row [r0+64], [r0+0], [r0+62], 1, 1, 0",
    "mv.col [r0+64], [r0+70], [r0+0], 1, 1, 0",
    "mv.col [r0+64], [r0+0], [r0+58], 1, 1, 1",
    "dots [r0+64], [r0+72], [r0+0], 3, 4, 0",
    "dots [r0+64], [r0+0], [r0+52], 3, 4, 0",
    "norm2 [r0+64], [r0+64], 1, 0",
    "norm2 [r0+76], [r0+64], 4, 0",
    "subtract [r0+64], [r0+78], [r0+0], 3, 4, 0",
    "subtract [r0+64], [r0+0], [r0+76], 3, 4, 0",
    "scale [r0+64], [r0+64], s1, 4, 0",
    "scale [r0+64], [r0+68], s1, 4, 0",
    "madd [r0+64], [r0+76], [r0+0], 3, 4, 0, 0",
    "madd [r0+64], [r0+0], [r0+76], 3, 4, 1, 0",
    "sub [r0+64], [r0+64], 1",
    "sum [r0+68], [r0+64], 2",
    "part.row [r0+64], [r0+70], 8, 16, 1, 0",
    "gather.col [r0+64], [r0+74], 4, 16, 0",
]


@pytest.mark.parametrize("line", OVERLAPS)
def test_result_that_overlaps_another_operand(line: str) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 5)
    with pytest.raises(MachineFault, match=r"instruction 0, .*: the result overlaps another operand in bytes"):
        bench.run(line)
    assert (bench.engine.buffers == bench.before).all()


@pytest.mark.parametrize(
    "line",
    [
        "mv.row [r0+64], [r0+80], [r0+60], 1, 1, 0",
        "mv.row [r0+64], [r0+0], [r0+4], 1, 1, 0",  # the tile and the vector are both read
        "dots [r0+64], [r0+0], [r0+0], 3, 4, 0",
        "norm2 [r0+80], [r0+64], 4, 0",
        "scale [r0+80], [r0+64], s1, 4, 0",
        "scale [r0+64], [r0+64], s1, 0, 0",
        "dots [r0+64], [r0+64], [r0+80], 0, 4, 0",
        "put [r0+64], [r0+64], 4, 0, 0",  # one in the buffer, one in the global memory
        "get [r0+64], [r0+64], 4, 1, 1",
        "gather.col [r0+64], [r0+76], 4, 400, 0",  # of three clusters, four bytes each
    ],
)
def test_operands_that_meet_without_an_overlap(line: str) -> None:
    Bench(GRIDS["3x5 of 4x2"], 5).run(line)


END = 4096
OUTSIDE = [
    f"fill [r0+{END - 4}], 6",
    f"mv.row [r0+{END - 12}], [r0+0], [r0+64], 1, 1, 0",
    f"mv.row [r0+0], [r0+{END - 14}], [r0+64], 1, 1, 0",
    f"mv.col [r0+0], [r0+64], [r0+{END - 6}], 1, 1, 1",
    f"dots [r0+{END - 8}], [r0+0], [r0+64], 3, 4, 0",
    f"dots [r0+0], [r0+{END - 22}], [r0+64], 3, 4, 0",
    f"norm2 [r0+{END}], [r0+0], 1, 0",
    f"subtract [r0+0], [r0+64], [r0+{END - 8}], 3, 4, 0",
    f"scale [r0+{END - 6}], [r0+0], s1, 4, 0",
    f"reduce.row [r0+{END - 12}], 4, 0",
    f"bcast.col [r0+{END}], 1, 0",
    f"allreduce.col [r0+{END - 4}], 2, 0",
    f"s.ld s1, [r0+{END}]",
    f"s.st [r0+{END}], s1",
    f"ld [r0+{END - 6}], r1, 8, 0, 1, 1, t0",
    f"st [r0+{END - 6}], r1, 8, 0, 1, 1, t0",
    "norm2 [r0+0], [r0+4], 32767, 0",
]


@pytest.mark.parametrize("line", OUTSIDE)
def test_address_outside_the_buffer(line: str) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 0, bank_bytes=8)
    with pytest.raises(
        MachineFault, match=r"instruction 0, .*: bytes \d+ to \d+ are outside the buffer of 4096"
    ) as fault:
        bench.run(line)
    assert fault.value.what.startswith(f"instruction 0, {line.split()[0]} ")


@pytest.mark.parametrize("line", OUTSIDE[:-1])
def test_last_address_inside_the_buffer(line: str) -> None:
    """One element earlier, every one of these is right."""
    element = 2 if re.match("fill|ld|st|scale|mv.row .r0.0|mv.col|dots .r0.0", line) else 4
    inside = re.sub(r"40[789]\d", lambda address: str(int(address[0]) - element), line)
    Bench(GRIDS["3x5 of 4x2"], 0, bank_bytes=8).run(inside)


@pytest.mark.parametrize("line", ["put [r0+0], [r0+65484], 1, 1, 1", "get [r0+0], [r0+65524], 1, 2, 2"])
def test_address_outside_the_global_memory(line: str) -> None:
    """15 clusters of 4 bytes; 4 times 4 bytes. 4 bytes earlier, each fits."""
    grid = GRIDS["3x5 of 4x2"]
    inside = re.sub(r"65\d{3}", lambda address: str(int(address[0]) - 8), line)
    Bench(grid, 0).run(inside)
    with pytest.raises(MachineFault, match=r"bytes \d+ to 655\d\d are outside the global memory of 65536"):
        Bench(grid, 0).run(line)


def test_negative_address() -> None:
    with pytest.raises(MachineFault, match=r"instruction 1, .*: bytes -2 to 2 are outside the buffer of 4096"):
        Bench(GRIDS["3x5 of 4x2"], 0).run("li r5, -10", "fill [r5+0x8], 4")


@pytest.mark.parametrize("mnemonic", ["ld", "st"])
@pytest.mark.parametrize(("base", "rows", "stride"), [(1017, 1, 0), (0, 3, 509), (-1, 1, 0)])
def test_address_outside_the_bank(mnemonic: str, base: int, rows: int, stride: int) -> None:
    bench = Bench(GRIDS["3x5 of 4x2"], 0, bank_bytes=1024)
    with pytest.raises(MachineFault, match=r"instruction 1, .*: bytes -?\d+ to \d+ are outside the launch's 1024"):
        bench.run(f"li r4, {base}", f"{mnemonic} [r0+0], r4, 8, {stride}, {rows}, 1, t0")


@pytest.mark.parametrize("mnemonic", ["ld", "st"])
@pytest.mark.parametrize(("rows", "cols"), [(4, 1), (1, 6)])
def test_more_clusters_than_there_are(mnemonic: str, rows: int, cols: int) -> None:
    with pytest.raises(MachineFault, match=f"{rows} x {cols} clusters are more than the grid has"):
        Bench(GRIDS["3x5 of 4x2"], 0).run(f"{mnemonic} [r0+0], r0, 8, 0, {rows}, {cols}, t0")
