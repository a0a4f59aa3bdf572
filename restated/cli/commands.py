"""The tree of commands, and those about deployments, services and SQL.

Lives here: `run_command`, deployments, services, sql.
Does not: invocations (invocations.py), how output looks (output.py), exit statuses (main.py).
The docstrings are the help texts.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec
from cyclopts import App, CycloptsError, Parameter

from restated.cli import invocations, output
from restated.cli.selection import literal
from restated.cli.session import Changing, Reading, UsageError
from restated.client import (
    AdminClient,
    ClientError,
    DbRow,
    DeploymentItem,
    DeploymentView,
    Registered,
    Registration,
    ServiceView,
)

READING: Final = Reading()
CHANGING: Final = Changing()
NOT_COMPLETED: Final = "status <> 'completed'"


def run_command(words: Sequence[str]) -> None:
    """Run a command but `serve`. UsageError, ClientError."""
    app = build_app()
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise UsageError(f"{_plain(error)} Try `restated --help`.") from error


def build_app() -> App:
    """The tree of commands."""
    settings = {
        "help_format": "plaintext",
        "version_flags": (),
        "default_parameter": Parameter(negative=()),
    }
    app = App(name="restated", help="Operate a restated daemon.", **settings)  # type: ignore[arg-type]  # one dict for all levels
    for name, summary, commands in (
        ("deployments", "Where services live.", DEPLOYMENTS),
        ("services", "What is registered.", SERVICES),
        ("invocations", "What runs, ran or will run.", invocations.COMMANDS),
    ):
        group = App(name=name, help=summary, **settings)  # type: ignore[arg-type]  # as above
        for verb, command in commands.items():
            group.command(command, name=verb)
        app.command(group)
    app.command(sql, name="sql")
    return app


def _plain(error: CycloptsError) -> str:
    return " ".join(str(error).split())


# -- deployments


def list_deployments(*, common: Reading = READING) -> None:
    """List deployments, newest first, with what they serve and what still runs there."""
    with common.client() as client:
        deployments = client.deployments()
        if common.wants_json:
            output.print_json(deployments)
            return
        latest = {service.name: service.deployment_id for service in client.services()}
        active = _active_by_deployment(client)
    output.print_table(
        ("ENDPOINT", "TYPE", "STATUS", "ACTIVE", "ID", "CREATED-AT", "SERVICES"),
        [
            (
                one.endpoint,
                "Lambda" if one.arn else "HTTP",
                _status(one, latest, active.get(one.id, 0)),
                active.get(one.id, 0),
                one.id,
                output.moment(one.created_at),
                "\n".join(f"{service.name} [{service.revision}]" for service in one.services),
            )
            for one in deployments
        ],
    )


def describe_deployment(deployment_id: str, /, *, common: Reading = READING) -> None:
    """Show one deployment and its services.

    Parameters
    ----------
    deployment_id
        Id of the deployment, `dp_...`.
    """
    with common.client() as client:
        deployment = client.deployment(deployment_id)
        if common.wants_json:
            output.print_json(deployment)
            return
        active = _active_by_deployment(client).get(deployment.id, 0)
    output.print_section("Deployment", [*_facts(deployment), ("Active invocations", active)])
    output.print_section("Services")
    for service in deployment.services:
        output.print_line(f"  {service.name}  {service.ty}  revision {service.revision}")
        _print_handlers(service, indent=4)


def register_deployment(  # noqa: PLR0913 - options of the command line
    address: str,
    /,
    *,
    force: bool = False,
    breaking: bool = False,
    dry_run: bool = False,
    use_http_11: Annotated[bool, Parameter(name=("--use-http1.1", "--use-http-11"))] = False,
    header: Sequence[str] = (),
    metadata: Sequence[str] = (),
    assume_role_arn: str | None = None,
    common: Changing = CHANGING,
) -> None:
    """Have a deployment discovered and register its services.

    Parameters
    ----------
    address
        URI of the deployment, or qualified ARN of a Lambda function.
    force
        Replace what is registered at this address.
    breaking
        Allow services to change their type.
    dry_run
        Only show what would change.
    use_http_11
        Speak HTTP/1.1 to it.
    header
        Header `name: value` to send with each request to it. May be repeated.
    metadata
        Note `key=value` to keep with it. May be repeated.
    assume_role_arn
        Role to assume when invoking a Lambda function.
    """
    is_arn = address.startswith("arn:")
    registration = Registration(
        uri=None if is_arn else _absolute(address),
        arn=address if is_arn else None,
        assume_role_arn=assume_role_arn,
        additional_headers=_pairs(header, ":", "--header 'name: value'"),
        metadata=_pairs(metadata, "=", "--metadata key=value"),
        use_http_11=use_http_11,
        breaking=breaking,
        force=force,
        dry_run=True,
    )
    with common.client() as client:
        before = {service.name: service.revision for service in client.services()}
        planned = client.register(registration)
        if not common.wants_json:
            _print_plan(planned, before, force=force)
        if not dry_run and (planned.is_new or force):
            if not planned.is_new:
                common.confirm(f"Replace the deployment {planned.id}?")
            planned = client.register(msgspec.structs.replace(registration, dry_run=False))
            if not common.wants_json:
                output.print_line(f"Registered {planned.id}.")
    if common.wants_json:
        output.print_json(planned)


def remove_deployment(
    deployment_id: str, /, *, force: bool = False, common: Changing = CHANGING
) -> None:
    """Forget a deployment. Its services fall back to their next older revision.

    Parameters
    ----------
    deployment_id
        Id of the deployment, `dp_...`.
    force
        Also when invocations are bound to it: they will fail to find it until they are resumed
        on another deployment.
    """
    with common.client() as client:
        deployment = client.deployment(deployment_id)
        active = _active_by_deployment(client).get(deployment.id, 0)
        if active and not force:
            raise ClientError(
                f"{output.counted(active, 'invocation')} bound to {deployment.id} "
                f"({deployment.endpoint}); wait for the end, resume on another deployment, or use "
                "--force"
            )
        common.confirm(
            f"Remove {deployment.id} ({deployment.endpoint}) with "
            f"{output.counted(len(deployment.services), 'service')} and "
            f"{output.counted(active, 'active invocation')}?"
        )
        client.remove_deployment(deployment.id)
    if common.wants_json:
        output.print_json({"removed": deployment.id})
    else:
        output.print_line(f"Removed {deployment.id}.")


DEPLOYMENTS: Final[dict[str, Callable[..., None]]] = {
    "list": list_deployments,
    "describe": describe_deployment,
    "register": register_deployment,
    "remove": remove_deployment,
}


def _absolute(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def _pairs(texts: Sequence[str], separator: str, form: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, found, value = text.partition(separator)
        if not found or not name.strip():
            raise UsageError(f"{text!r} is not of the form {form}.")
        pairs[name.strip()] = value.strip()
    return pairs


def _active_by_deployment(client: AdminClient) -> dict[str, int]:
    rows = client.query(
        "SELECT pinned_deployment_id, COUNT(1) AS active FROM sys_invocation_status "  # noqa: S608 - constant
        f"WHERE {NOT_COMPLETED} AND pinned_deployment_id IS NOT NULL GROUP BY pinned_deployment_id"
    )
    return {str(row["pinned_deployment_id"]): int(str(row["active"])) for row in rows}


def _status(one: DeploymentItem, latest: dict[str, str], active: int) -> str:
    if any(latest.get(service.name) == one.id for service in one.services):
        return "Active"
    return "Draining" if active else "Drained"


def _facts(one: DeploymentView) -> list[tuple[str, object]]:
    return [
        ("Id", one.id),
        ("Endpoint", one.endpoint),
        ("Transport", one.http_version or "AWS Lambda"),
        ("Exchange", one.protocol_type),
        ("Service protocol", f"{one.min_protocol_version} to {one.max_protocol_version}"),
        ("SDK", one.sdk_version),
        ("Created at", output.moment(one.created_at)),
        ("Headers", "\n".join(f"{name}: {text}" for name, text in one.additional_headers.items())),
        ("Metadata", "\n".join(f"{name}={text}" for name, text in one.metadata.items())),
    ]


def _print_plan(planned: Registered, before: dict[str, int], *, force: bool) -> None:
    if not planned.is_new and not force:
        output.print_line(f"Already registered as {planned.id}; nothing changes.")
        output.print_line("To have it discovered again, during development, use --force.")
        return
    output.print_section("Services")
    rows = [
        (
            service.name,
            service.ty,
            f"{before[service.name]} -> {service.revision}" if service.name in before else "new",
            ", ".join(handler.name for handler in service.handlers),
        )
        for service in planned.services
    ]
    output.print_table(("NAME", "TYPE", "REVISION", "HANDLERS"), rows, indent=2)
    output.print_line()


# -- services


def list_services(*, public_only: bool = False, common: Reading = READING) -> None:
    """List the latest revision of every service.

    Parameters
    ----------
    public_only
        Only those that clients can reach.
    """
    with common.client() as client:
        services = [one for one in client.services() if one.public or not public_only]
        if common.wants_json:
            output.print_json(services)
            return
        endpoints = {one.id: one.endpoint for one in client.deployments()}
    output.print_table(
        ("NAME", "ACCESS", "TYPE", "REVISION", "HANDLERS", "DEPLOYMENT-ID", "ENDPOINT"),
        [
            (
                one.name,
                "public" if one.public else "private",
                one.ty,
                one.revision,
                len(one.handlers),
                one.deployment_id,
                endpoints.get(one.deployment_id, ""),
            )
            for one in services
        ],
    )


def describe_service(name: str, /, *, common: Reading = READING) -> None:
    """Show a service: its settings, its handlers, what runs, older revisions.

    Parameters
    ----------
    name
        Name of the service.
    """
    with common.client() as client:
        service = client.service(name)
        if common.wants_json:
            output.print_json(service)
            return
        deployments = client.deployments()
        counts = client.query(
            "SELECT status, COUNT(1) AS n FROM sys_invocation WHERE target_service_name = "  # noqa: S608 - quoted
            f"{literal(name)} AND {NOT_COMPLETED} GROUP BY status ORDER BY status"
        )
    output.print_section("Service", _service_facts(service, counts))
    output.print_section("Handlers")
    _print_handlers(service, indent=2)
    older = [
        (one.endpoint, other.revision, one.id)
        for one in deployments
        for other in one.services
        if other.name == name and one.id != service.deployment_id
    ]
    if older:
        output.print_section("Older revisions")
        output.print_table(("ENDPOINT", "REVISION", "DEPLOYMENT-ID"), older, indent=2)


SERVICES: Final[dict[str, Callable[..., None]]] = {
    "list": list_services,
    "describe": describe_service,
}


def _service_facts(service: ServiceView, counts: list[DbRow]) -> list[tuple[str, object]]:
    retry = service.retry_policy
    attempts = "without end" if retry.max_attempts is None else f"{retry.max_attempts} attempts"
    return [
        ("Name", service.name),
        ("Type", service.ty),
        ("Access", "public" if service.public else "private"),
        ("Revision", service.revision),
        ("Deployment", service.deployment_id),
        ("Documentation", service.documentation),
        ("Metadata", "\n".join(f"{key}={text}" for key, text in service.metadata.items())),
        ("Idempotency retention", service.idempotency_retention),
        ("Workflow retention", service.workflow_completion_retention),
        ("Journal retention", service.journal_retention),
        ("Inactivity timeout", service.inactivity_timeout),
        ("Abort timeout", service.abort_timeout),
        ("Lazy state", service.enable_lazy_state),
        (
            "Retries",
            f"{retry.initial_interval} x {retry.exponentiation_factor}, at most "
            f"{retry.max_interval}; {attempts}, then {str(retry.on_max_attempts).lower()}",
        ),
        ("Invocations", ", ".join(f"{row['n']} {row['status']}" for row in counts) or "none"),
        ("Note", "\n".join(hint.message for hint in service.info)),
    ]


def _print_handlers(service: ServiceView, indent: int) -> None:
    rows = [
        (
            handler.name,
            handler.ty,
            "public" if handler.public else "private",
            handler.input_description,
            handler.output_description,
        )
        for handler in service.handlers
    ]
    output.print_table(("HANDLER", "TYPE", "ACCESS", "INPUT", "OUTPUT"), rows, indent=indent)


# -- SQL


def sql(query: str, /, *, common: Reading = READING) -> None:
    """Run one SQL query over the tables of restated-sql(7).

    Parameters
    ----------
    query
        The statement; only reading is allowed.
    """
    with common.client() as client:
        rows = client.query(query)
    if common.wants_json:
        output.print_json(rows)
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if columns:
        cells = [[_value(row.get(name)) for name in columns] for row in rows]
        output.print_table([name.upper() for name in columns], cells)
    output.print_note(output.counted(len(rows), "row"))


def _value(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return msgspec.json.encode(value).decode()
    return value
