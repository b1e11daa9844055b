"""Random machines, random programs that they can run, and data with every kind of number."""

from dataclasses import dataclass, field
from random import Random

import numpy as np
from machines import machine

from runtime.encoding import Word
from runtime.instructions import INSTRUCTIONS, Access, Instruction, Unit
from runtime.machine import Machine
from runtime.operands import BANK, BUFFER, COUNT, EXTENT, FLAG, FLOAT, GLOBAL, PIECES, SREG, TOKEN
from runtime.program import KernelStream

HALVES = (0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01, 0x7C01)
SINGLES = (
    0,
    1 << 31,
    1,
    0x807FFFFF,
    0x00800000,
    0x3F800000,
    0x7F7FFFFF,
    0x7F800000,
    0xFF800000,
    0x7FC00001,
    0xFF800001,
)
FLOATS = (*SINGLES, 0x3F000000, 0xBF800000, 0x40490FDB)
WORKING = [row for row in INSTRUCTIONS if row.unit is not Unit.CONTROL]
MATVECS = [row for row in WORKING if row.mnemonic.startswith("mv.")]
SCALARS = 6
COUNTER, POINTER, FIRST_LOOP = 8, 9, 10
"""Integer registers: a count, a bank address, and one for each nested loop, which grows by `STEP` each turn."""
STEP = 4


def random_machine(random: Random) -> Machine:
    """A small machine of any shape; some have columns enough for whole vectors of lanes."""
    return machine(
        rows=random.randint(1, 5),
        cols=random.choice((1, 2, 3, 4, 5, 16, 19, 33)),
        mac_rows=2 ** random.randint(0, 3),
        mac_cols=2 ** random.randint(0, 3),
        buffer_bytes=random.choice((1024, 2048, 4096)),
    )


def random_banks(random: Random, columns: int, size: int) -> np.ndarray:
    """uint8 [columns, size]: runs of binary16 and of binary32 of moderate magnitude, a share of them special."""
    numbers = np.random.default_rng(random.getrandbits(32))
    special = random.choice((0.0, 0.003, 0.2))

    def mixed(values: np.ndarray, others: tuple[int, ...]) -> np.ndarray:
        return np.where(numbers.random(values.shape) < special, numbers.choice(others, values.shape), values)

    halves = numbers.standard_normal((columns, size // 2)).astype(np.float16).view(np.uint16)
    exponents = 10.0 ** numbers.integers(-3, 3, (columns, size // 4))
    singles = (numbers.standard_normal((columns, size // 4)) * exponents).astype(np.float32).view(np.uint32)
    narrow = mixed(halves, HALVES).astype(np.uint16).view(np.uint32)
    in_runs = numbers.random((columns, size // 64)).repeat(16, axis=1) < 0.5
    return np.where(in_runs, narrow, mixed(singles, SINGLES)).astype(np.uint32).view(np.uint8)


@dataclass
class ProgramWriter:
    """Writes a program; but for a rare one, every address is in its bounds in each turn of each loop."""

    random: Random
    machine: Machine
    bank_bytes: int
    wrong: float = 0.0
    """Share of buffer operands that lie anywhere."""
    words: list[Word] = field(default_factory=list)
    exits: list[list[int]] = field(default_factory=lambda: [[]])
    """For the program and each open loop, the places of the exits that lead to its end."""
    turns: list[int] = field(default_factory=list)
    """Of each open loop."""
    put_from: int = 0
    """Of the global memory, the first byte that it writes."""
    shared_bytes: int = 0
    """Those from there on that it writes and reads; all unless given."""
    get_bytes: int = 0
    """Where it only reads them, and writes none: so many from the first."""

    def write(self, phases: int = 1) -> list[Word]:
        """A whole program; of one stream of several, with a barrier before each phase but the first."""
        everything = self.machine.cluster.buffer_bytes
        self._stream("ld", 0, everything, everywhere=True)
        for scalar in range(SCALARS):
            x = BUFFER.pack(0, 4 * self.random.randrange(everything // 4))
            self.words.append(Word.of("s.ld", d=scalar, x=x))
        self._fill_global_memory()
        others = self.get_bytes
        for phase in range(phases):
            if phase:
                self.words.append(Word.of("barrier"))
                self.exits = [[]]
            self.get_bytes = others if phase % 2 else 0
            self._block(self.random.randint(4, 20) // phases + 1)
            self._close(self.exits.pop())
        self.words.append(Word.of("halt"))
        return self.words

    def _fill_global_memory(self) -> None:
        """As often as it takes, with all of the first cluster's buffer."""
        self.shared_bytes = self.shared_bytes or self.machine.global_memory.bytes
        size = min(self.machine.cluster.buffer_bytes, self.shared_bytes)
        place, body = BUFFER.pack(FIRST_LOOP, 0), len(self.words) + 2
        self.words += [
            Word.of("li", d=FIRST_LOOP, value=self.put_from),
            Word.of("loop", count=self.shared_bytes // size, end=body + 2),
            Word.of("put", x=BUFFER.pack(0, 0), g=place, length=size // 4, rows=0, cols=0),
            Word.of("addi", d=FIRST_LOOP, a=FIRST_LOOP, value=size),
        ]

    def _block(self, length: int) -> None:
        for _ in range(length):
            kind = self.random.random()
            if kind < 0.1 and len(self.turns) < 3:
                self._loop()
            elif kind < 0.15:  # out of any open loop, or of the program
                self.random.choice(self.exits).append(len(self.words))
                self.words.append(Word.of("exit.ngt", a=self._scalar(), b=self._scalar(), target=0))
            elif kind < 0.2:
                self.words.append(Word.of("wait", token=0))
            elif kind < 0.4:
                self._instruction(self.random.choice(MATVECS))
            else:
                self._instruction(self.random.choice(WORKING))

    def _loop(self) -> None:
        register, turns = FIRST_LOOP + len(self.turns), self.random.randint(0, 3)
        self.words.append(Word.of("li", d=register, value=0))
        count = self._count(turns)
        begin = len(self.words)
        self.words.append(Word.of("halt"))  # a loop, when its end is known
        self.turns.append(turns)
        self.exits.append([])
        self._block(self.random.randint(1, 6))
        self.words.append(Word.of("addi", d=register, a=register, value=STEP))
        self.turns.pop()
        exits = self.exits.pop()
        self.words[begin] = Word.of("loop", count=count, end=len(self.words))
        self._close(exits)

    def _close(self, exits: list[int]) -> None:
        for index in exits:
            a, b, _ = self.words[index].operands
            self.words[index] = Word.of("exit.ngt", a=a, b=b, target=len(self.words))

    def _scalar(self) -> int:
        return self.random.randrange(SCALARS)

    def _count(self, number: int) -> int:
        """An operand for the number: immediate, or in a register that is set now."""
        if self.random.random() < 0.7:
            return number
        self.words.append(Word.of("li", d=COUNTER, value=number))
        return COUNT.pack_register(COUNTER)

    def _instruction(self, row: Instruction) -> None:
        if row.unit is Unit.BANK:
            size = 2 * self.random.randint(0, self.random.choice((8, 200)))
            self._stream(row.mnemonic, self._place([(size, 2)])[0], size, self.random.random() < 0.5)
            return
        values: dict[str, int] = {}
        for name, kind in row.operands:
            if kind is COUNT:
                values[name] = self.random.randint(0, 4 if name != "length" else 40)
            elif kind is SREG:
                values[name] = self._scalar()
            elif kind in (FLAG, PIECES, EXTENT):
                values[name] = self.random.randrange(1 << min(kind.bits, 3))
            elif kind is FLOAT:
                values[name] = self.random.choice(FLOATS)
            elif kind not in (BUFFER, GLOBAL):
                values[name] = 2 * self.random.randint(0, 100)
        ranges = [used for used in row.ranges if not used.shared]
        sizes = [(used.size(values, self.machine), used.element) for used in ranges]
        if sum(size + 4 for size, _ in sizes) > self.machine.cluster.buffer_bytes - STEP * 8:
            return
        register, starts = self._where(sizes)
        reads = [index for index, used in enumerate(ranges) if used.access is Access.READ]
        if len(reads) > 1 and self.random.random() < 0.05:  # what is only read may overlap
            smaller = min(reads, key=lambda index: sizes[index][0])
            starts[smaller] = next(starts[index] for index in reads if index != smaller) // 4 * 4
        offsets = {used.operand: start for used, start in zip(ranges, starts, strict=True)}
        if row in MATVECS and self.random.random() < 0.5:
            self._stream("ld", offsets["a"], sizes[1][0], everywhere=True, register=register)
        for operand in offsets:
            if self.random.random() < self.wrong:
                offsets[operand] = self.random.randrange(self.machine.cluster.buffer_bytes + 8)
        operands = dict(values)
        for used in row.ranges:
            if used.shared:
                first, size = (0, self.get_bytes) if self.get_bytes else (self.put_from, self.shared_bytes)
                room = size - used.size(values, self.machine)
                if room < 0 or (self.get_bytes and used.access is not Access.READ):
                    return
                wild = self.random.random() < self.wrong
                operands[used.operand] = GLOBAL.pack(0, first + 4 * self.random.randint(0, room // 4 + 100 * wild))
        operands |= {operand: BUFFER.pack(register, offset) for operand, offset in offsets.items()}
        counted = [name for name, kind in row.operands if kind is COUNT]
        if counted:
            operands[counted[0]] = self._count(values[counted[0]])
        self.words.append(Word.of(row.mnemonic, **operands))

    def _where(self, sizes: list[tuple[int, int]]) -> tuple[int, list[int]]:
        """A base register, r0 or that of a loop, and an offset for each operand of that size and element."""
        if self.turns and self.random.random() < 0.5:
            loop = self.random.randrange(len(self.turns))
            return FIRST_LOOP + loop, self._place(sizes, STEP * self.turns[loop])
        return 0, self._place(sizes)

    def _place(self, sizes: list[tuple[int, int]], reserve: int = 0) -> list[int]:
        """Places in the buffer that do not overlap, `reserve` bytes before its end at most."""
        room = self.machine.cluster.buffer_bytes - reserve - sum(size + 4 for size, _ in sizes)
        starts, cursor = [0] * len(sizes), 0
        for index in self.random.sample(range(len(sizes)), len(sizes)):
            size, element = sizes[index]
            gap = self.random.randint(0, room) if self.random.random() < 0.7 else 0
            room -= gap
            starts[index] = -(-(cursor + gap) // element) * element if gap else -(-cursor // element) * element
            cursor = starts[index] + size
        return starts

    def _stream(self, mnemonic: str, buffer: int, size: int, everywhere: bool, register: int = 0) -> None:
        grid = self.machine.grid
        rows, cols = (0, 0) if everywhere else (self.random.randint(0, grid.rows), self.random.randint(0, grid.cols))
        steps = (rows or grid.rows) - 1
        stride = 2 * self.random.randint(0, (self.bank_bytes - size) // max(steps, 1) // 2)
        bank = 2 * self.random.randint(0, (self.bank_bytes - size - steps * stride) // 2)
        self.words.append(Word.of("li", d=POINTER, value=bank))
        if self.random.random() < self.wrong:
            bank += self.random.choice((1, self.bank_bytes))
            self.words.append(Word.of("li", d=POINTER, value=bank))
        kinds = dict(next(row for row in WORKING if row.mnemonic == mnemonic).operands)
        assert (kinds["bank"], kinds["token"]) == (BANK, TOKEN)
        place = BUFFER.pack(register, buffer)
        self.words.append(
            Word.of(mnemonic, buffer=place, bank=POINTER, bytes=size, stride=stride, rows=rows, cols=cols, token=0)
        )


def random_streams(random: Random, machine: Machine, bank_bytes: int) -> tuple[list[Word], list[KernelStream]]:
    """A program of up to four streams, which between two barriers write to parts of the global memory that no other
    uses, or read all of it."""
    rectangles = [(0, 0, machine.grid.rows, machine.grid.cols)]
    for _ in range(random.randint(1, 3)):
        row, col, rows, cols = rectangles.pop(random.randrange(len(rectangles)))
        down = rows > 1 and (cols == 1 or random.random() < 0.5)
        if rows * cols == 1:
            rectangles.append((row, col, rows, cols))
        elif down:
            cut = random.randint(1, rows - 1)
            rectangles += [(row, col, cut, cols), (row + cut, col, rows - cut, cols)]
        else:
            cut = random.randint(1, cols - 1)
            rectangles += [(row, col, rows, cut), (row, col + cut, rows, cols - cut)]
    words: list[Word] = []
    streams: list[KernelStream] = []
    phases, each = random.randint(1, 4), machine.global_memory.bytes // 4
    for number, (row, col, rows, cols) in enumerate(rectangles):
        streams.append(KernelStream(row, col, rows, cols, len(words)))
        part = machine.part(rows, cols)
        writer = ProgramWriter(random, part, bank_bytes, words=words, put_from=number * each, shared_bytes=each)
        writer.get_bytes = len(rectangles) * each
        writer.write(phases)
    return words, streams
