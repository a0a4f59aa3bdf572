"""The kinds of value: what each accepts and what it refuses."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.daemon import values
from restated.daemon.values import Address, Kind

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1s", 1_000), ("500ms", 500), ("1m 30s", 90_000), ("1m30s", 90_000), ("0s", 0), ("0", 0),
        (0, 0), ("1.5s", 1_500), ("2 hours, 5 minutes", 7_500_000), ("1d", DAY_MS),
        ("1w", 7 * DAY_MS),
        ("PT1M30S", 90_000), ("P1DT2H", DAY_MS + 7_200_000), ("pt0.5s", 500), ("P2W", 14 * DAY_MS),
    ],
)  # fmt: skip
def test_a_duration_is_friendly_or_iso_8601(text: object, milliseconds: int) -> None:
    """ingress.md 22: the reference writes both."""
    assert values.duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "raw",
    ["", "1", 1, 1.5, True, None, "-1s", "1 fortnight", "s", "P", "PT", "P1S", "101y", "36600d"],
)
def test_a_duration_without_unit_or_beyond_a_hundred_years_is_refused(raw: object) -> None:
    """Nobody would know the unit of a bare number; stored times stay in 64 bits."""
    with pytest.raises(ValueError):  # noqa: PT011 - the text is never shown
        values.duration_ms(raw)


@given(st.text())
def test_no_text_makes_a_duration_raise_anything_else(text: str) -> None:
    """N1: whatever is written there, it is a duration or a ValueError."""
    with contextlib.suppress(ValueError):
        assert values.duration_ms(text) >= 0


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (values.BYTES, "32 MiB", 32 << 20), (values.BYTES, "7.0 GiB", 7 << 30),
        (values.BYTES, 65_536, 65_536), (values.BYTES, "10kb", 10_000),
        (values.ADDRESS, "127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (values.ADDRESS, "[::1]:0", Address("::1", 0)),
        (values.ADDRESS, "http://localhost:9070/", Address("localhost", 9070)),
        (values.OPTIONAL_ADDRESS, "None", None),
        (values.FLAG, "TRUE", True), (values.FLAG, False, False),
        (values.integer(1, 5), "5", 5), (values.number(0, 9), 2, 2.0),
        (values.optional_integer(1, 5), "unlimited", None),
        (values.choice({"text": "text", "pretty": "text"}), "Pretty", "text"),
        (values.NETWORKS, "10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
        (values.NETWORKS, ["10.1.2.3/8"], ("10.0.0.0/8",)),
    ],
)  # fmt: skip
def test_a_value_is_read_as_its_kind(kind: Kind[object], raw: object, value: object) -> None:
    """One row per form."""
    assert kind.parse(raw) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (values.BYTES, "-1"), (values.BYTES, "1 XiB"), (values.BYTES, True),
        (values.ADDRESS, "8080"), (values.ADDRESS, "::1:80"), (values.ADDRESS, ":80"),
        (values.ADDRESS, "a:65536"), (values.ADDRESS, "a:-1"),
        (values.FLAG, "1"), (values.FLAG, 1), (values.integer(1, 5), 6),
        (values.integer(1, 5), True),
        (values.integer(1, 5), 2.5), (values.number(0, 9), "nan"), (values.number(0, 9), True),
        (values.choice({"a": "a"}), "b"), (values.TEXT, " "), (values.TEXT, 3),
        (values.PATH, "a\0b"),
        (values.NETWORKS, "10.0.0.0/99"), (values.NETWORKS, [1]), (values.NETWORKS, 1),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(kind: Kind[object], raw: object) -> None:
    """One row per way to be wrong."""
    with pytest.raises(ValueError):  # noqa: PT011 - the text is never shown
        kind.parse(raw)
