"""The two grammars of `delay` (ingress.md 6)."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.ingress.delays import NAMES, NANOSECONDS, parse_delay_ms
from restated.ingress.paths import RequestError, parse_query
from tests.ingress.world import recorded_cases

PREFIX = "bad delay query parameter, must be a ISO8601 duration: "
FRIENDLY = 'failed to parse input in the "friendly" duration format: '
LEFTOVER = "parsed value '{}', but unparsed input {} remains (expected no unparsed input)"
RECORDED = [
    case
    for case in recorded_cases("delay")
    if case["name"].startswith(("delay/ok", "delay/bad-", "delay/unit"))
    and case["name"] != "delay/bad-on-call"
]


def reason(text: str) -> str:
    """Why a value is refused."""
    with pytest.raises(RequestError) as refused:
        parse_delay_ms(text)
    assert refused.value.error.status == 400
    return refused.value.message.removeprefix(PREFIX)


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_recorded_spellings_are_taken_or_refused_with_the_same_text(case: dict) -> None:  # type: ignore[type-arg]
    """ingress.md 6: 104 accepted and 63 refused spellings."""
    text = parse_query(case["request"]["path"].partition("?")[2], "delay")
    assert text is not None
    if case["response"]["status"] == 202:
        assert parse_delay_ms(text) >= 0
    else:
        assert PREFIX + reason(text) == case["response"]["body"]["json"]["message"]


@pytest.mark.parametrize(
    ("text", "delay_ms"),
    [
        ("0", 0),
        ("-0s", 0),
        ("-0y", 0),
        ("1.123456789h", 4_044_444),
        ("9223372036854775807ns", 9_223_372_036_854),
        ("1d, 01:30:00", 91_800_000),
        ("1d 01:30:00 ", 91_800_000),
        ("01:30:00,5", 5_400_500),
        ("1:100:100", 9_700_000),
        ("5 \u00b5s", 0),
        ("1.9999999us", 0),
        ("1ms1us1ns", 1),
        ("1h0.5s", 3_600_500),
        ("1\n\nh", 3_600_000),
        ("PT0.5M", 30_000),
        ("P1DT0.5H", 88_200_000),
        ("+P1D", 86_400_000),
    ],
)
def test_durations_are_summed_exactly_and_truncated(text: str, delay_ms: int) -> None:
    """ingress.md 6; spellings that were tried on the reference."""
    assert parse_delay_ms(text) == delay_ms


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-", "found nothing after sign `-`, which is not a valid duration in either the ISO 8601 "
              "format or Jiff's \"friendly\" format"),
        ("1:", FRIENDLY + "when parsing the `HH:MM:SS` format, expected to parse minute following "
                          "hour"),
        ("1:2:x", FRIENDLY + "when parsing the `HH:MM:SS` format, expected to parse second "
                             "following minute"),
        ("1h, ago", FRIENDLY + "found comma at the end of duration, but a comma indicates at least "
                               "one more unit follows"),
        ("1.5w", FRIENDLY + "fractional weeks are not supported"),
        ("1.5ns", FRIENDLY + "fractional nanoseconds are not supported"),
        ("99999999999999999999s", FRIENDLY + "number too big to parse into 64-bit integer"),
        ("1s1ms x", FRIENDLY + LEFTOVER.format("PT1.001S", '"x"')),
        ("2w3d x", FRIENDLY + LEFTOVER.format("P2W3D", '"x"')),
        ("1s ago ago", FRIENDLY + LEFTOVER.format("-PT1S", '" ago"')),
        ('1s"\\\n\x01x', FRIENDLY + LEFTOVER.format("PT1S", '"\\"\\\\\\n\\x01x"')),
        ("1h -1m", FRIENDLY + LEFTOVER.format("PT1H", '"-1m"')),
        ("PT1M1M", "found value with unit minute after unit minute, but units must be written from "
                   "largest to smallest (and they can't be repeated)"),
        ("PT0.5H x", LEFTOVER.format("PT30M", '" x"')),
        ("P+1D", "no parsed duration components"),
    ],
)  # fmt: skip
def test_refusals_say_what_the_reference_says(text: str, why: str) -> None:
    """ingress.md 6; spellings that were tried on the reference."""
    assert reason(text) == why


@given(st.text(alphabet="0123456789PTYMWDHSptymwdhs .,:+-ago\u00b5ns\n", max_size=40))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    """N1."""
    with suppress(RequestError):
        assert parse_delay_ms(text) >= 0


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(NAMES)), st.integers(0, 10_000)), min_size=1, max_size=8
    )
)
def test_units_from_large_to_small_add_up(parts: list[tuple[str, int]]) -> None:
    """ingress.md 6."""
    by_unit = {NAMES[name]: (name, count) for name, count in parts if NAMES[name] >= 2}
    ordered = sorted(by_unit.items())
    text = " ".join(f"{count}{name}" for _, (name, count) in ordered) or "0"
    total = sum(count * NANOSECONDS[unit] for unit, (_, count) in ordered)
    assert parse_delay_ms(text) == total // 1_000_000


def test_a_long_value_takes_linear_time() -> None:
    """N1: whitespace, digits and names without end."""
    for text in ("1" * 60_000, "1h" + " " * 60_000 + "x", "1h, " * 15_000, "P" + "1" * 60_000):
        assert reason(text)
