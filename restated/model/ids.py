"""Identities: invocation, deployment, subscription and awakeable ids, partition keys, random seeds.

Lives here: how ids are derived, written and read. They equal the reference's bit for bit, so an id
may be computed offline and looked up without storage.
Does not: time and chance (callers bring `now_ms` and `entropy`), what an id points to (core/).

An invocation id is 24 bytes: partition key (8, big-endian), uuid (16). Text forms put `{kind}_1` in
front of numbers in base 62; each number is its bytes read as little-endian. Source: ingress.md 19,
service-protocol.md 4.8.
"""

import base64
import binascii
import hashlib
import struct
from typing import Final, Literal, NewType

import msgspec
import xxhash

InvocationId = NewType("InvocationId", str)
DeploymentId = NewType("DeploymentId", str)

HandlerKind = Literal["exclusive", "shared", "workflow"]

ULID_ENTROPY_BYTES: Final = 10
INVOCATION_ENTROPY_BYTES: Final = 12  # a ULID's, and two for the bucket
BUCKETS: Final = 512  # how many partition keys an unkeyed service spreads over
RAW_INVOCATION_BYTES: Final = 24
_UUID_BYTES: Final = 16
_AWAKEABLE_BYTES: Final = 28

_U32_MAX: Final = (1 << 32) - 1
_U64: Final = 1 << 64
_U64_MAX: Final = _U64 - 1
_U128: Final = 1 << 128


class IdError(ValueError):
    """A text is not an id of the expected kind; the message is the reason users see."""


_BAD_LENGTH: Final = "bad length"
_BAD_FORMAT: Final = "bad format"
_BAD_VERSION: Final = "unrecognized codec version"
_BAD_KIND: Final = "id doesn't match the expected type"
_BAD_DIGITS: Final = "base62 decode error"


# -- base 62, most significant digit first, two digits at a time

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_PAIR_VALUES: Final[dict[str, int]] = {pair: value for value, pair in enumerate(_PAIRS)}
_P1: Final = 62**2
_P2: Final = 62**4
_P3: Final = 62**6
_P4: Final = 62**8
_P5: Final = 62**10  # the largest even power below 2**63: all that follows it is in small numbers


def _ten_digits(number: int) -> str:
    pairs = _PAIRS
    high, low = divmod(number, _P2)
    top, middle = divmod(high, _P2)
    return (
        pairs[top]
        + pairs[middle // _P1]
        + pairs[middle % _P1]
        + pairs[low // _P1]
        + pairs[low % _P1]
    )


def _digits_64(number: int) -> str:
    high, low = divmod(number, _P5)
    return _ALPHABET[high] + _ten_digits(low)


def _digits_128(number: int) -> str:
    high, low = divmod(number, _P5)
    top, middle = divmod(high, _P5)
    return _PAIRS[top] + _ten_digits(middle) + _ten_digits(low)


def _ten_digits_value(digits: str) -> int:
    values = _PAIR_VALUES
    high = values[digits[0:2]] * _P1 + values[digits[2:4]]
    low = values[digits[6:8]] * _P1 + values[digits[8:10]]
    return (high * _P1 + values[digits[4:6]]) * _P2 + low


def _value_64(digits: str) -> int:
    """The number that 11 digits write; raises `IdError`."""
    try:
        number = _PAIR_VALUES["0" + digits[0]] * _P5 + _ten_digits_value(digits[1:])
    except KeyError:
        raise IdError(_BAD_DIGITS) from None
    if number >= _U64:
        raise IdError(_BAD_DIGITS)
    return number


def _value_128(digits: str) -> int:
    """The number that 22 digits write; raises `IdError`."""
    try:
        high = _PAIR_VALUES[digits[0:2]] * _P5 + _ten_digits_value(digits[2:12])
        number = high * _P5 + _ten_digits_value(digits[12:])
    except KeyError:
        raise IdError(_BAD_DIGITS) from None
    if number >= _U128:
        raise IdError(_BAD_DIGITS)
    return number


# -- text forms

_KINDS: Final = frozenset({"inv", "dp", "sub", "prom", "sign", "snap", "mut", "vq"})


def _payload(text: str, kind: str) -> str:
    """What follows `{kind}_1`; raises `IdError` in the reference's order of checks."""
    if text.startswith(kind + "_1"):
        return text[len(kind) + 2 :]
    if not text:
        raise IdError(_BAD_LENGTH)
    prefix, separator, rest = text.partition("_")
    if not separator:
        raise IdError(_BAD_FORMAT)
    if prefix not in _KINDS:
        raise IdError(f"unrecognized resource type: {prefix}")
    if not rest:
        raise IdError(_BAD_LENGTH)
    if rest[0] != "1":
        raise IdError(_BAD_VERSION)
    raise IdError(_BAD_KIND)


def _parse_ulid(text: str, kind: str) -> None:
    digits = _payload(text, kind)
    if len(digits) < 22:
        raise IdError(_BAD_LENGTH)
    _value_128(digits[:22])
    if len(digits) > 22:
        raise IdError(_BAD_LENGTH)


def _ulid(now_ms: int, entropy: bytes) -> bytes:
    assert 0 <= now_ms < 1 << 48, "a ULID keeps 48 bits of milliseconds"
    assert len(entropy) >= ULID_ENTROPY_BYTES, "a ULID needs 80 random bits"
    return now_ms.to_bytes(6, "big") + entropy[:ULID_ENTROPY_BYTES]


_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CROCKFORD_PAIRS: Final = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)


def new_ulid_text(now_ms: int, entropy: bytes) -> str:
    """A ULID in its own notation: 26 characters, as keys that the ingress makes up are written."""
    ulid = _ulid(now_ms, entropy)
    # Three words of at most 48 bits, cut where digits end: small numbers shift faster.
    high = int.from_bytes(ulid[:6], "big")
    middle = int.from_bytes(ulid[6:11], "big")
    low = int.from_bytes(ulid[11:], "big")
    pairs = _CROCKFORD_PAIRS
    return "".join(
        (
            pairs[high >> 40], pairs[high >> 30 & 1023], pairs[high >> 20 & 1023],
            pairs[high >> 10 & 1023], pairs[high & 1023],
            pairs[middle >> 30], pairs[middle >> 20 & 1023], pairs[middle >> 10 & 1023],
            pairs[middle & 1023],
            pairs[low >> 30], pairs[low >> 20 & 1023], pairs[low >> 10 & 1023], pairs[low & 1023],
        )
    )  # fmt: skip


# -- invocation ids


def raw_invocation_id(text: str) -> bytes:
    """The 24 bytes of an invocation id, as the wire carries them; raises `IdError`."""
    return _raw_keyed_id(text, "inv")


def parse_vqueue_id(text: str) -> str:
    """The same text if it could be the id of a virtual queue; raises `IdError`."""
    if len(_payload(text, "vq")) != 33:  # before the digits, unlike in other ids
        raise IdError(_BAD_LENGTH)
    _raw_keyed_id(text, "vq")
    return text


def _raw_keyed_id(text: str, kind: str) -> bytes:
    digits = _payload(text, kind)
    if len(digits) < 11:
        raise IdError(_BAD_LENGTH)
    partition = _value_64(digits[:11])
    if len(digits) < 33:
        raise IdError(_BAD_LENGTH)
    uuid = _value_128(digits[11:33])
    if len(digits) > 33:
        raise IdError(_BAD_LENGTH)
    return partition.to_bytes(8, "little") + uuid.to_bytes(16, "little")


def invocation_id_of_raw(raw: bytes) -> InvocationId:
    """The text of a 24-byte invocation id."""
    assert len(raw) == RAW_INVOCATION_BYTES, "an invocation id has 24 bytes"
    partition = _digits_64(int.from_bytes(raw[:8], "little"))
    return InvocationId(f"inv_1{partition}{_digits_128(int.from_bytes(raw[8:], 'little'))}")


def parse_invocation_id(text: str) -> tuple[int, bytes]:
    """(partition key, uuid) of an invocation id; raises `IdError`."""
    raw = raw_invocation_id(text)
    return int.from_bytes(raw[:8], "big"), raw[8:]


def encode_invocation_id(partition: int, uuid: bytes) -> InvocationId:
    """The text of an invocation id from its partition key and its 16-byte uuid."""
    return invocation_id_of_raw(partition.to_bytes(8, "big") + uuid)


def partition_key_of(text: str) -> int:
    """The partition key inside an invocation id; raises `IdError`."""
    return parse_invocation_id(text)[0]


def partition_key(
    *, service: str, key: str | None, scope: str, idempotency_key: str | None, bucket: int
) -> int:
    """Where an invocation belongs (64 bit). `bucket` decides only if nothing else does."""
    if scope:
        return _hash_text(scope)
    if key is not None:
        return _hash_text(key)
    if idempotency_key is not None:
        bucket = _hash_text(idempotency_key)
    place = service.encode() + _UNSCOPED_SERVICE + (bucket % BUCKETS).to_bytes(8, "little")
    return xxhash.xxh3_64_intdigest(place)


_UNSCOPED_SERVICE: Final = b"\xffunscoped/service\xff"  # each text of a hash is closed by ff


def _hash_text(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode() + b"\xff")


def raw_invocation_id_for(  # noqa: PLR0913 - the parts of an identity, each by its name
    *,
    service: str,
    handler: str,
    handler_type: HandlerKind,
    key: str | None,
    scope: str,
    idempotency_key: str | None,
    now_ms: int,
    entropy: bytes,
) -> bytes:
    """The 24 bytes of a new invocation's id: a hash of its identity, or a ULID if it has none.

    A workflow run is identified by its key alone, everything else by its idempotency key.
    `entropy`: 12 random bytes. Scope '' means none.
    """
    assert len(entropy) >= INVOCATION_ENTROPY_BYTES, "an invocation id needs 12 random bytes"
    partition = partition_key(
        service=service,
        key=key,
        scope=scope,
        idempotency_key=idempotency_key,
        bucket=int.from_bytes(entropy[ULID_ENTROPY_BYTES:INVOCATION_ENTROPY_BYTES], "big"),
    )
    scoped = f"{scope}," if scope else ""
    if handler_type == "workflow":
        assert key is not None, "a workflow run has a key"
        uuid = _hash_identity(f"wf,{scoped}{service},{key}")
    elif idempotency_key is not None:
        keyed = "" if key is None else f"{key},"
        uuid = _hash_identity(f"ik,{scoped}{service},{keyed}{handler},{idempotency_key}")
    else:
        uuid = _ulid(now_ms, entropy)
    return partition.to_bytes(8, "big") + uuid


def invocation_id_for(  # noqa: PLR0913 - the parts of an identity, each by its name
    *,
    service: str,
    handler: str,
    handler_type: HandlerKind,
    key: str | None,
    scope: str,
    idempotency_key: str | None,
    now_ms: int,
    entropy: bytes,
) -> InvocationId:
    """The text of `raw_invocation_id_for`."""
    return invocation_id_of_raw(
        raw_invocation_id_for(
            service=service,
            handler=handler,
            handler_type=handler_type,
            key=key,
            scope=scope,
            idempotency_key=idempotency_key,
            now_ms=now_ms,
            entropy=entropy,
        )
    )


def _hash_identity(text: str) -> bytes:
    # Parts are not escaped, so two identities can share a uuid: whoever finds an existing
    # invocation under an id compares the targets (C44, C50).
    return hashlib.sha256(text.encode()).digest()[:_UUID_BYTES]


def new_invocation_id_beside(text: str, now_ms: int, entropy: bytes) -> InvocationId:
    """A new id in the partition of `text`: what restart-as-new gives; raises `IdError`."""
    return encode_invocation_id(partition_key_of(text), _ulid(now_ms, entropy))


# -- awakeables


class AwakeableId(msgspec.Struct, frozen=True, gc=False):
    """Where an awakeable's completion goes.

    `index` is the number of a signal; of an old id (`prom_1`) it is the entry index.
    """

    invocation_id: InvocationId
    index: int
    is_old: bool


def awakeable_id(invocation_id: str, index: int) -> str:
    """The id under which signal `index` of an invocation is completed from outside."""
    assert 0 <= index <= _U32_MAX, "a signal index has 32 bits"
    target = raw_invocation_id(invocation_id) + index.to_bytes(4, "big")
    return "sign_1" + base64.urlsafe_b64encode(target).rstrip(b"=").decode()


def parse_awakeable_id(text: str) -> AwakeableId:
    """Read `sign_1…` or, failing that, `prom_1…`, whose error is then raised as `IdError`."""
    try:
        raw = _awakeable_bytes(_payload(text, "sign"))
        is_old = False
    except IdError:
        raw = _awakeable_bytes(_payload(text, "prom"))
        is_old = True
    index = int.from_bytes(raw[RAW_INVOCATION_BYTES:], "big")
    return AwakeableId(invocation_id_of_raw(raw[:RAW_INVOCATION_BYTES]), index, is_old)


def _awakeable_bytes(payload: str) -> bytes:
    unpadded = payload.rstrip("=")
    padding = -len(unpadded) % 4
    if len(payload) - len(unpadded) > padding:
        raise IdError(_BAD_DIGITS)
    try:
        raw = base64.b64decode(unpadded + "=" * padding, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise IdError(_BAD_DIGITS) from None
    # Written back it must be the same: Python takes `+`, `/` and stray trailing bits as well.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != unpadded:
        raise IdError(_BAD_DIGITS)
    if len(raw) != _AWAKEABLE_BYTES:
        raise IdError(_BAD_LENGTH)
    return raw


# -- deployments and subscriptions


def deployment_id(now_ms: int, entropy: bytes) -> DeploymentId:
    """A new deployment id. `entropy`: 10 random bytes."""
    return DeploymentId("dp_1" + _digits_128(int.from_bytes(_ulid(now_ms, entropy), "little")))


def parse_deployment_id(text: str) -> DeploymentId:
    """The same text if it is a deployment id; raises `IdError`."""
    _parse_ulid(text, "dp")
    return DeploymentId(text)


def subscription_id(now_ms: int, entropy: bytes) -> str:
    """A new subscription id. `entropy`: 10 random bytes."""
    return "sub_1" + _digits_128(int.from_bytes(_ulid(now_ms, entropy), "little"))


def parse_subscription_id(text: str) -> str:
    """The same text if it is a subscription id; raises `IdError`."""
    _parse_ulid(text, "sub")
    return text


# -- random seeds


def random_seed_for(invocation_id: str) -> int:
    """The seed of a handler's random numbers: 64 bit, signed, the same for every attempt.

    SipHash-1-3 with key 0 over the id's bytes behind their count; raises `IdError`
    (service-protocol.md 4.1).
    """
    return random_seed_of_raw(raw_invocation_id(invocation_id))


def random_seed_of_raw(raw: bytes) -> int:
    """The same for the 24 bytes of an id."""
    words = _FOUR_WORDS.unpack(raw + _BYTE_COUNT)
    v0, v1, v2, v3 = _sip_rounds(_SEED_START, words)
    v0, v1, v2, v3 = _sip_rounds((v0, v1, v2 ^ 0xFF, v3), _NO_WORDS)
    seed = v0 ^ v1 ^ v2 ^ v3
    return seed - _U64 if seed >> 63 else seed


def unsigned64(number: int) -> int:
    """The same 64 bits read as an unsigned number: SQLite keeps signed ones, the wire does not."""
    return number & _U64_MAX


_SipState = tuple[int, int, int, int]


def _sip_rounds(state: _SipState, words: tuple[int, ...]) -> _SipState:
    """One round for each word; a word of 0 is a round of the end."""
    v0, v1, v2, v3 = state
    mask = _U64_MAX
    for word in words:
        v3 ^= word
        v0 = (v0 + v1) & mask
        v2 = (v2 + v3) & mask
        v1 = (v1 << 13 & mask | v1 >> 51) ^ v0
        v3 = (v3 << 16 & mask | v3 >> 48) ^ v2
        v0 = (v0 << 32 & mask | v0 >> 32) + v3 & mask
        v2 = v2 + v1 & mask
        v1 = (v1 << 17 & mask | v1 >> 47) ^ v2
        v3 = (v3 << 21 & mask | v3 >> 43) ^ v0
        v2 = v2 << 32 & mask | v2 >> 32
        v0 ^= word
    return v0, v1, v2, v3


_FOUR_WORDS: Final = struct.Struct("<4Q")
_NO_WORDS: Final = (0, 0, 0)
_BYTE_COUNT: Final = bytes(7) + b"\x20"  # 32 bytes are hashed: the count of the id's, and the id
_SEED_START: Final = _sip_rounds(
    (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573),
    (RAW_INVOCATION_BYTES,),
)
