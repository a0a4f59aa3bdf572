"""Which texts are sources, sinks and names of clusters. Source: admin.md 8, 9; the reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.model.uris import (
    CLUSTER_NAME_CHARS_MAX,
    URI_CHARS_MAX,
    ResourceUri,
    UriError,
    parse_cluster_name,
    parse_resource_uri,
)

SHOWN = [
    ("kafka://c1/t", "kafka://c1/t"),
    ("kafka://c1", "kafka://c1/"),
    ("kafka://c1#f", "kafka://c1/"),
    ("kafka://c1/a/b//", "kafka://c1/a/b//"),
    ("kafka://c1?x", "kafka://c1/?x"),
    ("kafka://c1/t?x=1#f", "kafka://c1/t?x=1"),
    ('kafka://c1/{a"|^\\b}é%zz', 'kafka://c1/{a"|^\\b}é%zz'),
    ("kafka://u@c1:9/t", "kafka://u@c1:9/t"),
    ("kafka://[::1]:9/t", "kafka://[::1]:9/t"),
    ("KAFKA://c1/t", "KAFKA://c1/t"),
    ("1kafka://c1/t", "1kafka://c1/t"),
    # Without a scheme: which one is missing is for the core to say.
    ("/c1/t", "/c1/t"),
    ("://c1/t", "://c1/t"),
    ("kafka", "kafka"),
    ("kafka:c1", "kafka:c1"),
    ("*", "*"),
]
REFUSED = [
    ("", "empty string"),
    ("kafka://", "empty string"),
    ("kafka:///t", "invalid format"),
    ("kafka:/c1/t", "invalid format"),
    ("kafka//c1", "invalid format"),
    ("k_f://c1/t", "invalid format"),
    ("c1/t", "invalid format"),
    ("?x", "invalid format"),
    ("#", "invalid uri character"),
    ("kafka://c 1/t", "invalid uri character"),
    ("kafka://é/t", "invalid uri character"),
    ("kafka://c1/a b", "invalid uri character"),
    ("kafka://c1/a<b", "invalid uri character"),
    ("kafka://c1/a`b", "invalid uri character"),
    ("kafka://@/t", "invalid authority"),
    ("kafka://c1:1:2/t", "invalid authority"),
    ("kafka://c%31/t", "invalid authority"),
    ("kafka://[c1/t", "invalid authority"),
    ("kafka://c1/" + "t" * URI_CHARS_MAX, "uri too long"),
]


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_a_uri_is_shown_as_it_was_understood(text: str, shown: str) -> None:
    """9: an empty path is a slash, a fragment is dropped."""
    assert parse_resource_uri(text).display == shown


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_a_text_that_is_no_uri_is_refused_with_the_reason(text: str, reason: str) -> None:
    """9: 422."""
    with pytest.raises(UriError) as caught:
        parse_resource_uri(text)
    assert str(caught.value) == reason


def test_the_parts_of_a_uri() -> None:
    """9: cluster and topic, service and handler."""
    assert parse_resource_uri("kafka://box/a/b?x=1") == ResourceUri("kafka", "box", "/a/b", "x=1")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another error; what is read is read alike again."""
    try:
        uri = parse_resource_uri(f"kafka://{text}")
    except UriError:
        return
    assert parse_resource_uri(uri.display) == uri


@pytest.mark.parametrize("name", ["a", "A.b-c_d~e", "h:80", "a@b", "[::1]", "-a", "..", "(a)'*"])
def test_names_of_clusters(name: str) -> None:
    """8: what may stand between the slashes of a source."""
    assert parse_cluster_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty string"),
        ("a b", "invalid uri character"),
        ("a/b", "invalid uri character"),
        ("é", "invalid uri character"),
        ("a|b", "invalid uri character"),
        ("a%20b", "invalid authority"),
        ("a" * (CLUSTER_NAME_CHARS_MAX + 1), f"longer than {CLUSTER_NAME_CHARS_MAX} characters"),
    ],
)
def test_names_that_no_source_could_have(name: str, reason: str) -> None:
    """8: 422."""
    with pytest.raises(UriError) as caught:
        parse_cluster_name(name)
    assert str(caught.value) == reason
