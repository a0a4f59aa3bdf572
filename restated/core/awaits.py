"""What a suspended invocation waits for: does it hold, and what of it is still open.

Lives here: evaluation of an Await over completions and signals, its stored form.
Does not: when it is asked (attempts.py at the suspension, notifications.py at each arrival).
Trees may be 1,000 levels deep: everything here walks with a stack, and the stored form is flat.
"""

from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from restated.core.view import View
from restated.model.records import (
    Await,
    Combinator,
    Completion,
    Entry,
    Invocation,
    Polarity,
    Record,
    SignalRow,
)
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb

Verdict = Literal["success", "failure", "undetermined"]
_Settled: TypeAlias = tuple[Verdict, int]  # how, and by which journal entry


class _Node(Record):
    """One tree node of the stored form; children stand before their parents."""

    combinator: Combinator
    on: tuple[str, ...]
    nested_count: int


def stored(awaiting: Await) -> bytes:
    """The form kept in `Invocation.awaiting_on`."""
    nodes = [
        _Node(await_.combinator, await_.on, len(await_.nested))
        for await_ in _children_first(awaiting)
    ]
    return msgspec.msgpack.encode(nodes)


def restored(kept: bytes) -> Await:
    """The tree of a stored form."""
    done: list[Await] = []
    for node in msgspec.msgpack.decode(kept, type=list[_Node]):
        first = len(done) - node.nested_count
        nested = tuple(done[first:])
        del done[first:]
        done.append(Await(node.combinator, node.on, nested))
    assert len(done) == 1, "a stored await is one tree"
    return done[0]


def leaves(awaiting: Await) -> list[str]:
    """Every name in the tree, in the order of a walk with children first."""
    return [name for await_ in _children_first(awaiting) for name in await_.on]


def evaluate(view: View, invocation: Invocation, awaiting: Await) -> tuple[Verdict | None, Await]:
    """Whether an await holds (None: not yet), and what of it is still open.

    Reads on the leaves; entries are walked only from the floor to a signal that nobody has read.
    Combinators: service-protocol.md 4.6.
    """
    done: list[tuple[_Settled | None, Await]] = []
    for await_ in _children_first(awaiting):
        first = len(done) - len(await_.nested)
        children = done[first:]
        del done[first:]
        done.append(_evaluate_node(view, invocation, await_, children))
    settled, rest = done[0]
    return None if settled is None else settled[0], rest


def signal_of(entry: Entry) -> tuple[str, Polarity]:
    """The name, as in Await, and the polarity of a stored signal."""
    message = pb.NotificationMessage.FromString(entry.payload)
    name = f"s{message.idx}" if message.HasField("idx") else f"n:{message.name}"
    return name, "failure" if message.HasField("failure") else "success"


def _evaluate_node(
    view: View,
    invocation: Invocation,
    awaiting: Await,
    children: list[tuple[_Settled | None, Await]],
) -> tuple[_Settled | None, Await]:
    done: list[_Settled] = []
    open_leaves: list[str] = []
    for name in awaiting.on:
        settled = _leaf(view, invocation, name)
        if settled is None:
            open_leaves.append(name)
        else:
            done.append(settled)
    done += [settled for settled, _ in children if settled is not None]
    open_nested = tuple(rest for settled, rest in children if settled is None)
    rest = replace(awaiting, on=tuple(open_leaves), nested=open_nested)
    return _combine(awaiting.combinator, done, is_all=not open_leaves and not open_nested), rest


def _combine(combinator: Combinator, done: list[_Settled], *, is_all: bool) -> _Settled | None:
    """What settled children make of their node, as the handler sees it: in journal order."""
    earliest = min(done, key=_place, default=None)
    latest = max(map(_place, done), default=0)
    match combinator:
        case "unknown":
            return None if earliest is None else ("undetermined", earliest[1])
        case "first_completed":
            return earliest
        case "all_completed":
            return ("success", latest) if is_all else None
        case "first_succeeded":
            decisive: Verdict = "success"
            otherwise: Verdict = "failure"
        case "all_succeeded":
            decisive, otherwise = "failure", "success"
    for verdict in (decisive, "undetermined"):
        found = [settled for settled in done if settled[0] == verdict]
        if found:
            return min(found, key=_place)
    return (otherwise, latest) if is_all else None


def _place(settled: _Settled) -> int:
    return settled[1]


def _leaf(view: View, invocation: Invocation, name: str) -> _Settled | None:
    if not name.startswith("c"):
        return _unread_signal(view, invocation, name)
    completion = view.get(Completion, invocation.number, int(name[1:]))
    if completion is None or completion.entry_index is None or completion.polarity is None:
        return None
    return completion.polarity, completion.entry_index


def _unread_signal(view: View, invocation: Invocation, name: str) -> _Settled | None:
    """The oldest entry of a signal that the suspended attempt had not replayed: the handler goes
    on with that one, whatever came behind it.
    """
    floor = invocation.awaiting_floor or 0
    newest = view.get(SignalRow, invocation.number, name)
    if newest is None or newest.entry_index < floor:
        return None
    for entry in view.scan(Entry, invocation.number, after=floor - 1 if floor else None):
        if entry.type == messages.SIGNAL_NOTIFICATION:
            found, polarity = signal_of(entry)
            if found == name:
                return polarity, entry.index
    raise AssertionError("B4: a signal row names a stored entry")


def _children_first(awaiting: Await) -> list[Await]:
    found: list[Await] = []
    stack = [awaiting]
    while stack:
        await_ = stack.pop()
        found.append(await_)
        stack.extend(await_.nested)
    found.reverse()
    return found
