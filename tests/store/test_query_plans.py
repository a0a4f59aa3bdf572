"""Which queries of operators find their rows by an index. Source: sql_queries.json, M7."""

import json
import re
from pathlib import Path

from tests.store.querying import QueryWorld, run_queries

LISTED = json.loads((Path(__file__).parents[1] / "data/sql_queries.json").read_text())
BY_KEY = re.compile(r"FROM state\s+WHERE service_name = '\w+'\s+AND service_key (=|IN)")


def test_state_of_a_key_is_found_by_its_index(tmp_path: Path) -> None:
    """Every listed query for the state of one key, or of a few, with and without a scope."""
    queries = {entry["query"] for entry in LISTED if BY_KEY.search(entry["query"])}
    assert len(queries) > 10

    async def body(world: QueryWorld) -> None:
        for query in sorted(queries):
            plan = (await world.rows(f"EXPLAIN {query}"))[1]
            assert plan["plan_type"] == "physical_plan"
            assert "SEARCH t USING INDEX state_key (service=? AND key=?" in plan["plan"].replace(
                "COVERING ", ""
            ), query
            assert "SCAN" not in plan["plan"], query

    run_queries(body, tmp_path)
