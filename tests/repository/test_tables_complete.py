"""Every alternative stands in its table: nothing can be added and forgotten."""

import re

import pytest

from restated.core import commands, machine
from restated.core.effects import Effect
from restated.core.events import Event
from restated.engine.dispatch import EFFECTS
from restated.model import errors
from restated.model.records import ROWS, Row
from restated.protocol import messages
from restated.protocol import service_protocol_pb2 as pb
from restated.store.schema import create_statements
from tests.repository.tree import ROOT, modules, subclasses


def test_every_event_has_its_function() -> None:
    """design.md 4: `machine.HANDLERS`."""
    assert sorted(machine.HANDLERS, key=lambda event: event.__name__) == subclasses(Event)


def test_every_effect_can_be_routed() -> None:
    """The daemon refuses to start with one of these unrouted."""
    assert sorted(EFFECTS, key=lambda effect: effect.__name__) == subclasses(Effect)


def test_every_row_is_in_the_table_of_rows() -> None:
    """`ROWS` is what the store creates tables from."""
    assert sorted(ROWS, key=lambda row: row.__name__) == subclasses(Row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_a_row_has_a_table_of_its_name_and_its_key_among_its_fields(row: type[Row]) -> None:
    """A row's fields are its table's columns."""
    assert set(row.KEY) <= set(row.__struct_fields__)
    created = [text for text in create_statements() if f'"{row.TABLE}"' in text]
    assert created
    columns = set(row.__struct_fields__) - (set(row.KEY) if row.PACKED else set())
    assert [name for name in sorted(columns) if f'"{name}"' not in "".join(created)] == []


def test_every_command_that_a_service_sends_has_its_function() -> None:
    """`commands.COMMANDS`; what only the server sends is never received."""
    sent = {
        message.code
        for message in messages.MESSAGES
        if message.kind == "command" and message.sender != "server"
    }
    assert set(commands.COMMANDS) == sent


def test_every_generated_message_of_the_wire_has_a_type_code() -> None:
    """`messages.MESSAGES`: whatever ends in Message is framed."""
    framed = {message.body.DESCRIPTOR.name for message in messages.MESSAGES}
    generated = {name for name in pb.DESCRIPTOR.message_types_by_name if name.endswith("Message")}
    assert generated - framed == set()


def test_every_error_is_used() -> None:
    """An error nobody raises is documentation of nothing."""
    text = "".join(path.read_text() for path in modules() if path.name != "errors.py")
    members = [f"ErrorCode.{code.name}" for code in errors.ErrorCode]
    assert [member for member in members if not re.search(rf"\b{member}\b", text)] == []


def test_every_table_has_a_query_of_the_doctor() -> None:
    """reliability.md 3.8: structure is checked table by table."""
    doctor = (ROOT / "restated/store/doctor.sql").read_text()
    assert [row.TABLE for row in ROWS if not re.search(rf"\b{row.TABLE}\b", doctor)] == []
