"""Timestamps. Source: admin.md 1."""

from restated.admin.render import timestamp


def test_timestamps_have_nine_digits() -> None:
    """1."""
    assert timestamp(1_795_577_634_295) == "2026-11-25T03:33:54.295000000Z"
