"""What a suspended invocation waits for: does it hold, and what of it is still open.

Lives here: evaluation of an Await over completions and signals, its stored form.
Does not: when it is asked (attempts.py at the suspension, notifications.py at each arrival).
Trees may be 1,000 levels deep: everything here walks with a stack, and the stored form is flat.
"""

from typing import Literal

import msgspec
from msgspec.structs import replace

from restated.core.view import View
from restated.model.records import Await, Combinator, Completion, Invocation, Record, SignalRow

Verdict = Literal["success", "failure", "undetermined"]


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

    Point reads on the leaves, never a scan. Combinators: service-protocol.md 4.6.
    """
    done: list[tuple[Verdict | None, Await]] = []
    for await_ in _children_first(awaiting):
        first = len(done) - len(await_.nested)
        children = done[first:]
        del done[first:]
        done.append(_evaluate_node(view, invocation, await_, children))
    return done[0]


def _evaluate_node(
    view: View,
    invocation: Invocation,
    awaiting: Await,
    children: list[tuple[Verdict | None, Await]],
) -> tuple[Verdict | None, Await]:
    verdicts: list[Verdict] = []
    open_leaves: list[str] = []
    for name in awaiting.on:
        verdict = _leaf(view, invocation, name)
        if verdict is None:
            open_leaves.append(name)
        else:
            verdicts.append(verdict)
    verdicts += [verdict for verdict, _ in children if verdict is not None]
    open_nested = tuple(rest for verdict, rest in children if verdict is None)
    rest = replace(awaiting, on=tuple(open_leaves), nested=open_nested)
    is_all = not open_leaves and not open_nested
    return _combine(awaiting.combinator, verdicts, is_all=is_all), rest


def _combine(combinator: Combinator, verdicts: list[Verdict], *, is_all: bool) -> Verdict | None:
    match combinator:
        case "unknown":
            return "undetermined" if verdicts else None
        case "first_completed":
            return verdicts[0] if verdicts else None
        case "all_completed":
            return "success" if is_all else None
        case "first_succeeded":
            decisive: Verdict = "success"
            otherwise: Verdict = "failure"
        case "all_succeeded":
            decisive, otherwise = "failure", "success"
    if decisive in verdicts:
        return decisive
    if "undetermined" in verdicts:
        return "undetermined"
    return otherwise if is_all else None


def _leaf(view: View, invocation: Invocation, name: str) -> Verdict | None:
    if name.startswith("c"):
        completion = view.get(Completion, invocation.number, int(name[1:]))
        return None if completion is None else completion.polarity
    signal = view.get(SignalRow, invocation.number, name)
    if signal is None or signal.entry_index < (invocation.awaiting_floor or 0):
        return None
    return signal.polarity


def _children_first(awaiting: Await) -> list[Await]:
    found: list[Await] = []
    stack = [awaiting]
    while stack:
        await_ = stack.pop()
        found.append(await_)
        stack.extend(await_.nested)
    found.reverse()
    return found
