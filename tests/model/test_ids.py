"""Ids equal the reference's bit for bit; texts that are none are refused with its reasons."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.model import ids
from restated.model.ids import IdError

DATA = Path(__file__).parents[1] / "data"
LOOKUPS = json.loads((DATA / "id_vectors.json").read_text())
STARTS = [
    vector["decoded"]["fields"]
    for vector in json.loads((DATA / "protocol_vectors.json").read_text())
    if vector["decoded"]["type"] == "Start" and vector["origin"].startswith("captured")
]
ENTROPY = bytes(range(12))
NOW_MS = 0x01A2_1073_04E6
ULID = "01a2107304e600010203040506070809"
VALID = "inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz"


def new_id(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "service": "IngSvc",
        "handler": "greet",
        "handler_type": "shared",
        "key": None,
        "scope": "",
        "idempotency_key": None,
        "now_ms": NOW_MS,
        "entropy": ENTROPY,
    }
    return ids.invocation_id_for(**{**arguments, **changes})


def reason(parse: Any, text: str) -> str:
    with pytest.raises(IdError) as caught:
        parse(text)
    return str(caught.value)


# -- derived ids


@pytest.mark.parametrize("vector", LOOKUPS, ids=[vector["name"] for vector in LOOKUPS])
def test_identity_gives_the_id_that_the_reference_gives(vector: dict[str, Any]) -> None:
    """ingress.md 19, recorded answers of /restate/lookup."""
    identity = {name: vector[name] for name in ("service", "key", "idempotency_key", "scope")}
    kind = "workflow" if vector["handler"] is None else "shared"
    handler = vector["handler"] or "run"
    assert new_id(handler_type=kind, handler=handler, **identity) == vector["id"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"handler": "echo", "idempotency_key": "01M889045SQ6SDRNM22WEWKVYW"},
            "inv_1l5KA8wvV7zb7b5y68tljXlAcUkimTmRab",
        ),
        (
            {
                "service": "IngObj",
                "key": "kk1",
                "handler": "add",
                "handler_type": "exclusive",
                "idempotency_key": "01M889046HRVJ1Y398Q79YA2ZH",
            },
            "inv_15nwMuORguzG5IS2sj38U3ZNkMiQyaTG3I",
        ),
        (
            {"service": "PS", "handler": "echo", "idempotency_key": "v7idem"},
            "inv_1cSGOhdY48lA58u5hIEdrEVepTRPsMe7Vs",
        ),
    ],
)
def test_injected_and_given_keys_give_the_recorded_ids(
    changes: dict[str, Any], expected: str
) -> None:
    """ingress.md 19; service-protocol.md 4.8."""
    assert new_id(**changes) == expected


def test_an_idempotency_key_does_not_change_a_workflow_run() -> None:
    """state-machine.md 4.1."""
    run = new_id(service="IngWf", handler="run", handler_type="workflow", key="w1")
    keyed = new_id(
        service="IngWf", handler="run", handler_type="workflow", key="w1", idempotency_key="k"
    )
    assert run == keyed == "inv_12kpUQONmeFb3RXtbjB888kVBwrpmjZZLx"


def test_a_shared_workflow_handler_has_an_id_of_its_own() -> None:
    """ingress.md 19: only runs are identified by the workflow's key."""
    partition, uuid = ids.parse_invocation_id(new_id(service="IngWf", key="w1"))
    assert f"{partition:016x}" == "5164c775648d211b"
    assert uuid.hex() == ULID


@pytest.mark.parametrize(
    ("bucket", "partition"),
    [
        (0, "f0bcb21d6188ecc2"),
        (511, "d24d2d7dbabd0481"),
        (435, "3b71e8e8e89ca0a3"),
        (10, "1eac139634e10c5f"),
        (512 + 10, "1eac139634e10c5f"),
        (0xFFFF, "d24d2d7dbabd0481"),
    ],
)
def test_without_any_key_chance_chooses_the_bucket(bucket: int, partition: str) -> None:
    """ingress.md 19, partition key rule 4; uuid rule 3."""
    text = new_id(entropy=ENTROPY[:10] + bucket.to_bytes(2, "big"))
    found, uuid = ids.parse_invocation_id(text)
    assert f"{found:016x}" == partition
    assert uuid.hex() == ULID


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        ("", "d6bcec3c6b29d72e"),
        ("a", "13acce3537d6b799"),
        ("abc", "6ffc8c6245e63b16"),
        ("café", "154d1da4d55972c4"),
        ("k", "6dcec853edb4590a"),
        ("w1", "5164c775648d211b"),
        ("abcdefgh", "4e4b8775bd0571b7"),
        ("a" * 16, "509a8fc387a12ad3"),
        ("a" * 17, "2368221984144d5e"),
        ("a" * 128, "3511ce7ec3d20b33"),
        ("a" * 129, "b6307e92bcdea352"),
        ("a" * 240, "706bd30c2fab1869"),
        ("a" * 241, "4f5f10f3371bc8f5"),
    ],
)
def test_a_key_is_the_partition(key: str, partition: str) -> None:
    """ingress.md 19, partition key rule 2: the object's key, whatever the service."""
    found = ids.partition_key(service="S", key=key, scope="", idempotency_key="i", bucket=7)
    assert f"{found:016x}" == partition


def test_a_scope_comes_before_the_key() -> None:
    """ingress.md 19, partition key rule 1."""
    found = ids.partition_key(service="S", key="w1", scope="s1", idempotency_key=None, bucket=7)
    assert f"{found:016x}" == "82a4cddf2f56bb74"


def test_restart_as_new_stays_in_the_partition() -> None:
    """state-machine.md 4.7."""
    text = ids.new_invocation_id_beside(VALID, NOW_MS, ENTROPY)
    partition, uuid = ids.parse_invocation_id(text)
    assert partition == 0x493C42ED1C3CF1BC == ids.partition_key_of(VALID)
    assert uuid.hex() == ULID


# -- text forms


@pytest.mark.parametrize(
    ("partition", "uuid", "text"),
    [
        (0, "0" * 32, "inv_1000000000000000000000000000000000"),
        (1, "0" * 31 + "1", "inv_105k1wlNFHb201SZwviYzes2mjOamuMJWw"),
        (0xFFFF_FFFF_FFFF_FFFF, "f" * 32, "inv_1lYGhA16ahyf7N42dgm5tFLK9N8MT7fHC7"),
        (0x493C42ED1C3CF1BC, "018e5257b998007db7f4f3f47e809584", VALID),
        (
            0x5164C775648D211B,
            "bf852b95cadb431e436e0f8aa98c2a7f",
            "inv_12kpUQONmeFb3RXtbjB888kVBwrpmjZZLx",
        ),
    ],
)
def test_known_numbers_have_known_texts(partition: int, uuid: str, text: str) -> None:
    """ingress.md 19."""
    assert ids.encode_invocation_id(partition, bytes.fromhex(uuid)) == text
    assert ids.parse_invocation_id(text) == (partition, bytes.fromhex(uuid))


@pytest.mark.parametrize("start", STARTS, ids=[start["debug_id"] for start in STARTS])
def test_captured_ids_have_the_captured_bytes(start: dict[str, Any]) -> None:
    """service-protocol.md 4.8: Start carries both forms."""
    raw = bytes.fromhex(start["id"]["hex"])
    assert ids.raw_invocation_id(start["debug_id"]) == raw
    assert ids.invocation_id_of_raw(raw) == start["debug_id"]


@given(st.binary(min_size=24, max_size=24))
def test_invocation_ids_come_back(raw: bytes) -> None:
    """Round trip."""
    text = ids.invocation_id_of_raw(raw)
    assert len(text) == 38
    assert ids.raw_invocation_id(text) == raw
    assert ids.encode_invocation_id(*ids.parse_invocation_id(text)) == text


@pytest.mark.parametrize(
    ("ulid", "text"),
    [
        ("01a2107304e6b5c761b18ce05828fd08", "dp_10gXDbh14A2S0o6qcihCtc5"),
        ("01a2109010a24abd8e2cfdcc6d9ecd37", "dp_11HixR57iRoV1Yblt9KZ1Pb"),
    ],
)
def test_deployment_ids_are_ulids(ulid: str, text: str) -> None:
    """ingress.md 19."""
    raw = bytes.fromhex(ulid)
    assert ids.deployment_id(int.from_bytes(raw[:6], "big"), raw[6:]) == text
    assert ids.parse_deployment_id(text) == text


def test_subscription_ids_are_ulids() -> None:
    """ingress.md 19."""
    raw = bytes.fromhex("01a2109004a8e6e09ea01b955f523111")
    text = ids.subscription_id(int.from_bytes(raw[:6], "big"), raw[6:])
    assert text == "sub_10wrpoM5UCV4Lb6Xubx0ZdT"
    assert ids.parse_subscription_id(text) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("00" * 16, "0" * 26),
        ("ff" * 16, "7" + "Z" * 25),
        ("01563e3ab5d3d6764c61efb99302bd5b", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ],
)
def test_a_ulid_in_its_own_notation(raw: str, text: str) -> None:
    """The ULID specification, with its canonical example."""
    number = bytes.fromhex(raw)
    assert ids.new_ulid_text(int.from_bytes(number[:6], "big"), number[6:]) == text


# -- awakeables


AWAKEABLE = "sign_1d0xPuG5OglT2cD8W85Bj35cez0Wkbe9VAAAAEQ"


def test_an_awakeable_is_an_invocation_and_a_signal() -> None:
    """ingress.md 19: the first awakeable is signal 17."""
    invocation_id = "inv_17fQ2W1j5RlB2C9LxGoSGVkUiLXkTSdy3s"
    assert ids.awakeable_id(invocation_id, 17) == AWAKEABLE
    read = ids.parse_awakeable_id(AWAKEABLE)
    assert (read.invocation_id, read.index, read.is_old) == (invocation_id, 17, False)


def test_an_old_awakeable_is_told_apart() -> None:
    """service-protocol.md 4.8: its index is an entry's."""
    read = ids.parse_awakeable_id(AWAKEABLE.replace("sign", "prom"))
    assert (read.index, read.is_old) == (17, True)


@given(st.binary(min_size=24, max_size=24), st.integers(0, 0xFFFF_FFFF))
def test_awakeable_ids_come_back(raw: bytes, index: int) -> None:
    """Round trip."""
    invocation_id = ids.invocation_id_of_raw(raw)
    text = ids.awakeable_id(invocation_id, index)
    assert len(text) == 44
    read = ids.parse_awakeable_id(text)
    assert (read.invocation_id, read.index, read.is_old) == (invocation_id, index, False)


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_padding_of_an_awakeable_is_optional(padding: str) -> None:
    """ingress.md 19."""
    assert ids.parse_awakeable_id(AWAKEABLE + padding).index == 17


# -- refusals, each recorded from the reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "bad length"),
        ("bogus", "bad format"),
        ("inv", "bad format"),
        ("foo_1abc", "unrecognized resource type: foo"),
        ("_1abc", "unrecognized resource type: "),
        ("foo_", "unrecognized resource type: foo"),
        ("INV_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz", "unrecognized resource type: INV"),
        ("inv_", "bad length"),
        ("dp_", "bad length"),
        ("inv_2gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz", "unrecognized codec version"),
        ("dp_2", "unrecognized codec version"),
        ("dp_10gXDbh14A2S0o6qcihCtc5", "id doesn't match the expected type"),
        (AWAKEABLE, "id doesn't match the expected type"),
        ("snap_1", "id doesn't match the expected type"),
        ("mut_1", "id doesn't match the expected type"),
        ("vq_1", "id doesn't match the expected type"),
        ("inv_1", "bad length"),
        ("inv_1!!!", "bad length"),
        ("inv_1gdJBtdVEcM", "bad length"),
        ("inv_1gdJBtdVEcM9!!!", "bad length"),
        ("inv_1zzzzzzzzzzz", "base62 decode error"),
        ("inv_1gdJBtdVEc-9", "base62 decode error"),
        ("inv_1gdJBtdVEcM942bj-Dmb1c1khoaJe11Hbz", "base62 decode error"),
        ("inv_1gdJBtdVEcM942bjé1mb1c1khoaJe11Hbz", "base62 decode error"),
        ("inv_1lYGhA16ahyg0000000000000000000000", "base62 decode error"),
        ("inv_1000000000007N42dgm5tFLK9N8MT7fHC8", "base62 decode error"),
        ("inv_1gdJBtdVEcM9zzzzzzzzzzzzzzzzzzzzzz", "base62 decode error"),
        ("inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hb", "bad length"),
        ("inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbzz", "bad length"),
        ("inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz!", "bad length"),
    ],
)
def test_what_is_no_invocation_id_is_refused(text: str, expected: str) -> None:
    """ingress.md 19, parsing, in the order of checks."""
    assert reason(ids.raw_invocation_id, text) == expected
    assert reason(ids.parse_invocation_id, text) == expected
    assert reason(ids.partition_key_of, text) == expected
    assert reason(ids.random_seed_for, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "bad length"),
        ("bogus", "bad format"),
        ("sign1x", "bad format"),
        ("foo_1x", "unrecognized resource type: foo"),
        ("prom_2d0xPuG5OglT2cD8W85Bj35cez0Wkbe9VAAAAEQ", "unrecognized codec version"),
        ("sign_2d0xPuG5OglT2cD8W85Bj35cez0Wkbe9VAAAAEQ", "unrecognized codec version"),
        (VALID, "id doesn't match the expected type"),
        ("sign_", "bad length"),
        ("sign_1", "id doesn't match the expected type"),
        ("sign_1bogus", "id doesn't match the expected type"),
        ("prom_1", "bad length"),
        ("prom_1bogus", "base62 decode error"),
        ("prom_1d0xPuG5OglT2cD8W85Bj35cez0Wkbe9V!AAAEQ", "base62 decode error"),
        ("prom_1d0xPuG5OglT2cD8W85Bj35cez0Wkbe9V+AAAEQ", "base62 decode error"),
        ("prom_1d0xPuG5OglT2cD8W85Bj35cez0Wkbe9VéAAAEQ", "base62 decode error"),
        ("prom_1d0xPuG5OglT2cD8W85Bj35cez0Wkbe9VAAAAER", "base62 decode error"),
        ("prom_1d0xPuG5OglT2cD8W85Bj35cez0Wkbe9VAAAAEQ===", "base62 decode error"),
        ("prom_1d0xPuG5OglT2cD8W85Bj35cez0Wkbe9VAAAAEQAA", "bad length"),
        ("prom_1AAAA", "bad length"),
        ("prom_1AAAA=", "base62 decode error"),
    ],
)
def test_what_is_no_awakeable_id_is_refused(text: str, expected: str) -> None:
    """ingress.md 19: `sign_` first, then as `prom_`, whose error is reported."""
    assert reason(ids.parse_awakeable_id, text) == expected


@pytest.mark.parametrize(
    ("parse", "kind", "other"),
    [(ids.parse_deployment_id, "dp", "sub"), (ids.parse_subscription_id, "sub", "dp")],
)
def test_what_is_no_deployment_or_subscription_id_is_refused(
    parse: Any, kind: str, other: str
) -> None:
    """ingress.md 19, parsing."""
    digits = "0gXDbh14A2S0o6qcihCtc5"
    assert reason(parse, "") == "bad length"
    assert reason(parse, kind) == "bad format"
    assert reason(parse, f"{kind}_2{digits}") == "unrecognized codec version"
    assert reason(parse, f"{other}_1{digits}") == "id doesn't match the expected type"
    assert reason(parse, f"{kind}_1{digits[1:]}") == "bad length"
    assert reason(parse, f"{kind}_1{digits}0") == "bad length"
    assert reason(parse, f"{kind}_1{digits[:-1]}-") == "base62 decode error"
    assert reason(parse, f"{kind}_17N42dgm5tFLK9N8MT7fHC8") == "base62 decode error"


ID_LIKE = st.one_of(
    st.text(max_size=50),
    st.builds(
        lambda kind, rest: kind + rest,
        st.sampled_from(["inv_1", "dp_1", "sub_1", "sign_1", "prom_1"]),
        st.text(alphabet="09azAZ-_=!", max_size=46),
    ),
)


@given(
    ID_LIKE,
    st.sampled_from(
        [
            ids.raw_invocation_id,
            ids.parse_awakeable_id,
            ids.parse_deployment_id,
            ids.parse_subscription_id,
        ]
    ),
)
def test_any_text_is_an_id_or_refused(text: str, parse: Any) -> None:
    """N1: text from outside raises only our error."""
    try:
        parse(text)
    except IdError as error:
        assert str(error)  # noqa: PT017 - any reason, but a reason


@given(st.text(alphabet=ids._ALPHABET, min_size=33, max_size=33))
def test_an_invocation_id_has_one_text_only(digits: str) -> None:
    """Two texts never name the same invocation."""
    text = f"inv_1{digits}"
    try:
        raw = ids.raw_invocation_id(text)
    except IdError:
        return
    assert ids.invocation_id_of_raw(raw) == text


# -- random seeds


@pytest.mark.parametrize("start", STARTS, ids=[start["debug_id"] for start in STARTS])
def test_the_seed_is_the_one_that_the_reference_sent(start: dict[str, Any]) -> None:
    """service-protocol.md 4.1."""
    seed = ids.random_seed_for(start["debug_id"])
    assert -(1 << 63) <= seed < 1 << 63
    assert ids.unsigned64(seed) == start["random_seed"]


def test_seeds_are_signed_for_the_store_and_unsigned_on_the_wire() -> None:
    """SQLite keeps 64 bits signed, protobuf's uint64 does not."""
    assert ids.random_seed_for("inv_1cSGOhdY48lA58u5hIEdrEVepTRPsMe7Vs") == 1481198213143617571
    assert ids.unsigned64(-1) == 0xFFFF_FFFF_FFFF_FFFF
    assert ids.unsigned64(5) == 5
