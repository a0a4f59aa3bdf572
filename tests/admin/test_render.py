"""Durations, timestamps, descriptions. Source: admin.md 1, 4.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.admin.render import DurationError, friendly, parse_duration_ms, timestamp

DAY = 86_400_000


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0s"),
        (50, "50ms"),
        (1_500, "1s 500ms"),
        (90_000, "1m 30s"),
        (DAY + DAY // 2, "1d 12h"),
        (10 * DAY + 14_706_007, "10d 4h 5m 6s 7ms"),
    ],
)
def test_durations_are_friendly(duration_ms: int, text: str) -> None:
    """1: largest unit first, only parts that are not zero."""
    assert friendly(duration_ms) == text


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("1m 30s", 90_000),
        ("10days 4h 5min 6sec 7ms", 10 * DAY + 14_706_007),
        ("PT36H", 36 * 3_600_000),
        ("P1DT1S", DAY + 1_000),
        ("pt1.5s", 1_500),
        ("0s", 0),
    ],
)
def test_durations_are_read_in_both_notations(text: str, duration_ms: int) -> None:
    """1."""
    assert parse_duration_ms(text) == duration_ms


@pytest.mark.parametrize(
    "text", ["", "-1s", "banana", "5", "1month", "1y", "P1M", "P", "PT", "1s x"]
)
def test_other_texts_are_no_duration(text: str) -> None:
    """1: units above days, negatives, empty, numbers, garbage."""
    with pytest.raises(DurationError):
        parse_duration_ms(text)


@given(st.integers(0, 10**14))
def test_what_is_shown_can_be_read_again(duration_ms: int) -> None:
    """Round trip."""
    assert parse_duration_ms(friendly(duration_ms)) == duration_ms


def test_timestamps_have_nine_digits() -> None:
    """1."""
    assert timestamp(1_795_577_634_295) == "2026-11-25T03:33:54.295000000Z"
