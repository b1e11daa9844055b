"""An engine with random buffers, and data with every kind of binary16 and binary32."""

from collections.abc import Callable, Sequence

import numpy as np
from machines import issues, machine

from runtime.machine import Machine
from runtime.reference import ReferenceEngine

F = np.float32
GRIDS = {
    "16x16 of 8x8": machine(buffer_bytes=4096),
    "3x5 of 4x2": machine(rows=3, cols=5, mac_rows=4, mac_cols=2, buffer_bytes=4096),
    "2x3 of 2x8": machine(rows=2, cols=3, mac_rows=2, mac_cols=8, buffer_bytes=4096),
    "1x1 of 1x1": machine(rows=1, cols=1, mac_rows=1, mac_cols=1, buffer_bytes=4096),
}
SPECIAL = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01, 0x7C01]
WIDE = [0, 1 << 31, 1, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001]


def halves(random: np.random.Generator, count: int, special: float) -> np.ndarray:
    """Binary16 values, a share of them special."""
    bits = random.standard_normal(count).astype(np.float16).view(np.uint16)
    return (
        np.where(random.random(count) < special, random.choice(SPECIAL, count), bits).astype(np.uint16).view(np.float16)
    )


def singles(random: np.random.Generator, count: int, special: float) -> np.ndarray:
    """Binary32 values over many magnitudes, a share of them special."""
    values = random.standard_normal(count) * 10.0 ** random.integers(-9, 9, count)
    bits = values.astype(F).view(np.uint32)
    return np.where(random.random(count) < special, random.choice(WIDE, count), bits).astype(np.uint32).view(F)


class Bench:
    """An engine with random buffers, and what each cluster held before."""

    def __init__(self, m: Machine, seed: int, bank_bytes: int = 1024) -> None:
        self.machine = m
        self.random = np.random.default_rng(seed)
        self.banks = self.random.integers(0, 256, (m.grid.cols, bank_bytes)).astype(np.uint8)
        self.engine = ReferenceEngine(m, self.banks)
        self.clusters = [(r, c) for r in range(m.grid.rows) for c in range(m.grid.cols)]
        self.engine.buffers[:] = self.random.integers(0, 256, self.engine.buffers.shape)

    def put(
        self, address: int, make: Callable[[np.random.Generator, int, float], np.ndarray], count: int, special: float
    ) -> None:
        for r, c in self.clusters:
            data = make(self.random, count, special).view(np.uint8)
            self.engine.buffers[r, c, address : address + data.size] = data

    def run(self, *lines: str) -> "Bench":
        self.before = self.engine.buffers.copy()
        for issue in issues(*lines, "halt"):
            self.engine.execute(issue)
        return self

    def old(self, cluster: tuple[int, int], address: int, count: int, kind: type) -> list:
        """Scalars that a cluster held before, binary16 widened."""
        size = count * np.dtype(kind).itemsize
        data = self.before[cluster][address : address + size].tobytes()
        return [F(value) for value in np.frombuffer(data, kind)]

    def expect(self, address: int, kind: type, expected: dict[tuple[int, int], Sequence]) -> None:
        """The clusters hold these values at `address`, and nothing else has changed."""
        wanted = self.before.copy()
        for cluster in self.clusters:
            values = np.array(expected.get(cluster, []), kind)
            data = np.frombuffer(values.tobytes(), np.uint8)
            wanted[cluster][address : address + data.size] = data
            if kind is F:
                wanted[cluster][address : address + data.size].view(np.uint32)[np.isnan(values)] = 0x7FC00000
        differing = np.argwhere(wanted != self.engine.buffers)
        assert not len(differing), f"cluster and byte {differing[0].tolist()}"
