"""Random programs of nested loops, for the timing of what repeats."""

from random import Random

from machines import words

from runtime.encoding import Word

TILES_ACROSS = 4
"""Of the slices of the matrices that `LoopWriter` reads."""


class LoopWriter:
    """Nested loops of any instructions; registers point into the buffer, into the banks, count, and are copied.

    Many bodies wait for all that they do, so that what differs in the next turn cannot be told from the clock.
    """

    def __init__(self, random: Random, bank_bytes: int) -> None:
        self.random = random
        self.lines: list[str] = ["li r2, 64", "li r3, 2", "li r4, 4096", f"li r5, {bank_bytes}"]
        self.bank_bytes = bank_bytes

    def write(self) -> list[Word]:
        """A whole program."""
        for _ in range(self.random.randint(1, 3)):
            self.block(0)
        return words(*self.lines, "halt")

    def block(self, depth: int) -> None:
        """Some instructions and loops; of a loop itself, where it is not the outermost block."""
        choose = self.random.random
        begin = len(self.lines)
        if depth:
            self.lines.append("")
        for _ in range(self.random.randint(1, 4)):
            if choose() < (0.3 if depth else 0.8) and depth < 3:
                self.block(depth + 1)
            elif choose() < 0.15 and depth:
                self.lines.append(f"exit.ngt s1, s2, {len(self.lines) + 1}")
            else:
                self.lines.append(self.instruction())
        if depth:
            if choose() < 0.6:
                self.lines += ["norm2 [r0+0x80], [r0+0x100], 4096, 0", "s.ld s1, [r0+0x80]", "s.mul s1, s1, s1"]
            turns = self.random.choice(["0", "1", "2", "3", "7", "40", "r3", "r31"])
            self.lines[begin] = f"loop {turns}, {len(self.lines)}"

    def instruction(self) -> str:
        """One that works on the buffers, moves data between them and the banks, or changes a register."""
        pick, number = self.random.choice, self.random.randint
        at = f"[{pick(['r0', 'r2', 'r9', 'r9'])}+{32 * number(0, 12)}]"
        return pick(
            [
                f"mv.row {at}, [r0+0x1000], [r0+0x100], 1, {TILES_ACROSS}, 0",
                f"mv.col [r0+0x40], [r9+0x1000], {at}, {number(0, 1)}, r10, 1",
                f"dots [r0+0x800], [r0+0x200], {at}, r10, {number(0, 40)}, 1",
                f"norm2 [r0+0x900], {at}, {number(0, 99)}, 2",
                f"scale [r0+0x300], {at}, s{number(0, 2)}, 9, 0",
                f"allreduce.row {at}, {number(0, 99)}, 4",
                f"reduce.col {at}, r10, 0",
                f"fill {at}, {8 * number(0, 40)}",
                f"ld [r0+0x1000], r{pick([1, 4, 5])}, {128 * TILES_ACROSS}, 64, {number(0, 3)}, 0, t1",
                f"ld [r0+0x1000], r{pick([1, 5, 5])}, {128 * TILES_ACROSS}, 64, {number(0, 3)}, 0, t1",
                f"st {at}, r{pick([1, 4, 5])}, 256, 0, 2, 1, t2",
                f"wait t{pick([1, 1, 1, 2])}",
                f"s.ld s1, {at}",
                "s.rsqrt s2, s1",
                "s.mul s1, s2, s1",
                f"addi r{pick([4, 5])}, r{pick([1, 4, 5])}, {pick([-2, 64, self.bank_bytes, self.bank_bytes])}",
                f"addi r{pick([9, 10])}, r{pick([9, 10, 10])}, {pick([0, 1, 4])}",
                "addi r10, r10, 1",
                f"li r{pick([5, 9])}, {32 * number(0, 3)}",
            ]
        )
