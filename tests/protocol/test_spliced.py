"""Splicing says byte for byte what the generated classes say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.protocol import service_protocol_pb2 as pb
from restated.protocol.spliced import around, hollow, inside

VALUES = st.binary(max_size=300) | st.integers(120, 70_000).map(bytes)


@given(VALUES, st.lists(st.tuples(st.text(max_size=5), st.text(max_size=200)), max_size=3))
def test_input_is_what_protobuf_writes(value: bytes, headers: list[tuple[str, str]]) -> None:
    """service-protocol.md 3: one form of each entry."""
    pairs = [pb.Header(key=key, value=text) for key, text in headers]
    prefix = pb.InputCommandMessage(headers=pairs).SerializeToString()
    whole = pb.InputCommandMessage(headers=pairs, value=pb.Value(content=value))
    assert around(prefix, (14, 1), value) == whole.SerializeToString()


@given(VALUES, st.integers(0, 2**32 - 1))
def test_completion_is_what_protobuf_writes(value: bytes, completion_id: int) -> None:
    """service-protocol.md 3: one form of each entry."""
    prefix = pb.NotificationMessage(completion_id=completion_id).SerializeToString()
    whole = pb.NotificationMessage(completion_id=completion_id, value=pb.Value(content=value))
    assert around(prefix, (5, 1), value) == whole.SerializeToString()


@given(VALUES.filter(bool), st.text(max_size=20))
def test_value_of_an_output_is_found(value: bytes, name: str) -> None:
    """M3: without another copy of the rest."""
    output = pb.OutputCommandMessage(name=name, value=pb.Value(content=value))
    assert inside(output.SerializeToString(), (14, 1)) == value


@given(VALUES, st.integers(0, 2**32 - 1))
def test_value_of_a_proposal_is_found_and_left_out(value: bytes, completion_id: int) -> None:
    """M3: protobuf reads the rest without a copy of the value."""
    proposal = pb.ProposeRunCompletionMessage(result_completion_id=completion_id, value=value)
    empty = pb.ProposeRunCompletionMessage(result_completion_id=completion_id, value=b"")
    assert inside(proposal.SerializeToString(), (14,)) == value
    assert hollow(proposal.SerializeToString(), (14,)) == empty.SerializeToString()


FIELDS = st.lists(
    st.sampled_from([
        pb.OutputCommandMessage(value=pb.Value(content=b"some")).SerializeToString(),
        pb.OutputCommandMessage(value=pb.Value(content=bytes(200))).SerializeToString(),
        b"\x72\x84\x00\x0a\x02hi",  # a size with a needless byte
        pb.OutputCommandMessage(failure=pb.Failure(code=5)).SerializeToString(),
        pb.OutputCommandMessage(name="name").SerializeToString(),
        b"\x08\x07",  # unknown fields: a number, bytes, four bytes, field 0
        b"\x12\x02\x08\x07",
        b"\x1d\x01\x02\x03\x04",
        b"\x02\x00",
    ]),
    max_size=5,
).map(b"".join) | st.binary(max_size=40)  # fmt: skip


@given(FIELDS)
def test_hollow_body_says_all_but_the_value(body: bytes) -> None:
    """B10: what protobuf refuses is refused, what it reads is read, but for the one value."""
    rest = hollow(body, (14, 1))
    assert (rest is None) == (inside(body, (14, 1)) is None)
    if rest is not None:
        read = pb.OutputCommandMessage.FromString(rest)
        assert not read.value.content
        if read.HasField("value"):
            read.value.content = inside(body, (14, 1)) or b""
        assert read == pb.OutputCommandMessage.FromString(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        pb.OutputCommandMessage(value=pb.Value()).SerializeToString(),
        pb.OutputCommandMessage(failure=pb.Failure(code=5, message="x")).SerializeToString(),
        # Twice: protobuf takes the last, or merges.
        pb.OutputCommandMessage(value=pb.Value(content=b"a")).SerializeToString() * 2,
        pb.RunCommandMessage(result_completion_id=7).SerializeToString(),
    ],
)
def test_anything_else_is_left_to_protobuf(body: bytes) -> None:
    """The fast way is only for the one common form."""
    assert inside(body, (14, 1)) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_survived(body: bytes) -> None:
    """No index error, no endless loop, never bytes that are not there."""
    found = inside(body, (14, 1))
    assert found is None or found in body
