"""Operations on invocations and on the state of keys.

Lives here: cancel, kill, pause, resume, purge, purge-journal, restart-as-new, one by one and in
batches; the choice of a deployment; replacing the state of a key.
Does not: what an operation does and when it is refused (core/control.py).
Source: admin.md 6, 7.
"""

import re
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from restated.admin.app import AdminDeps
from restated.admin.bodies import BatchBody, StateBody
from restated.admin.exchange import (
    RequestError,
    answer,
    bad_id_reason,
    bad_query,
    deps_of,
    empty,
    failure,
    json_body,
    parameter,
    refusal,
    unfit,
)
from restated.core.effects import Done, Refused, Reply
from restated.core.events import (
    Cancel,
    Event,
    Kill,
    PatchState,
    Pause,
    Purge,
    PurgeJournal,
    RestartAsNew,
    Resume,
)
from restated.model import ids
from restated.model.errors import ErrorCode
from restated.model.records import Deployment, Invocation, Record, StatePatch

BATCH_MAX: Final = 1_000
INDEX_MAX: Final = 2**32 - 1
INDEX_DIGITS_MAX: Final = 20
_SCOPE: Final = re.compile(r"[a-zA-Z0-9_.-]*\Z")
_SHORT_REASONS: Final = {
    ErrorCode.INVOCATION_NOT_FOUND: "Invocation '{}' not found",
    ErrorCode.RESUME_RUNNING: "Cannot change deployment ID for invocation '{}'",
    ErrorCode.RESTART_NO_INPUT: (
        "Invocation '{}' cannot be restarted because the input is not available"
    ),
}


class _Choice(Record):
    """The deployment to go on with; without id the one that it has, or the latest."""

    deployment_id: str | None = None
    service_revision: int | None = None


class ChoiceError(Exception):
    """The chosen deployment cannot take the invocation over."""

    def __init__(self, message: str, short: str) -> None:
        super().__init__(message)
        self.message = message
        self.short = short  # as batches word it


# -- one by one


async def cancel(request: Request) -> Response:
    """Ask the handler to stop."""
    return await _operate(request, Cancel(_id_in_path(request)))


async def kill(request: Request) -> Response:
    """End the invocation and everything it called, without asking anybody."""
    return await _operate(request, Kill(_id_in_path(request)))


async def pause(request: Request) -> Response:
    """Stop attempting until resumed."""
    return await _operate(request, Pause(_id_in_path(request)))


async def purge(request: Request) -> Response:
    """Forget a completed invocation."""
    return await _operate(request, Purge(_id_in_path(request)))


async def purge_journal(request: Request) -> Response:
    """Forget the journal of a completed invocation."""
    return await _operate(request, PurgeJournal(_id_in_path(request)))


async def resume(request: Request) -> Response:
    """Attempt again, on the deployment of the query parameter `deployment`."""
    invocation_id = _id_in_path(request)
    choice = _choice_in_query(request, default="keep")
    try:
        event = _resume_event(deps_of(request), invocation_id, choice)
    except ChoiceError as error:
        return failure(400, error.message)
    return await _operate(request, event)


async def restart_as_new(request: Request) -> Response:
    """Run a completed invocation again under a new id."""
    invocation_id = _id_in_path(request)
    choice = _choice_in_query(request, default="latest")
    from_index = _from_in_query(request)
    deps = deps_of(request)
    try:
        event = _restart_event(deps, invocation_id, choice, from_index)
    except ChoiceError as error:
        return failure(400, error.message)
    reply = await deps.writer.submit(event)
    if isinstance(reply, Refused):
        return refusal(reply)
    assert isinstance(reply, Done)
    return answer({"new_invocation_id": reply.id})


async def end(request: Request) -> Response:
    """The old form: cancel, kill or purge without an answer about the outcome."""
    modes = {"cancel": Cancel, "kill": Kill, "purge": Purge}
    mode = parameter(request, "mode", "cancel")
    if mode not in modes and mode not in {name.title() for name in modes}:
        raise bad_query(
            f"mode: unknown variant `{mode}`, expected one of `Cancel`, `cancel`, `Kill`, `kill`, "
            "`Purge`, `purge`"
        )
    event = modes[mode.lower()](_id_in_path(request))
    await deps_of(request).writer.submit(event)
    return empty(202)


async def _operate(request: Request, event: Event) -> Response:
    return _outcome(await deps_of(request).writer.submit(event))


def _outcome(reply: Reply) -> Response:
    if isinstance(reply, Refused):
        return refusal(reply)
    is_final = not isinstance(reply, Done) or reply.is_final
    return empty(200 if is_final else 202)


# -- batches


async def batch(request: Request) -> Response:
    """One operation on up to 1,000 invocations; tells which of them refused, and why."""
    operation = str(request.path_params["operation"])
    if operation not in _BATCHES:
        return empty(404)
    asked = await json_body(request, BatchBody)
    if len(asked.invocation_ids) > BATCH_MAX:
        return failure(
            400,
            f"Batch size {len(asked.invocation_ids)} exceeds maximum allowed size of {BATCH_MAX}",
        )
    for position, invocation_id in enumerate(asked.invocation_ids):
        _check_id(invocation_id, position)
    choice = _choice_in_batch(asked, "keep" if operation == "resume" else "latest")
    deps = deps_of(request)
    events, failed = _batch_events(deps, operation, asked.invocation_ids, choice)
    succeeded: list[object] = []
    for event, reply in zip(events, await _submit_all(deps, events), strict=True):
        invocation_id = event.id
        if isinstance(reply, Refused):
            failed.append({"invocation_id": invocation_id, "error": _short(reply)})
        elif isinstance(event, RestartAsNew):
            succeeded.append(
                {"old_invocation_id": invocation_id, "new_invocation_id": event.new_id}
            )  # fmt: skip
        else:
            succeeded.append(invocation_id)
    return answer({"succeeded": succeeded, "failed": failed})


_Operation = Cancel | Kill | Pause | Purge | PurgeJournal | Resume | RestartAsNew
_PLAIN: Final[dict[str, type[Cancel | Kill | Pause | Purge | PurgeJournal]]] = {
    "cancel": Cancel, "kill": Kill, "pause": Pause, "purge": Purge, "purge-journal": PurgeJournal,
}  # fmt: skip
_BATCHES: Final = frozenset({*_PLAIN, "resume", "restart-as-new"})


def _batch_events(
    deps: AdminDeps, operation: str, invocation_ids: Sequence[str], choice: str
) -> tuple[list[_Operation], list[object]]:
    events: list[_Operation] = []
    failed: list[object] = []
    for invocation_id in invocation_ids:
        try:
            if operation == "resume":
                events.append(_resume_event(deps, invocation_id, choice))
            elif operation == "restart-as-new":
                events.append(_restart_event(deps, invocation_id, choice, 0))
            else:
                events.append(_PLAIN[operation](invocation_id))
        except ChoiceError as error:
            failed.append({"invocation_id": invocation_id, "error": error.short})
    return events, failed


async def _submit_all(deps: AdminDeps, events: Sequence[Event]) -> list[Reply]:
    """Replies in order; one commit covers many of them."""
    await deps.writer.room()
    tickets = [deps.writer.post(event) for event in events]
    return [await ticket.reply() for ticket in tickets]


def _short(refused: Refused) -> str:
    known = _SHORT_REASONS.get(refused.code)
    if known is not None:
        return known.replace("{}", refused.subject)
    message = refused.code.message(refused.subject).removesuffix(".")
    return message.replace("The invocation", "Invocation", 1)


# -- the choice of a deployment


def _resume_event(deps: AdminDeps, invocation_id: str, choice: str) -> Resume:
    if choice == "keep":
        return Resume(invocation_id)
    invocation = _stored(deps, invocation_id)
    if invocation is None or invocation.status not in {"invoked", "suspended", "paused"}:
        return Resume(invocation_id)  # refused, whatever was chosen
    is_pinned = invocation.deployment_id is not None
    if invocation.status != "invoked" and not is_pinned and choice == "latest":
        return Resume(invocation_id)  # the next attempt goes there by itself
    if invocation.status == "invoked" or not is_pinned:
        raise RequestError(refusal(Refused(ErrorCode.RESUME_RUNNING, invocation_id)))
    chosen = _resolve(deps, invocation, choice, "resume")
    return Resume(invocation_id, chosen.deployment_id, chosen.service_revision)


def _restart_event(
    deps: AdminDeps, invocation_id: str, choice: str, from_index: int
) -> RestartAsNew:
    now_ms = deps.clock.wall_ms()
    new_id = ids.new_invocation_id_beside(
        invocation_id, now_ms, deps.rng.bytes(ids.ULID_ENTROPY_BYTES)
    )
    invocation = _stored(deps, invocation_id)
    chosen = _Choice()
    if invocation is not None and invocation.status == "completed":
        chosen = _resolve(deps, invocation, choice, "restart as new")
        if choice == "latest" and from_index == 0:
            chosen = _Choice()  # nothing to replay: the first attempt finds the latest itself
    return RestartAsNew(
        id=invocation_id,
        new_id=new_id,
        random_seed=ids.random_seed_for(new_id),
        from_index=from_index,
        deployment_id=chosen.deployment_id,
        service_revision=chosen.service_revision,
    )


def _resolve(deps: AdminDeps, invocation: Invocation, choice: str, verb: str) -> _Choice:
    """The deployment that `choice` means, checked against the pinned protocol version."""
    if choice == "keep":
        return _Choice(invocation.deployment_id, invocation.service_revision)
    catalog = deps.catalog.current
    if choice == "latest":
        entry = catalog.services.get(invocation.service)
        deployment = None if entry is None else entry.deployment
    else:
        entry = catalog.pinned.get((choice, invocation.service))
        deployment = catalog.deployments.get(choice)
    if deployment is not None:
        _check_version(invocation, deployment)
    if entry is None:
        message = f"The given deployment was not found when trying to {verb} the invocation "
        raise ChoiceError(
            f"{message}'{invocation.id}'.", f"Deployment not found for invocation '{invocation.id}'"
        )
    return _Choice(entry.deployment.id, entry.revision)


def _check_version(invocation: Invocation, deployment: Deployment) -> None:
    """A journal goes on in the protocol version that it was begun in."""
    version = invocation.protocol_version
    lowest, highest = deployment.protocol_version_min, deployment.protocol_version_max
    if version is None or lowest <= version <= highest:
        return
    reason = (
        f"nvocation '{invocation.id}' is running on protocol version '{version}', while the "
        f"chosen deployment '{deployment.id}' supports the range {lowest}..={highest}"
    )
    raise ChoiceError(f"The i{reason}.", f"I{reason}")


def _stored(deps: AdminDeps, invocation_id: str) -> Invocation | None:
    with deps.store.snapshot() as view:
        return view.by_id(invocation_id)


def _choice_in_query(request: Request, default: str) -> str:
    return _checked_choice(parameter(request, "deployment", default), "query parameter")


def _choice_in_batch(asked: BatchBody, default: str) -> str:
    return _checked_choice(asked.deployment or default, "request field")


def _checked_choice(value: str, where: str) -> str:
    if value.lower() in {"keep", "latest"}:
        return value.lower()
    try:
        return ids.parse_deployment_id(value)
    except ids.IdError as error:
        message = f"The {where} 'deployment' is invalid. Reason: {bad_id_reason(error)}"
        raise RequestError(failure(400, message)) from error


def _from_in_query(request: Request) -> int:
    value = parameter(request, "from", "0")
    if not (value.isascii() and value.isdecimal()):
        raise bad_query("from: invalid digit found in string")
    if len(value) > INDEX_DIGITS_MAX or int(value) > INDEX_MAX:
        raise bad_query("from: number too large to fit in target type")
    return int(value)


# -- ids


def _id_in_path(request: Request) -> str:
    value = str(request.path_params["invocation_id"])
    try:
        ids.parse_invocation_id(value)
    except ids.IdError as error:
        message = f"The request field 'invocation_id' is invalid. Reason: {bad_id_reason(error)}"
        raise RequestError(failure(400, message)) from error
    return value


def _check_id(invocation_id: str, position: int) -> None:
    try:
        ids.parse_invocation_id(invocation_id)
    except ids.IdError as error:
        raise unfit(bad_id_reason(error), f"invocation_ids[{position}]") from error


# -- state


async def put_state(request: Request) -> Response:
    """Replace the whole state of one key, behind the exclusive handler that holds it.

    With a `version` that is not the digest of the current state nothing happens, silently.
    """
    deps = deps_of(request)
    name = str(request.path_params["service"])
    asked = await json_body(request, StateBody)
    scope = asked.scope or ""
    if not _SCOPE.match(scope):
        return failure(
            500, "bad scope: value contains characters outside the allowed set [a-zA-Z0-9_.-]"
        )
    entry = deps.catalog.current.services.get(name)
    if entry is None:
        if not asked.new_state:
            return empty(202)
        return refusal(Refused(ErrorCode.SERVICE_NOT_FOUND, name))
    if not entry.is_keyed:
        return refusal(Refused(ErrorCode.STATE_UNSUPPORTED, "Service"))
    values = tuple(
        (key, value.encode() if isinstance(value, str) else bytes(value))
        for key, value in sorted(asked.new_state.items())
    )
    reply = await deps.writer.submit(
        PatchState(name, asked.object_key, StatePatch(values, asked.version), scope)
    )
    if isinstance(reply, Refused):
        return refusal(reply)
    return empty(202)
