"""Paths to routes (ingress.md 2, 3)."""

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.ingress.paths import (
    RequestError,
    Route,
    ToAwakeable,
    ToBody,
    ToHandler,
    ToHealth,
    ToIdempotent,
    ToInvocation,
    ToWorkflow,
    decoded,
    normalised,
    parse_path,
    parse_query,
)

KEYED = {"Svc": False, "Obj": True}


def parse(path: str) -> Route:
    """The route of a raw path."""
    return parse_path(normalised(path), KEYED.get)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/Svc/h", ToHandler("Svc", "h", None, waits=True)),
        ("//Svc/h//", ToHandler("Svc", "h", None, waits=True)),
        ("/Svc/h/send", ToHandler("Svc", "h", None, waits=False)),
        ("/Obj/a%2Fb/h", ToHandler("Obj", "h", "a/b", waits=True)),
        ("/Obj//h/send", ToHandler("Obj", "h", "", waits=False)),
        ("/Obj/send/send/send", ToHandler("Obj", "send", "send", waits=False)),
        ("/restate/call/Obj/k/h", ToHandler("Obj", "h", "k", waits=True)),
        ("/restate/send/Svc/h", ToHandler("Svc", "h", None, waits=False)),
        ("/restate/scope/s%31/call/Svc/h", ToHandler("Svc", "h", None, waits=True, scope="s1")),
        ("/restate/health/x/y", ToHealth()),
        ("/restate/a/sign_1/resolve", ToAwakeable("sign_1", succeeds=True)),
        ("/restate/awakeables/x/reject/y", ToAwakeable("x", succeeds=False)),
        ("/restate/invocation/inv_1/attach", ToInvocation("inv_1", waits=True)),
        ("/restate/output/inv_1", ToInvocation("inv_1", waits=False)),
        (
            "/restate/invocation/Svc/h/a%20b/output",
            ToIdempotent("Svc", None, "h", "a%20b", waits=False),
        ),
        ("/restate/invocation/Obj/%20/h/i/attach", ToIdempotent("Obj", " ", "h", "i", waits=True)),
        ("/restate/workflow/Nope/%2F/output/x", ToWorkflow("Nope", "/", waits=False)),
        ("/restate/attach", ToBody("attach")),
        ("/restate/output", ToBody("output")),
        ("/restate/lookup", ToBody("lookup")),
    ],
)  # fmt: skip
def test_a_path_has_one_route(path: str, route: Route) -> None:
    """ingress.md 3."""
    assert parse(path) == route


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        ("%FF", "bytes: [255], error: Utf8Error { valid_up_to: 0, error_len: Some(1) }"),
        ("%C3", "bytes: [195], error: Utf8Error { valid_up_to: 0, error_len: None }"),
        ("a%FFb", "bytes: [97, 255, 98], error: Utf8Error { valid_up_to: 1, error_len: Some(1) }"),
        ("%F0%9F%98x", "bytes: [240, 159, 152, 120], error: Utf8Error { valid_up_to: 0, "
                       "error_len: Some(3) }"),
    ],
)  # fmt: skip
def test_a_key_that_is_no_text_is_refused_with_its_bytes(octets: str, shown: str) -> None:
    """ingress.md 2."""
    with pytest.raises(RequestError) as refused:
        decoded(octets)
    assert refused.value.message == f"bad path, cannot decode key: FromUtf8Error {{ {shown} }}"


@given(st.text())
def test_a_key_survives_its_encoding(key: str) -> None:
    """N7: NUL, slashes, percent signs, four-byte characters."""
    encoded = quote(key.encode(errors="replace"), safe="")
    assert parse(f"/Obj/{encoded}/h") == ToHandler(
        "Obj", "h", key.encode(errors="replace").decode(), waits=True
    )


@given(st.text(alphabet="/%aSvcObj.restate0F\xe9", max_size=60))
def test_no_path_does_anything_but_route_or_be_refused(path: str) -> None:
    """N1."""
    with suppress(RequestError):
        assert isinstance(parse("/" + path), Route)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("delay=1s", "1s"),
        ("DeLay=1s", "1s"),
        ("x=1&d%65lay=2s&delay=3s", "2s"),
        ("delay=1+s%2C", "1 s,"),
        ("delay", ""),
        ("x=delay", None),
        ("delay=%ff", "\ufffd"),
    ],
)
def test_the_first_parameter_of_a_name_counts(query: str, value: str | None) -> None:
    """ingress.md 2."""
    assert parse_query(query, "delay") == value
