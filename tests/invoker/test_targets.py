"""Base URIs and the addresses behind them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.invoker.targets import InvalidUriError, TargetRefusedError, Targets, parse_uri


@pytest.mark.parametrize(
    ("text", "display", "port", "target"),
    [
        ("http://127.0.0.1:9080", "http://127.0.0.1:9080/", 9080, "/x"),
        ("http://127.0.0.1:9080/", "http://127.0.0.1:9080/", 9080, "/x"),
        ("http://h/a/b/", "http://h/a/b", 80, "/a/b/x"),
        ("https://h", "https://h/", 443, "/x"),
        ("HTTPS://Host.example:1/a?b=c", "https://Host.example:1/a?b=c", 1, "/a/x?b=c"),
        ("http://[::1]:9/p", "http://[::1]:9/p", 9, "/p/x"),
    ],
)
def test_a_base_uri_gives_targets_below_it(text: str, display: str, port: int, target: str) -> None:
    """service-protocol.md 1.1: trailing slash trimmed, query kept."""
    uri = parse_uri(text)
    assert (uri.display, uri.port, uri.target("/x")) == (display, port, target)


def test_a_host_is_resolved_without_brackets_and_case() -> None:
    """What the resolver is asked for."""
    assert parse_uri("http://[::1]:9").host == "::1"
    assert parse_uri("http://ExAmple.org").host == "example.org"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/tickets", "The provided uri /tickets is not absolute, only absolute URIs can be used."),
        ("tickets", "is not absolute"),
        ("localhost:9080", "is not absolute"),
        ("localhost:9080/x", "is not absolute"),
        ("127.0.0.1:9080", "is not absolute"),
        ("http://", "is not absolute"),
        ("http:/x", "is not absolute"),
        ("ftp://h", "use http or https"),
        ("unix:/run/x.sock", "use http or https"),
        ("file:///etc/passwd", "use http or https"),
        ("http://me:secret@h", "additional headers"),
        ("http://h:70000", "cannot be parsed"),
        ("http://h:0", "port 0"),
        ("http://h:x", "cannot be parsed"),
        ("http://[::1", "cannot be parsed"),
        ("http://a b", "printable ASCII"),
        ("http://h/\r\nx: y", "printable ASCII"),
        ("http://h/ä", "printable ASCII"),
        ("http://h%0d/", "no valid host"),
        ("http://h/" + "x" * 3_000, "printable ASCII"),
        ("", "printable ASCII"),
    ],
)
def test_what_is_no_base_uri_is_refused_with_a_reason(text: str, reason: str) -> None:
    """C90: at once, and what to do; credentials are not repeated (Z5)."""
    with pytest.raises(InvalidUriError) as caught:
        parse_uri(text)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_base_uri_or_refused(text: str) -> None:
    """N1."""
    for candidate in (text, "http://" + text):
        try:
            uri = parse_uri(candidate)
        except InvalidUriError:
            continue
        assert uri.scheme in {"http", "https"}
        assert uri.host
        assert 0 < uri.port < 65_536


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
        "fd20:ce::254", "100.100.100.200", "192.0.0.192", "224.0.0.1", "ff02::1",
        "255.255.255.255", "0.0.0.0", "::", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::", "::ffff:0.0.0.0",
    ],
)  # fmt: skip
def test_addresses_that_are_no_deployments_are_refused(address: str) -> None:
    """Z3, also when an IPv4 address hides in an IPv6 one."""
    with pytest.raises(TargetRefusedError) as caught:
        Targets().check(address, 80)
    assert address in str(caught.value)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "8.8.8.8", "fd00::1", "2001:db8::1"]
)
def test_other_addresses_are_allowed(address: str) -> None:
    """Design 3.10: everything but a few."""
    Targets().check(address, 9080)


def test_own_listeners_are_refused() -> None:
    """A deployment on the server itself would call it in circles."""
    targets = Targets([("127.0.0.1", 8080), ("0.0.0.0", 9070)])
    targets.add_listener("::", 5122)
    targets.check("127.0.0.1", 8081)
    targets.check("10.0.0.1", 8080)
    targets.check("10.0.0.1", 9070)
    for address, port in (
        ("127.0.0.1", 8080), ("::ffff:127.0.0.1", 8080), ("127.0.0.1", 9070), ("127.8.8.8", 9070),
        ("::1", 5122),
    ):  # fmt: skip
        with pytest.raises(TargetRefusedError, match="this server itself"):
            targets.check(address, port)


def test_a_listener_on_all_addresses_is_refused_through_each_of_this_machine() -> None:
    """Known once the connection stands: both of its ends have the same address."""
    targets = Targets([("0.0.0.0", 9070)])
    with pytest.raises(TargetRefusedError, match="this server itself"):
        targets.check("10.0.0.1", 9070, is_local=True)
    targets.check("10.0.0.1", 9071, is_local=True)


def test_networks_narrow_and_never_widen() -> None:
    """The setting of design 3.10."""
    targets = Targets(networks=("10.0.0.0/8", "169.254.0.0/16", "fd00::/8"))
    targets.check("10.9.9.9", 1)
    targets.check("::ffff:10.9.9.9", 1)
    targets.check("fd00::1", 1)
    for address in ("127.0.0.1", "11.0.0.1", "169.254.1.1"):
        with pytest.raises(TargetRefusedError):
            targets.check(address, 1)
    with pytest.raises(ValueError, match="nonsense"):
        Targets(networks=("nonsense",))


def test_a_name_in_place_of_an_address_is_refused() -> None:
    """Only resolved addresses are checked."""
    with pytest.raises(TargetRefusedError, match="no numeric address"):
        Targets().check("localhost", 80)
