"""What a filter by status says of the stored status, so that the index of open invocations is used.

Lives here: `narrow`, which adds what a filter implies.
Does not: how statuses are shown (views.py), what an index holds (schema.py).

Nearly all invocations of a file are completed, and the index `invocation_open` has the others.
SQLite takes it only where it can prove that no completed row is asked for: it knows nothing of
our statuses, and cannot see through the one that `sys_invocation` derives.
"""

from typing import Final

from sqlglot import exp

from restated.store.sql_typing import Scope
from restated.store.views import STORED_STATUS

_STORED: Final = {
    "pending": "inboxed", "scheduled": "scheduled", "ready": "invoked", "running": "invoked",
    "backing-off": "invoked", "suspended": "suspended", "paused": "paused",
    "completed": "completed",
}  # fmt: skip  # as sys_invocation shows them -> as they are stored

_TABLES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "sys_invocation": (STORED_STATUS, _STORED),
    "sys_invocation_status": ("status", {stored: stored for stored in _STORED.values()}),
}
"""Table -> (its column of the stored status, shown status -> stored one)."""

_Statuses = dict[str, frozenset[str]]  # name of a source -> shown statuses that its rows may have


def narrow(where: exp.Where, scope: Scope) -> None:
    """Add to a filter that no completed row is asked for, where that follows from it."""
    tables = {
        source.name: _TABLES[source.table] for source in scope.sources if source.table in _TABLES
    }
    every = {name: frozenset(vocabulary) for name, (_, vocabulary) in tables.items()}
    for name, shown in _possible(where.this, every).items():
        if "completed" in shown:
            continue
        column, vocabulary = tables[name]
        stored = exp.column(column, table=name, quoted=True)
        statuses = sorted({vocabulary.get(status, status) for status in shown})
        implied = exp.and_(
            exp.In(this=stored.copy(), expressions=[exp.Literal.string(s) for s in statuses]),
            exp.NEQ(this=stored.copy(), expression=exp.Literal.string("completed")),
        )
        where.set("this", exp.and_(exp.paren(where.this), implied))


def _possible(node: exp.Expression, every: _Statuses) -> _Statuses:
    """Statuses with which the condition can hold; of sources that it says nothing about, none."""
    match node:
        case exp.Paren():
            return _possible(node.this, every)
        case exp.And(this=left, expression=right):
            one, other = _possible(left, every), _possible(right, every)
            both = {name: one[name] & other[name] for name in one.keys() & other.keys()}
            return one | other | both
        case exp.Or(this=left, expression=right):
            one, other = _possible(left, every), _possible(right, every)
            return {name: one[name] | other[name] for name in one.keys() & other.keys()}
        case exp.EQ():
            return _compared(node.this, [node.expression], every)
        case exp.NEQ():
            return _others(_compared(node.this, [node.expression], every), every)
        case exp.In():
            return _compared(node.this, node.expressions, every)
        case exp.Not(this=exp.In() as inner):
            return _others(_compared(inner.this, inner.expressions, every), every)
        case _:
            return {}


def _compared(left: exp.Expression, values: list[exp.Expression], every: _Statuses) -> _Statuses:
    is_status = isinstance(left, exp.Column) and left.name == "status" and left.table in every
    if not (is_status and values and all(isinstance(v, exp.Literal) for v in values)):
        return {}
    assert isinstance(left, exp.Column)
    return {left.table: frozenset(value.name for value in values)}


def _others(statuses: _Statuses, every: _Statuses) -> _Statuses:
    return {name: every[name] - excluded for name, excluded in statuses.items()}
