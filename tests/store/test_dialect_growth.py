"""A form inside itself makes a statement grow by a sum, not by a factor.

A form that is written, or typed, twice for each of its operands doubles with every level: a short
text becomes gigabytes of SQL, or a planning that never ends.
"""

import pytest
from sqlglot import exp

from restated.store.dialect import plan_shape
from restated.store.sql_expressions import Expressions
from restated.store.sql_tables import SqlType
from restated.store.sql_typing import Scope

# The form before and behind its operand, and an innermost operand.
FORMS = [
    ("(-", ")", "retry_count"),
    ("(not ", ")", "true"),
    ("(", " + 1)", "retry_count"),
    ("(", " - retry_count)", "retry_count"),
    ("(1 + ", ")", "retry_count"),
    ("(", " % 2.5)", "1"),
    ("(", " / 2)", "1"),
    ("(", " ^ 1)", "1"),
    ("(", " + 1)", "18446744073709551615"),
    ("(", " + 1)", "current_date"),
    ("(current_date - (current_date + ", "))", "1"),
    ("(", " + interval '1 hour')", "created_at"),
    ("(", " + interval '1 month')", "created_at"),
    ("(", " - interval '1 month')", "now()"),
    ("date_bin(interval '1 hour', ", ")", "created_at"),
    ("date_bin(interval '1 hour', now(), ", ")", "now()"),
    ("date_trunc('hour', ", ")", "created_at"),
    ("to_timestamp(extract(epoch from ", "))", "created_at"),
    ("to_char(to_timestamp(", "), '%Y')", "'2020'"),
    ("cast(cast(", " as varchar) as timestamp)", "created_at"),
    ("(", "::text = 'true')", "true"),
    ("(", "::text like 'a')", "true"),
    ("(", "::text ilike 'a')", "true"),
    ("(", "::text::double)", "1.5"),
    ("(", " in (true, false))", "true"),
    ("(", " = any(make_array(true)))", "true"),
    ("(", " between true and true)", "true"),
    ("(", " is true)", "true"),
    ("(", " is distinct from true)", "true"),
    ("case when true then ", " else 1 end", "1"),
    ("case when ", " then true else false end", "true"),
    ("nvl2(1, 2, ", ")", "3"),
    ("nvl2(", ", 2, 3)", "1"),
    ("nullif(", ", 1)", "1"),
    ("greatest(", ", 1)", "1"),
    ("concat(", ", 'a')", "'a'"),
    ("array_append(", ", 1)", "make_array(1)"),
    ("make_array(", ")[1]", "1"),
    ("make_array(", ")[1]", "true"),
    ("make_array(", ")[1]::text", "true"),
    ("json_get(", ", 'a')", "'{}'"),
    ("(", "->'a')", "'{}'"),
    ("round(", ")", "1.5"),
    ("(select ", ")", "1"),
    ("exists (select 1 where ", ")", "true"),
    ("abs(", ")", "sum(1) filter (where true)"),
]


@pytest.mark.parametrize(("before", "behind", "innermost"), FORMS)
def test_a_form_inside_itself_grows_by_a_sum(before: str, behind: str, innermost: str) -> None:
    def written(depth: int) -> int:
        text = f"SELECT {before * depth}{innermost}{behind * depth} AS x FROM sys_invocation"
        return len(plan_shape(text).sql)

    a_level = written(3) - written(2)
    assert written(11) - written(3) <= 8 * a_level * 1.5


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "%", "||", "AND", "OR", "=", "^", "&"])
def test_each_operand_of_a_long_chain_is_typed_a_few_times(
    sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = 0
    type_of = Expressions.type_of

    def counting(self: Expressions, node: exp.Expression, scope: Scope) -> SqlType:
        nonlocal typed
        typed += 1
        return type_of(self, node, scope)

    monkeypatch.setattr(Expressions, "type_of", counting)
    operand = {"||": "'a'", "AND": "true", "OR": "true", "=": "true"}.get(sign, "1")
    plan_shape(f"SELECT {f' {sign} '.join([operand] * 16)} AS x")
    assert 0 < typed <= 16 * 4  # twice for every operand before it would be 65,536
