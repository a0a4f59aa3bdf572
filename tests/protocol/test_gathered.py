"""Pieces put together."""

from hypothesis import given
from hypothesis import strategies as st

from restated.protocol.gathered import APART_BYTES, Gathered

SIZES = st.integers(0, 70) | st.integers(APART_BYTES - 70, APART_BYTES + 70)


@given(st.lists(SIZES, max_size=5))
def test_value_is_the_pieces_in_order(sizes: list[int]) -> None:
    """M3: also across the size from which the bytes are kept apart."""
    pieces = [bytes([place]) * size for place, size in enumerate(sizes)]
    gathered = Gathered()
    for piece in pieces:
        gathered.add(piece)
    assert gathered.size == sum(sizes)
    assert gathered.value() == b"".join(pieces)
