"""Lines, levels, repeats."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from restated.daemon import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where lines go; the loggers are as before afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("restated")
    before = root.handlers[:], root.level, ours.level
    yield io.StringIO()
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]


def test_a_text_line_is_key_value_and_one_line_whatever_the_message(stream: io.StringIO) -> None:
    """Z6: control characters are escaped."""
    logs.set_up("info", "text", stream)
    logging.getLogger("restated.engine").info("two\nlines name=%s", "a\x1b[31m")
    line = stream.getvalue()
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info logger=restated\.engine "
        r'message="two\\nlines name=a\\u001b\[31m"\n',
        line,
    )


def test_a_json_line_carries_the_traceback_as_a_member(stream: io.StringIO) -> None:
    """One object a line."""
    logs.set_up("info", "json", stream)
    try:
        int("boom")
    except ValueError:
        logging.getLogger("restated.core").exception("defect")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    fields = json.loads(lines[0])
    assert fields["level"] == "error"
    assert fields["message"] == "defect"
    assert fields["exception"].endswith("with base 10: 'boom'")


@pytest.mark.parametrize(
    ("text", "everything", "single"),
    [
        ("warn", logging.WARNING, {}),
        ("warn,restate=info", logging.WARNING, {"restated": logging.INFO}),
        ("info,restated.invoker=debug", logging.INFO, {"restated.invoker": logging.DEBUG}),
        ("hyper=trace", logging.INFO, {}),
        ("OFF", logging.CRITICAL + 10, {}),
        ("", logging.INFO, {}),
    ],
)
def test_a_filter_is_read_as_the_reference_writes_it(
    text: str, everything: int, single: dict[str, int]
) -> None:
    """RESTATE_LOG_FILTER of existing deployments keeps its meaning."""
    assert logs.parse_filter(text) == (everything, single)


@pytest.mark.parametrize("text", ["loud", "restated=", "info,restated=loud", "=x"])
def test_a_filter_with_an_unknown_level_is_refused(text: str) -> None:
    """A misspelt level would silently log something else."""
    with pytest.raises(logs.BadFilterError):
        logs.parse_filter(text)


def test_a_level_below_the_filter_is_not_logged(stream: io.StringIO) -> None:
    """And a single logger may be louder."""
    logs.set_up("warn,restated.invoker=debug", "text", stream)
    logging.getLogger("restated.engine").info("quiet")
    logging.getLogger("restated.invoker").debug("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_a_place_that_repeats_itself_is_cut_off_and_counted(stream: io.StringIO) -> None:
    """M8: a flood of one message does not become a flood of lines."""
    logs.set_up("info", "text", stream)
    logger = logging.getLogger("restated.flood")
    handler = logging.getLogger().handlers[0]
    for second in [100.0] * 50 + [111.0]:
        record = logger.makeRecord("restated.flood", logging.INFO, "f.py", 1, "again", (), None)
        record.created = second
        handler.handle(record)
    lines = stream.getvalue().splitlines()
    assert len(lines) == logs.REPEATS_MAX + 1
    assert lines[-1].endswith(f'message="again suppressed_before={50 - logs.REPEATS_MAX}"')
