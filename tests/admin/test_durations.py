"""Durations as texts. Source: admin.md 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.admin.durations import DurationError, friendly, parse_duration_ms

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
        ("0", 0),
        ("1w", 7 * DAY),
        ("P1W", 7 * DAY),
        ("1.5s", 1_500),
        ("1m 1,5s", 61_500),
        ("P1DT1.5H", DAY + 5_400_000),
        ("PT1.5M", 90_000),
        ("1500us", 2),
        ("10µs", 1),
        ("5ns", 1),
        ("PT0.0005S", 1),
        ("1h, 30m", 5_400_000),
        ("1d 01:30:00", DAY + 5_400_000),
        ("+1s", 1_000),
        ("+PT1S", 1_000),
        ("1h ", 3_600_000),
        ("7304484d", 7_304_484 * DAY),
    ],
)
def test_durations_are_read_in_both_notations(text: str, duration_ms: int) -> None:
    """1: as the reference; less than a millisecond is one."""
    assert parse_duration_ms(text) == duration_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1s",
        "banana",
        "5",
        "1month",
        "1y",
        "P1M",
        "P",
        "PT",
        "P1DT",
        "1s x",
        "1s 1s",
        "1s 1m",
        "PT30M1H",
        "1.5m 3s",
        "1.5d",
        "1H",
        "1M",
        "1h,30m",
        " 1h",
        "1s ago",
        "01:60:00",
        "7304485d",
        "999999999999d",
        "\uff11s",
        "1_000s",
        "1e3s",
        ".5s",
    ],
)
def test_other_texts_are_no_duration(text: str) -> None:
    """1: units above weeks, negatives, empty, numbers, repeated units, garbage."""
    with pytest.raises(DurationError):
        parse_duration_ms(text)


@given(st.integers(0, 10**14))
def test_what_is_shown_can_be_read_again(duration_ms: int) -> None:
    """Round trip."""
    assert parse_duration_ms(friendly(duration_ms)) == duration_ms
