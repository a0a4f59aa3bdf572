"""Request identity: tokens, and which key files are taken."""

import json
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from restate._internal import (
    IdentityVerificationException,
    PyIdentityVerifier,
)

from restated.invoker.identity import (
    KEY_FILE_BYTES_MAX,
    TOKENS_MAX,
    IdentityError,
    RequestIdentity,
    base58,
    load_identity,
)
from tests.sim.clock import VirtualClock

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "protocol_transcripts.json"
SEED = bytes(range(32))
KEY_ID = "publickeyv1_FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF"


class SetClock(VirtualClock):
    """Tells the time it was given."""

    def __init__(self, wall_ms: int = 0) -> None:
        super().__init__()
        self.now_ms = wall_ms

    def wall_ms(self) -> int:
        return self.now_ms


def key_file(directory: Path, content: bytes | None = None) -> Path:
    path = directory / "identity.pem"
    if content is None:
        content = pem(Ed25519PrivateKey.from_private_bytes(SEED))
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def pem(key: Any, encryption: serialization.KeySerializationEncryption | None = None) -> bytes:
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )
    return bytes(encoded)


def identity(directory: Path, wall_ms: int = 0, expiration_ms: int = 60_000) -> RequestIdentity:
    return load_identity(key_file(directory), SetClock(wall_ms), expiration_ms)


def claims_of(token: str) -> Any:
    return json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))


def signed_requests() -> Iterator[tuple[str, str]]:
    """(path, token) of every signed request that was recorded."""
    for scenario in json.loads(TRANSCRIPTS.read_text()):
        for attempt in scenario["attempts"]:
            headers = dict(attempt["request"]["headers"])
            if "x-restate-jwt-v1" in headers:
                yield attempt["request"]["path"], headers["x-restate-jwt-v1"]


def test_recorded_tokens_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    """service-protocol.md 2.3: order of header and claims, audience, leeway, signature."""
    recorded = list(signed_requests())
    made = [
        dict(identity(tmp_path, claims_of(token)["iat"] * 1_000 + 999).headers(path, None))
        for path, token in recorded
    ]
    assert len(recorded) >= 8
    assert made == [
        {"x-restate-signature-scheme": "v1", "x-restate-jwt-v1": token} for _, token in recorded
    ]


def test_the_public_key_has_the_form_that_services_are_configured_with(tmp_path: Path) -> None:
    """service-protocol.md 2.3, vector."""
    assert identity(tmp_path).key_id == KEY_ID


def test_the_subject_is_the_key_as_it_is(tmp_path: Path) -> None:
    """service-protocol.md 2.3: not percent-encoded, behind the other claims, empty ones too."""
    signer = identity(tmp_path, wall_ms=100_000)
    with_key = dict(signer.headers("/invoke/O/h", "k 1/ä"))["x-restate-jwt-v1"]
    with_empty_key = dict(signer.headers("/invoke/O/h", ""))["x-restate-jwt-v1"]
    assert list(claims_of(with_key).items()) == [
        ("aud", "/invoke/O/h"), ("exp", 160), ("iat", 100), ("nbf", 40), ("sub", "k 1/ä"),
    ]  # fmt: skip
    assert claims_of(with_empty_key)["sub"] == ""


@pytest.mark.parametrize(("expiration_ms", "leeway"), [(0, 1), (999, 1), (1_000, 1), (5_999, 5)])
def test_the_leeway_is_in_whole_seconds_one_at_least(
    tmp_path: Path, expiration_ms: int, leeway: int
) -> None:
    """service-protocol.md 2.3."""
    headers = identity(tmp_path, 100_000, expiration_ms).headers("/discover", None)
    claims = claims_of(dict(headers)["x-restate-jwt-v1"])
    assert (claims["nbf"], claims["exp"]) == (100 - leeway, 100 + leeway)


def test_tokens_are_made_anew_each_second_and_remembered_in_bounds(tmp_path: Path) -> None:
    """A token that is too old is refused; a limit on everything (style.md 6)."""
    clock = SetClock(1_000)
    signer = load_identity(key_file(tmp_path), clock)
    for number in range(TOKENS_MAX + 10):
        signer.headers("/invoke/O/h", str(number))
    assert len(signer._tokens) == 10
    first = signer.headers("/invoke/O/h", "1")
    assert signer.headers("/invoke/O/h", "1") == first
    clock.now_ms = 2_000
    second = signer.headers("/invoke/O/h", "1")
    assert claims_of(dict(second)["x-restate-jwt-v1"])["iat"] == 2


def test_the_python_sdk_takes_what_we_sign_and_nothing_else(tmp_path: Path) -> None:
    """service-protocol.md 2.3, check of the SDK."""
    # The SDK reads the clock of the machine.
    import time

    headers = identity(tmp_path, int(time.time() * 1_000)).headers("/invoke/O/h", "k")
    verifier = PyIdentityVerifier([KEY_ID])
    verifier.verify(list(headers), "/below/invoke/O/h")
    for wrong in ([], [headers[0]], [headers[0], (headers[1][0], headers[1][1] + "A")]):
        with pytest.raises(IdentityVerificationException):
            verifier.verify(wrong, "/below/invoke/O/h")


@given(st.binary(max_size=40))
def test_base58_is_the_number_in_other_digits(octets: bytes) -> None:
    """The alphabet leaves out 0, O, I and l; leading zero bytes are kept."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    text = base58(octets)
    number = sum(alphabet.index(digit) * 58**at for at, digit in enumerate(reversed(text)))
    assert number == int.from_bytes(octets, "big")
    assert re.match("1*", text)[0].count("1") == len(octets) - len(octets.lstrip(b"\0"))  # type: ignore[index]  # it always matches


ED25519 = pem(Ed25519PrivateKey.from_private_bytes(SEED))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found none"),
        (b"nothing of the kind", "found none"),
        (ED25519 + ED25519, "found PRIVATE KEY, PRIVATE KEY"),
        (ED25519.replace(b"PRIVATE", b"PUBLIC"), "found PUBLIC KEY"),
        (ED25519.replace(b"MC4", b"MC5"), "damaged"),
        (ED25519[:60], "damaged"),
        (
            pem(
                Ed25519PrivateKey.from_private_bytes(SEED),
                serialization.BestAvailableEncryption(b"x"),
            ),
            "found ENCRYPTED PRIVATE KEY",
        ),
        (pem(ec.generate_private_key(ec.SECP256R1())), "only Ed25519"),
        (ED25519 + b"#" * KEY_FILE_BYTES_MAX, "larger than 65,536 bytes"),
    ],
    ids=["empty", "text", "two", "public", "damaged", "cut", "encrypted", "other kind", "large"],
)
def test_a_file_without_exactly_one_ed25519_key_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    """service-protocol.md 2.3; Z5: the text names the file and never quotes it."""
    path = key_file(tmp_path, content)
    with pytest.raises(IdentityError) as refused:
        load_identity(path, SetClock())
    text = str(refused.value)
    assert words in text
    assert str(path) in text
    assert "openssl genpkey" in text
    assert "MC4C" not in text


def test_text_around_the_key_does_not_matter(tmp_path: Path) -> None:
    """RFC 7468: explanatory text outside the block."""
    path = key_file(tmp_path, b"made by hand\r\n" + ED25519 + b"\nend\n")
    assert load_identity(path, SetClock()).key_id == KEY_ID


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_file_that_only_we_read_is_taken(tmp_path: Path, mode: int) -> None:
    """Z7."""
    path = key_file(tmp_path)
    path.chmod(mode)
    assert load_identity(path, SetClock()).key_id == KEY_ID


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o602])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    """Z7: a private key is for its owner alone."""
    path = key_file(tmp_path)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"mode {mode:04o}.*chmod 600"):
        load_identity(path, SetClock())


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Z7: its owner could change it."""
    path = key_file(tmp_path)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(IdentityError, match=f"belongs to user {owner}.*chown"):
        load_identity(path, SetClock())


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe must not keep the daemon from starting or failing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(IdentityError, match="not a regular file"):
        load_identity(pipe, SetClock())
    with pytest.raises(IdentityError, match="No such file or directory"):
        load_identity(tmp_path / "missing", SetClock())
