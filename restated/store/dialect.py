"""From the SQL of clients (DataFusion's) to one SELECT of SQLite, with its columns' types.

Lives here: `plan`, statements and their clauses, tables and their columns, names of unnamed
columns, the cache of plans by the shape of the text.
Does not: expressions (sql_expressions.py), running anything (query_child.py).

Every statement goes through here, also plain ones. Two reasons: SQLite's values carry too few
types (a boolean is an integer, a time too), so an answer needs the types of its columns; and a text
that was taken apart, checked against tables of what is allowed and written anew cannot contain
what the tables do not list (Z2). The cost is paid once for each shape: texts that differ only in
compared strings share a plan.
"""

import re
import threading
from collections import OrderedDict
from typing import Final

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.transforms import eliminate_semi_and_anti_joins

from restated.model.ids import IdError, parse_invocation_id
from restated.model.records import Record
from restated.store import sql_aggregates
from restated.store.sql_calls import ELEMENTS
from restated.store.sql_columns import check_distinct, renamed, write_stars
from restated.store.sql_expressions import Expressions
from restated.store.sql_names import display_name
from restated.store.sql_queries import (
    coerce_side,
    is_bounded,
    kept_qualifier,
    of_columns,
    write_natural,
)
from restated.store.sql_rewriting import (
    UNNESTED,
    chosen_rows,
    derived_list,
    first_of_each,
    projected,
    rows_of_list,
    unnested,
)
from restated.store.sql_shape import named, shape_of
from restated.store.sql_statements import parse, written_out
from restated.store.sql_statuses import narrow
from restated.store.sql_tables import INFORMATION_SCHEMA, LIST_TABLE, TABLES, SqlColumn, SqlType
from restated.store.sql_typing import (
    UNNAMED_PREFIX,
    Scope,
    Source,
    SqlError,
    folded,
    only_parts,
    unify,
)
from restated.store.views import VIEW_PREFIX, view_name

TEXT_CHARACTERS_MAX: Final = 1_048_576
PLANS_MAX: Final = 512
TABLES_MAX: Final = 32  # in one statement; SQLite joins 64

LIVE_TABLES: Final = frozenset({"sys_invocation", "sys_invocation_state"})


class Plan(Record):
    """A statement ready to run. `ids` are parameters that must be invocation ids."""

    sql: str
    columns: tuple[SqlColumn, ...]
    ids: tuple[str, ...]
    reads_live: bool
    explains: bool = False


class Bound(Record):
    """A plan with the strings of one text."""

    plan: Plan
    columns: tuple[SqlColumn, ...]
    parameters: dict[str, str]


class Planner:
    """Plans by shape; the least recently used one goes first."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._lock = threading.Lock()  # the query child's threads share one

    def plan(self, text: str) -> Bound:
        """The plan of a statement and its parameters; SqlError when it is refused."""
        if len(text) > TEXT_CHARACTERS_MAX:
            msg = f"SQL error: the statement is longer than {TEXT_CHARACTERS_MAX} characters"
            raise SqlError(msg)
        shape, parameters = shape_of(text)
        with self._lock:
            found = self._plans.get(shape)
            if found is not None:
                self._plans.move_to_end(shape)
        if found is None:
            found = plan_shape(shape)
            with self._lock:
                self._plans[shape] = found
                while len(self._plans) > PLANS_MAX:
                    self._plans.popitem(last=False)
        for name in found.ids:
            try:
                parse_invocation_id(parameters[name])
            except IdError:
                msg = "External error: non valid invocation id"
                raise SqlError(msg) from None
        return Bound(found, named(found.columns, parameters), parameters)


# -- statements

_EXPLAIN: Final = re.compile(r"explain\s+(?:analyze\s+)?(?:verbose\s+)?", re.IGNORECASE)
_EXPLAINED: Final = (SqlColumn("plan_type", "text"), SqlColumn("plan", "text"))


def plan_shape(shape: str) -> Plan:
    """Plan a text whose compared strings are `:s0`, `:s1`, ..."""
    explained = _EXPLAIN.match(shape)
    if explained is not None:
        plan = _plan_query(shape[explained.end() :])
        return Plan(plan.sql, _EXPLAINED, plan.ids, plan.reads_live, explains=True)
    return _plan_query(written_out(shape))


def _plan_query(text: str) -> Plan:
    try:
        return _Statement().plan(parse(text))
    except SqlglotError as error:
        reason = str(error).splitlines()[0].replace("\x1b[4m", "").replace("\x1b[0m", "")
        raise SqlError(f'SQL error: ParserError("{reason}")') from None
    except RecursionError:
        msg = "SQL error: RecursionLimitExceeded: the statement is nested too deeply"
        raise SqlError(msg) from None


_SELECT_PARTS: Final = frozenset({
    "with_", "expressions", "from_", "joins", "where", "group", "having", "order", "limit",
    "offset", "distinct", "windows", "qualify",
})  # fmt: skip
_TABLE_PARTS: Final = frozenset({"this", "alias", "db", "catalog", "joins"})
_QUERY_PARTS: Final = frozenset({
    "this", "expression", "distinct", "alias", "with_", "joins", "order", "limit", "offset",
})  # fmt: skip
_JOIN_PARTS: Final = frozenset({"this", "on", "using", "side", "kind", "method"})
_VALUES_PARTS: Final = frozenset({"expressions", "alias"})


class _Statement:
    """One statement on its way; typed and rewritten in place."""

    def __init__(self) -> None:
        self._expressions = Expressions(self._query)
        self._tables: set[str] = set()
        self._ctes: set[str] = set()
        self._table_count = 0

    def plan(self, tree: exp.Expression) -> Plan:
        root = exp.Subquery(this=tree)
        columns = self._query(tree, Scope(None, {}))
        self._check_tables(root)
        sql = root.this.sql(dialect="sqlite", identify=True, comments=False)
        ids = tuple(dict.fromkeys(self._expressions.invocation_ids))
        return Plan(sql, columns, ids, bool(self._tables & LIVE_TABLES))

    def _check_tables(self, root: exp.Expression) -> None:
        """Nothing is read but our views and the statement's own queries, wherever it stands."""
        for table in root.find_all(exp.Table):
            if isinstance(table.this, exp.Anonymous) and table.this.name == LIST_TABLE:
                continue
            if not (table.name.startswith(VIEW_PREFIX) or table.name in self._ctes):
                raise SqlError(f"Error during planning: table '{table.name}' not found")

    def _query(self, node: exp.Expression, outer: Scope) -> tuple[SqlColumn, ...]:
        """The columns of a query; `outer` is where it stands."""
        match node:
            case exp.Select():
                return self._select(node, outer)
            case exp.SetOperation():
                return self._set_operation(node, outer)
            case exp.Subquery():
                return self._parenthesised(node, outer)
            case exp.Values():
                return self._values(node, outer)
            case _:
                msg = f"This feature is not implemented: {type(node).__name__} as a query"
                raise SqlError(msg)

    def _parenthesised(self, node: exp.Subquery, outer: Scope) -> tuple[SqlColumn, ...]:
        only_parts(node, _QUERY_PARTS)
        scope = self._with(node, outer)
        columns = self._query(node.this, scope)
        self._order(node, of_columns(outer, columns))
        return columns

    def _with(self, node: exp.Expression, outer: Scope) -> Scope:
        """A scope inside `outer` in which the node's common table expressions are known."""
        scope = Scope(outer, dict(outer.ctes))
        with_ = node.args.get("with_")
        if with_ is None:
            return scope
        for cte in with_.expressions:
            name = folded(cte.args["alias"].this)
            _check_name(name)
            self._ctes.add(name)
            inner = Scope(outer, scope.ctes)
            query = cte.this
            if with_.args.get("recursive") and isinstance(query, exp.SetOperation):
                first = self._query(query.this.copy(), inner)
                inner.ctes[name] = renamed(first, cte.args["alias"])
            scope.ctes[name] = renamed(self._query(query, inner), cte.args["alias"])
        return scope

    # -- SELECT

    def _select(self, node: exp.Select, outer: Scope) -> tuple[SqlColumn, ...]:
        only_parts(node, _SELECT_PARTS)
        eliminate_semi_and_anti_joins(node)
        scope = self._with(node, outer)
        from_ = node.args.get("from_")
        if from_ is not None:
            self._source(from_.this, scope)
            for join in node.args.get("joins") or []:
                self._join(join, scope)
        where = node.args.get("where")
        if where is not None:
            self._expressions.condition(where.this, scope)
            narrow(where, scope)
        self._unnest(node, scope)
        for window in node.args.get("windows") or []:
            sql_aggregates.type_definition(self._expressions.type_of, window, scope)
        columns = self._projections(node, scope)
        for column in columns:
            scope.aliases.setdefault(column.name, column.type)
        self._group(node, scope)
        self._order(node, scope)
        self._choose(node, columns, scope)
        return columns

    def _unnest(self, node: exp.Select, scope: Scope) -> None:
        listed = unnested(node, lambda call: display_name(call, scope))
        if listed is None:
            return
        holder = exp.Paren(this=listed)
        column = SqlColumn("value", self._element_type(holder.this, scope))
        table = rows_of_list(holder.this, UNNESTED)
        if node.args.get("from_") is None:
            node.set("from_", exp.From(this=table))
        else:
            node.append("joins", exp.Join(this=table, kind="CROSS"))
        scope.sources.append(Source(UNNESTED, (column,), is_hidden=True))

    def _element_type(self, node: exp.Expression, scope: Scope) -> SqlType:
        have = self._expressions.type_of(node, scope)
        if have not in ELEMENTS:
            msg = f"Error during planning: unnest() can only be applied to array, not {have}"
            raise SqlError(msg)
        return ELEMENTS[have]

    def _choose(self, node: exp.Select, columns: tuple[SqlColumn, ...], scope: Scope) -> None:
        """DISTINCT ON and QUALIFY, whose conditions are windows: around what is typed already."""
        distinct, qualify = node.args.get("distinct"), node.args.get("qualify")
        on = distinct.args.get("on") if distinct is not None else None
        if qualify is not None:
            self._expressions.condition(qualify.this, scope)
            bare = [one.this if isinstance(one, exp.Alias) else one for one in node.expressions]
            for column in list(qualify.find_all(exp.Column)):
                column.replace(projected(column, columns, bare).copy())
            chosen_rows(node, columns, qualify.this)
        if on is not None:
            for key in list(on.expressions):
                self._expressions.type_of(key, scope)
            chosen_rows(node, columns, first_of_each(node, columns, list(on.expressions)))

    def _projections(self, node: exp.Select, scope: Scope) -> tuple[SqlColumn, ...]:
        columns: list[SqlColumn] = []
        if not node.expressions:
            raise SqlError('SQL error: ParserError("Expected: an expression, found: nothing")')
        has_star = write_stars(node, scope)
        for projection in list(node.expressions):
            name = display_name(projection, scope)
            _check_name(name)
            position = node.expressions.index(projection)
            kind = self._expressions.type_of(projection, scope)
            current = node.expressions[position]
            if isinstance(current, exp.Alias):
                current.set("alias", exp.to_identifier(name, quoted=True))
            columns.append(SqlColumn(name, kind))
        if not has_star:
            check_distinct(columns, node.expressions)
        return tuple(columns)

    def _group(self, node: exp.Select, scope: Scope) -> None:
        group = node.args.get("group")
        if group is not None:
            if any(value for key, value in group.args.items() if key != "expressions"):
                msg = "This feature is not implemented: GROUPING SETS, ROLLUP, CUBE, ALL"
                raise SqlError(msg)
            for expression in list(group.expressions):
                self._expressions.type_of(expression, scope)
        having = node.args.get("having")
        if having is not None:
            self._expressions.condition(having.this, scope)

    def _order(self, node: exp.Expression, scope: Scope) -> None:
        order = node.args.get("order")
        for ordered in order.expressions if order is not None else []:
            self._expressions.type_of(ordered.this, scope)
        for key in ("limit", "offset"):
            bound = node.args.get(key)
            if bound is None:
                continue
            if isinstance(bound.expression, exp.Var) and bound.expression.name.upper() == "ALL":
                node.set(key, None)
                continue
            if isinstance(bound, exp.Fetch):
                msg = "This feature is not implemented: FETCH; use LIMIT"
                raise SqlError(msg)
            if self._expressions.type_of(bound.expression, Scope(None, {})) != "i64":
                msg = f"Error during planning: {key.upper()} needs a number"
                raise SqlError(msg)

    # -- FROM

    def _join(self, join: exp.Join, scope: Scope) -> None:
        only_parts(join, _JOIN_PARTS)
        kind = str(join.args.get("kind") or "").upper()
        if kind not in {"", "INNER", "OUTER", "CROSS"}:
            msg = f"This feature is not implemented: {kind} JOIN"
            raise SqlError(msg)
        before = {column.name for source in scope.sources for column in source.columns}
        self._source(join.this, scope)
        on = join.args.get("on")
        if on is not None:
            self._expressions.condition(on, scope)
        write_natural(join, before, scope.sources[-1].columns)
        shared = [folded(identifier) for identifier in join.args.get("using") or []]
        for name in shared:
            if scope.find(name, "") is None:
                msg = f"Schema error: No field named {name}."
                raise SqlError(msg)
        scope.sources[-1].shared = frozenset(shared)

    def _source(self, node: exp.Expression, scope: Scope) -> None:
        """One thing in FROM: its columns join the scope, a table is replaced by its view."""
        self._table_count += 1
        if self._table_count > TABLES_MAX:
            msg = f"Resources exhausted: more than {TABLES_MAX} tables in one statement"
            raise SqlError(msg)
        match node:
            case exp.Unnest():
                self._list(node, scope)
            case exp.Table() if isinstance(node.this, exp.Anonymous):
                self._list(node, scope)
            case exp.Table():
                self._table(node, scope)
            case exp.Subquery():
                only_parts(node, _QUERY_PARTS)
                self._derived(node, scope)
            case exp.Values():
                inner = exp.Subquery(this=node.copy(), alias=node.args.get("alias"))
                inner.this.set("alias", None)
                node.replace(inner)
                self._derived(inner, scope)
            case _:
                msg = f"This feature is not implemented: {type(node).__name__} in FROM"
                raise SqlError(msg)
        for join in node.args.get("joins") or []:
            self._join(join, scope)

    def _list(self, node: exp.Expression, scope: Scope) -> None:
        """UNNEST of a list, or a series of numbers: one column."""
        is_series = isinstance(node, exp.Table)
        if is_series and node.this.name.lower() not in {"generate_series", "range"}:
            msg = f"Error during planning: table function '{node.this.name}' not found"
            raise SqlError(msg)
        given = [node.this] if is_series else list(node.expressions)
        alias = node.args.get("alias")
        names = [folded(name) for name in (alias.args.get("columns") or [])] if alias else []
        if len(given) != 1 or len(names) > 1 or node.args.get("offset"):
            msg = "This feature is not implemented: UNNEST of more than one list"
            raise SqlError(msg)
        holder = exp.Paren(this=given[0].copy())
        kind = self._element_type(holder.this, Scope(None, {}))
        shown = folded(alias.this) if alias is not None else f"{UNNAMED_PREFIX}{self._table_count}"
        if alias is not None:
            _check_name(shown)
        name = names[0] if names else "value"
        node.replace(derived_list(holder.this, name, shown))
        scope.sources.append(Source(shown, (SqlColumn(name, kind),)))

    def _table(self, node: exp.Table, scope: Scope) -> None:
        only_parts(node, _TABLE_PARTS)
        name, schema = folded(node.this), folded(node.args.get("db"))
        catalog = folded(node.args.get("catalog"))
        alias = node.args.get("alias")
        shown = folded(alias.this) if alias is not None else name
        _check_name(shown)
        if not schema and name in scope.ctes:
            node.this.replace(exp.to_identifier(name, quoted=True))
            scope.sources.append(Source(shown, renamed(scope.ctes[name], alias)))
            return
        schema = schema or "public"
        tables = {"public": TABLES, "information_schema": INFORMATION_SCHEMA}.get(schema, {})
        if name not in tables or catalog not in {"", "restate"}:
            full = f"{catalog or 'restate'}.{schema}.{name}"
            raise SqlError(f"Error during planning: table '{full}' not found")
        if alias is not None and alias.args.get("columns"):
            msg = "This feature is not implemented: names of columns behind a table's alias"
            raise SqlError(msg)
        self._tables.add(name)
        node.set("db", None)
        node.set("catalog", None)
        node.set("this", exp.to_identifier(view_name(name, schema), quoted=True))
        node.set("alias", exp.TableAlias(this=exp.to_identifier(shown, quoted=True)))
        scope.sources.append(Source(shown, tables[name], name))

    def _derived(self, node: exp.Subquery, scope: Scope) -> None:
        """A query in FROM. Columns named behind its alias are named inside: SQLite has no such."""
        inner = Scope(scope.parent, scope.ctes)
        columns = self._query(node.this, inner)
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            new_columns = renamed(columns, alias)
            wrapped = exp.Select(
                expressions=[
                    exp.alias_(exp.column(old.name, quoted=True), new.name, quoted=True)
                    for old, new in zip(columns, new_columns, strict=True)
                ],
            ).from_(exp.Subquery(this=node.this.copy()))
            node.set("this", wrapped)
            alias.set("columns", None)
            columns = new_columns
        shown = folded(alias.this) if alias is not None and alias.this else ""
        if not shown:  # SQLite needs a name to qualify columns with
            shown = kept_qualifier(node) or f"{UNNAMED_PREFIX}{self._table_count}"
            node.set("alias", exp.TableAlias(this=exp.to_identifier(shown, quoted=True)))
        else:
            _check_name(shown)
        scope.sources.append(Source(shown, columns))

    # -- VALUES, UNION

    def _values(self, node: exp.Values, outer: Scope) -> tuple[SqlColumn, ...]:
        only_parts(node, _VALUES_PARTS)
        rows = node.expressions
        width = len(rows[0].expressions)
        types: list[SqlType] = ["null"] * width
        for row in rows:
            if len(row.expressions) != width:
                msg = "Error during planning: Inconsistent data length across values list"
                raise SqlError(msg)
            kinds = [self._expressions.type_of(cell, outer) for cell in list(row.expressions)]
            types = [unify(old, new) for old, new in zip(types, kinds, strict=True)]
        return tuple(SqlColumn(f"column{index + 1}", kind) for index, kind in enumerate(types))

    def _set_operation(self, node: exp.SetOperation, outer: Scope) -> tuple[SqlColumn, ...]:
        only_parts(node, _QUERY_PARTS)
        if not isinstance(node, exp.Union) and node.args.get("distinct") is False:
            msg = "This feature is not implemented: INTERSECT ALL, EXCEPT ALL"
            raise SqlError(msg)
        scope = self._with(node, outer)
        sides: list[tuple[SqlColumn, ...]] = []
        for key in ("this", "expression"):
            side = node.args[key]
            if not isinstance(side, exp.Select | exp.SetOperation) or is_bounded(side):
                inner = side.this if isinstance(side, exp.Subquery) else side
                # SQLite takes no parentheses around a part of a compound.
                side = exp.Select(expressions=[exp.Star()]).from_(exp.Subquery(this=inner.copy()))
                node.set(key, side)
            sides.append(self._query(side, scope))
        left, right = sides
        if len(left) != len(right):
            msg = (
                "Error during planning: UNION queries have different number of columns: left has"
                f" {len(left)} columns whereas right has {len(right)} columns"
            )
            raise SqlError(msg)
        columns = tuple(
            SqlColumn(one.name, unify(one.type, other.type))
            for one, other in zip(left, right, strict=True)
        )
        for side, have in zip(("this", "expression"), sides, strict=True):
            coerce_side(node.args[side], have, columns)
        self._order(node, of_columns(outer, columns))
        return columns


def _check_name(name: str) -> None:
    """Names of our views are ours: the authorizer trusts them."""
    if name.startswith((VIEW_PREFIX, UNNAMED_PREFIX)):
        msg = f"Error during planning: names must not start with '{VIEW_PREFIX}'"
        raise SqlError(msg)
