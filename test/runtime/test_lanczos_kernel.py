"""One read of rows from both sides, against NumPy: of any number of rows and columns."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.intrinsics import LANES, ROWS
from runtime.lanczos_kernel import Array, read


@settings(deadline=None)  # the first call compiles
@pytest.mark.parametrize("element", [np.float32, ml_dtypes.bfloat16])
@given(
    blocks=st.integers(1, 3),
    rows=st.integers(0, 3 * ROWS + 1),
    cols=st.integers(1, 2 * LANES + 3),
    start=st.integers(0, 9),
    after=st.integers(0, 2),
    seed=st.integers(0, 9),
)
def test_a_read_from_both_sides(
    element: type[np.generic], blocks: int, rows: int, cols: int, start: int, after: int, seed: int
) -> None:
    """y = A x of some rows, and of no others; z gets Aᵀ y. Sums of small integers are exact in any order."""
    random = np.random.default_rng(seed)

    def integers(*shape: int) -> Array:
        return random.integers(-3, 4, shape).astype(np.float32)

    stop = start + rows
    a, x, z = integers(blocks, stop + after, cols), integers(blocks, cols), integers(blocks, cols)
    y = np.full((blocks, stop + after), 99, np.float32)
    bits = a if element is np.float32 else a.astype(element).view(np.uint16)
    expected = np.einsum("msh,mh->ms", a[:, start:stop], x)
    added = z + np.einsum("msh,ms->mh", a[:, start:stop], expected)
    read(bits, x, y, z, start, stop)
    np.testing.assert_array_equal(y[:, start:stop], expected)
    np.testing.assert_array_equal(z, added)
    assert (y[:, :start] == 99).all() and (y[:, stop:] == 99).all()


def test_what_is_no_number_stays_in_its_row() -> None:
    """Rows before it and after it have their products; Aᵀ y has it in all columns that it meets."""
    a = np.ones((1, 4 * ROWS, LANES), np.float32)
    a[0, ROWS + 3, 5] = np.inf
    y, z = np.empty((1, 4 * ROWS), np.float32), np.zeros((1, LANES), np.float32)
    read(a, np.ones((1, LANES), np.float32), y, z, 0, 4 * ROWS)
    assert np.isinf(y[0]).nonzero()[0].tolist() == [ROWS + 3] and np.isinf(z).all()
