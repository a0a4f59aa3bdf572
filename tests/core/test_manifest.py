"""Discovery manifests: shape, rules, mapping. Source: service-protocol.md 1.2, 1.3."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restated.core.manifest import DURATION_MS_MAX, Manifest, ManifestError, parse_manifest
from restated.model.services import Handler, Options, Payload, RetryOptions


def manifest(*services: dict[str, Any], **members: Any) -> bytes:
    shape = {"protocolMode": "BIDI_STREAM", "minProtocolVersion": 5, "maxProtocolVersion": 7}
    return json.dumps({**shape, "services": services, **members}).encode()


def service(
    name: str = "Desk", ty: str = "SERVICE", *handlers: Any, **members: Any
) -> dict[str, Any]:
    return {"name": name, "ty": ty, "handlers": handlers or [{"name": "do"}], **members}


def one_handler(ty: str, /, **members: Any) -> Handler:
    parsed = parse_manifest(manifest(service("Desk", ty, {"name": "do", **members})))
    return parsed.services[0].definition.handlers[0]


def refused(raw: bytes) -> tuple[int, str | None, str]:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(raw)
    return caught.value.status, caught.value.restate_code, caught.value.message


def test_the_top_level_becomes_mode_and_range() -> None:
    """1.2: an empty list of services is accepted."""
    assert parse_manifest(manifest()) == Manifest("bidi_stream", 5, 7, ())
    other = parse_manifest(manifest(protocolMode="REQUEST_RESPONSE", lambdaCompression="zstd"))
    assert (other.mode, other.compression) == ("request_response", "zstd")


@pytest.mark.parametrize(
    ("service_type", "handler_type", "effective"),
    [
        ("SERVICE", None, "shared"),
        ("SERVICE", "SHARED", "shared"),
        ("VIRTUAL_OBJECT", None, "exclusive"),
        ("VIRTUAL_OBJECT", "EXCLUSIVE", "exclusive"),
        ("VIRTUAL_OBJECT", "SHARED", "shared"),
        ("WORKFLOW", None, "shared"),
        ("WORKFLOW", "SHARED", "shared"),
        ("WORKFLOW", "WORKFLOW", "workflow"),
    ],
)
def test_service_and_handler_type_together_decide(
    service_type: str, handler_type: str | None, effective: str
) -> None:
    """1.2, second table."""
    assert one_handler(service_type, ty=handler_type).type == effective


@pytest.mark.parametrize(
    ("service_type", "handler_type", "shown"),
    [
        ("SERVICE", "WORKFLOW", "(Service, Some(Workflow))"),
        ("SERVICE", "EXCLUSIVE", "(Service, Some(Exclusive))"),
        ("VIRTUAL_OBJECT", "WORKFLOW", "(VirtualObject, Some(Workflow))"),
        ("WORKFLOW", "EXCLUSIVE", "(Workflow, Some(Exclusive))"),
    ],
)
def test_other_pairs_of_types_are_refused(service_type: str, handler_type: str, shown: str) -> None:
    """1.3, last row."""
    raw = manifest(service("Desk", service_type, {"name": "do", "ty": handler_type}))
    message = f"invalid combination of service type and handler type '{shown}'"
    assert refused(raw) == (400, None, message)


def test_options_of_services_and_handlers_are_kept_apart() -> None:
    """1.2: what is absent is inherited later, so it stays None."""
    raw = manifest(
        service(
            "Desk", "VIRTUAL_OBJECT",
            {"name": "do", "ingressPrivate": True, "abortTimeout": 2, "enableLazyState": False},
            inactivityTimeout=1, idempotencyRetention=3, journalRetention=4,
            retryPolicyInitialInterval=5, retryPolicyMaxInterval=6, retryPolicyMaxAttempts=7,
            retryPolicyExponentiationFactor=1.5, retryPolicyOnMaxAttempts="KILL",
        )
    )  # fmt: skip
    definition = parse_manifest(raw).services[0].definition
    assert definition.options == Options(
        inactivity_timeout_ms=1,
        idempotency_retention_ms=3,
        journal_retention_ms=4,
        retry=RetryOptions(5, 1.5, 6, 7, "kill"),
    )
    own = definition.handlers[0].options
    assert own == Options(public=False, abort_timeout_ms=2, lazy_state=False)


def test_no_attempts_at_all_means_one() -> None:
    """1.2: `retryPolicyMaxAttempts: 0` is stored as 1."""
    assert one_handler("SERVICE", retryPolicyMaxAttempts=0).options.retry.attempts_max == 1


@pytest.mark.parametrize("factor", [0, -1.5, 0.25, 1e308])
def test_any_number_is_a_factor(factor: float) -> None:
    """A deployment is not refused for the growth of its delays (C59)."""
    own = one_handler("SERVICE", retryPolicyExponentiationFactor=factor).options
    assert own.retry.factor == factor


def test_durations_are_bounded_so_that_no_time_overflows() -> None:
    """2**63 ms from now would be no storable time."""
    own = one_handler("SERVICE", journalRetention=2**63).options
    assert own.journal_retention_ms == DURATION_MS_MAX


def test_a_workflow_is_kept_as_its_run_handler_says() -> None:
    """admin.md 4.1: shown, and patched, as a setting of the service."""
    raw = manifest(
        service(
            "Trip", "WORKFLOW", {"name": "run", "ty": "WORKFLOW", "workflowCompletionRetention": 9}
        )
    )
    assert parse_manifest(raw).services[0].definition.options.workflow_retention_ms == 9


def test_inputs_and_outputs_keep_content_type_and_schema() -> None:
    """1.2: the schema is the text of the manifest."""
    own = one_handler(
        "SERVICE",
        input={"required": True, "contentType": "application/*", "jsonSchema": {"type": "object"}},
        output={"contentType": "text/plain", "setContentTypeIfEmpty": True},
    )
    assert own.input == Payload(True, "application/*", schema=b'{"type": "object"}')
    assert own.output == Payload(content_type="text/plain", set_content_type_if_empty=True)
    assert one_handler("SERVICE").input is None
    assert one_handler("SERVICE", input={}).input == Payload()


def test_of_equal_names_the_last_counts() -> None:
    """1.2, row `handlers`."""
    raw = manifest(
        service("A", "SERVICE", {"name": "x"}, {"name": "x", "documentation": "second"}),
        service("B"),
        service("A", "VIRTUAL_OBJECT"),
    )
    assert [(one.name, one.definition.type) for one in parse_manifest(raw).services] == [
        ("A", "virtual_object"),
        ("B", "service"),
    ]


@pytest.mark.parametrize("name", ["restateTickets", "RESTATE", "Restate.x", "openapi", "OpenAPI"])
def test_reserved_names_are_refused(name: str) -> None:
    """META0005."""
    message = f"[META0005] cannot insert/modify service '{name}' as it contains a reserved name"
    assert refused(manifest(service(name))) == (400, "META0005", message)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"not json", id="no JSON"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"services":[]}', id="no range"),
        pytest.param(manifest(more=1), id="unknown member at the top"),
        pytest.param(manifest(service(more=1)), id="unknown member of a service"),
        pytest.param(manifest(service("A", "SERVICE", {"name": "x", "y": 1})), id="of a handler"),
        pytest.param(
            manifest(service("A", "SERVICE", {"name": "x", "input": {"y": 1}})), id="of an input"
        ),
        pytest.param(
            manifest(service("A", "SERVICE", {"name": "x", "output": {"required": True}})),
            id="of an output",
        ),
        pytest.param(manifest(minProtocolVersion=0), id="version 0"),
        pytest.param(manifest(service("a b")), id="bad service name"),
        pytest.param(manifest(service("A\n")), id="service name with a line end"),
        pytest.param(manifest(service("A", "SERVICE", {"name": "x-y"})), id="bad handler name"),
        pytest.param(manifest(service("A", "FUNCTION")), id="unknown type"),
        pytest.param(manifest(service(inactivityTimeout=-1)), id="negative duration"),
        pytest.param(manifest(service(metadata={"a": 1})), id="metadata that are no texts"),
        pytest.param(
            manifest(service(workflowCompletionRetention=1)), id="retention on the service"
        ),
    ],
)
def test_what_cannot_be_decoded_is_quoted(raw: bytes) -> None:
    """1.3: 500 without code, the answer repeated at the end."""
    status, code, message = refused(raw)
    assert (status, code) == (500, None)
    assert message.startswith("received a bad response from the SDK that cannot be decoded: ")
    assert message.endswith(f"Discovery response: {raw.decode(errors='replace')}")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"protocolMode": None}, "missing protocol mode"),
        (
            {"minProtocolVersion": 6, "maxProtocolVersion": 5},
            "Expected min protocol version to be <= max protocol version. Received min protocol "
            "version '6', max protocol version '5'",
        ),
        (
            {"maxProtocolVersion": 2**31},
            "max protocol version must be in [1, 2147483647], but was 2147483648",
        ),
    ],
)
def test_a_senseless_range_or_mode_is_a_bad_response(members: dict[str, Any], reason: str) -> None:
    """META0013."""
    message = f"[META0013] [META0013] received a bad response from the SDK: {reason}"
    assert refused(manifest(**members)) == (500, "META0013", message)


@pytest.mark.parametrize(("lowest", "highest"), [(1, 1), (2, 4), (8, 99)])
def test_a_range_that_does_not_meet_ours_is_refused(lowest: int, highest: int) -> None:
    """META0012."""
    raw = manifest(minProtocolVersion=lowest, maxProtocolVersion=highest)
    assert refused(raw) == (
        500,
        "META0012",
        f"[META0012] [META0012] unsupported service protocol versions: [{lowest}, {highest}]. "
        "Supported versions by this runtime are [5, 7]. Please upgrade the SDK and try "
        "registering again.",
    )


def test_a_private_service_has_no_public_handler() -> None:
    """1.3."""
    raw = manifest(
        service("Desk", "SERVICE", {"name": "do", "ingressPrivate": False}, ingressPrivate=True)
    )
    assert refused(raw)[2] == (
        "The service Desk is private, but the do is explicitly set as public. This is not "
        "supported. Please make the service public, and hide the individual handlers"
    )


def test_retentions_stand_where_they_have_a_meaning() -> None:
    """1.3: workflow retention on the run only, idempotency retention not on it."""
    plain = manifest(service("A", "SERVICE", {"name": "do", "workflowCompletionRetention": 1}))
    message = "do sets the workflow_completion_retention, but it's not a WORKFLOW handler"
    assert refused(plain) == (400, None, message)
    run = {"name": "run", "ty": "WORKFLOW", "idempotencyRetention": 1}
    assert refused(manifest(service("A", "WORKFLOW", run)))[:2] == (400, None)


@pytest.mark.parametrize("content_type", ["json", "a/b/c", "", "*/json", "text/pl ain", "/", "a/"])
def test_an_input_needs_a_content_type_or_a_range(content_type: str) -> None:
    """1.3."""
    raw = manifest(service("A", "SERVICE", {"name": "do", "input": {"contentType": content_type}}))
    status, code, message = refused(raw)
    assert (status, code) == (400, None)
    assert message.startswith("the handler 'do' input content-type is not valid: can't parse the ")


def test_an_output_content_type_must_fit_into_a_header() -> None:
    """Z: what a service says must not split a response."""
    output = {"contentType": "text/plain\r\nx-y: z"}
    raw = manifest(service("A", "SERVICE", {"name": "do", "output": output}))
    assert refused(raw)[2].startswith("the handler 'do' output content-type is not valid: ")


def test_a_bad_schema_names_where_it_stands() -> None:
    """1.3; the schema's own rules are tested in test_schema_check.py."""
    given = {"jsonSchema": {"type": "nonsense"}}
    raw = manifest(service("A", "SERVICE", {"name": "do", "input": given}))
    status, code, message = refused(raw)
    assert (status, code) == (400, None)
    assert message.startswith('the json schema for A/do input is invalid: "nonsense" ')


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_an_error(raw: bytes) -> None:
    """Nothing else escapes."""
    try:
        parse_manifest(raw)
    except ManifestError as error:
        assert error.status in {400, 500}  # noqa: PT017 - one of two outcomes
