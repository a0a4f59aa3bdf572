"""Recorded sessions of the official CLI, and what of their output must be equal.

Lives here: the recording, what its ids stand for, `comparable`.
Does not: running the CLI (test_official_cli.py).
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

RECORDED_PATH: Final = Path(__file__).parents[2] / "data" / "cli_sessions.json"
FORGOTTEN: Final = "inv_1kUxJ2cUzZXQ2oszvJhS2wFLtyb3fo3Fn4"
_ALL: Final = "invocations list --all"
_DEPLOYMENTS: Final = "deployments list"
_ID: Final = r"(?:inv|dp)_\w+"
_SPAN: Final = r"\d+ (?:day|hour|minute|second|ms)s?"


class Session(msgspec.Struct, frozen=True):
    """One command, its exit status and what it printed."""

    command: str
    exit: int
    stdout: str
    stderr: str


def recorded() -> list[Session]:
    """All of them, in the order in which they ran."""
    return msgspec.json.decode(RECORDED_PATH.read_bytes(), type=list[Session])


def output_of(sessions: list[Session], command: str) -> str:
    """The standard output of the first session with that command."""
    return next(one.stdout for one in sessions if one.command == command)


def names_of_ids(invocations: str, deployments: str) -> dict[str, str]:
    """What ids stand for: targets numbered by age, and addresses.

    The texts are what `invocations list --all` and `deployments list` print.
    """
    found = re.findall(r"\] (inv_\w+)\s+Target:\s+(\S+)", invocations)
    seen: Counter[str] = Counter()
    names: dict[str, str] = {}
    for invocation_id, target in reversed(found):
        seen[target] += 1
        names[invocation_id] = f"<{target} {seen[target]}>"
    for address, deployment_id in re.findall(r"(http\S+)\s+HTTP\s+(dp_\w+)", deployments):
        names[deployment_id] = f"<deployment {_path_of(address)}>"
    return names


def names_in(sessions: list[Session]) -> dict[str, str]:
    """What the ids of the recording stand for."""
    names = names_of_ids(output_of(sessions, _ALL), output_of(sessions, _DEPLOYMENTS))
    return names | {FORGOTTEN: "<forgotten>"}


def _path_of(address: str) -> str:
    return "/" + address.split("/", 3)[3]


# What differs between any two runs, and what stands for it.
_VARYING: Final = (
    (r"\x1b\[[\d;]*m|\[(?:\d+;)*\d+m", ""),
    (r"127\.0\.0\.1:\d{2,}", "<address>"),
    (r"\w{3} \d\d? \w{3} \d{4} [\d:]{8} \+00:00", "<time>"),
    (r"\d{4}-\d\d-\d\d [\d:.]+ \+00:00", "<time>"),
    (rf"{_SPAN}(?:(?:,| and) {_SPAN})*", "<span>"),
    (r"\bnow ago\b", "<span> ago"),
    (r"took [\d.]+\w+", "took <span>"),
    (r"Retried \d+ time", "Retried <n> time"),
    (r"Idempotency key: +\S+", "Idempotency key: <key>"),
    (r'File "[^"]+", line \d+', 'File "<path>", line <n>'),
    (r"\((?:exists|does not exist)\)", "(<exists>)"),
    (r"(Config Dir|Environment File|Config File) +.+ \(", r"\1 <path> ("),
    (r" Target +[\w-]+linux[\w-]*", " Target <platform>"),
    (r"[ →↓↗]*[→↓↗]", ""),  # the logo
    (r"\[\w+(?:, \w+)+\] *$", "[<keys>]"),
    # Decided otherwise: a wrong query is the client's mistake.
    (r"(?:500 Internal Server Error|400 Bad Request)(?= at '\S+/v4/query')", "<refused>"),
    # Of what a parser does not understand it tells in its own words.
    (r"ParserError\(.*", "ParserError"),
    (r"Available clusters: .*", "Available clusters: <clusters>"),  # in no order there
    (r"\(version v\d+\)", "(version <n>)"),
    (r"( no +)\d+( +<time>)", r"\1<n>\2"),
    # Of several completed invocations of a key any may be shown.
    (r"\S+( \S+)? \(completed\) +\w+", "(completed)"),
    (r"[─―]{2,}", "--"),
)
# Rows continue in the next line: the first continuation stands in the row itself.
_CONTINUED: Final = (
    (r"(?m)^(.*\S.*?) (- \w+ \[\d+\]) *$", r"\1\n \2"),
    (r"(?m)(\[\w+\] .* http://\S+) +(\w+) *$", r"\1\n\2"),
)
# Titles, headers and rows that continue begin a paragraph; titles and headers are one.
_ALONE: Final = re.compile(r"^(?:[A-Z][A-Z-]+(?: [A-Z-]+)+|[^a-z]*[A-Z]\w*(?: \w+)*:|--)$")
_BEGINS: Final = re.compile(r"^(?:http://|\[\w+\] )")
_KEYS_SHOWN: Final = re.compile(r"^(?:V1|V2|A1|Q1|Ann|Bob|Bob-neighbour) \d ")


def comparable(text: str, names: Mapping[str, str]) -> list[list[str]]:
    """Paragraphs of lines, both sorted: the reference lists much in the order of a hash table."""
    for invocation_id, name in names.items():
        text = text.replace(invocation_id, name)
    text = re.sub(_ID, "<id>", text)
    for pattern, replacement in (*_VARYING, *_CONTINUED):
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    paragraphs: list[list[str]] = [[]]
    for line in text.splitlines():
        words = " ".join(line.split())
        if not words:
            paragraphs.append([])
        elif _ALONE.match(words) is not None:
            paragraphs += [[words], []]
        elif _BEGINS.match(words) is not None:
            paragraphs.append([words])
        elif _KEYS_SHOWN.match(words) is None:  # any five of the keys are shown
            paragraphs[-1].append(words)
    return sorted(sorted(lines) for lines in paragraphs if lines)


def translated(command: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """A recorded command with our ids in place of the recorded ones."""
    by_name = {name: invocation_id for invocation_id, name in ours.items()}
    return re.sub(_ID, lambda found: by_name[theirs[found[0]]], command)
