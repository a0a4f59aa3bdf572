"""Signatures for AWS: the credentials of this machine, through botocore.

Lives here: `AwsSigner`: the standard chain of credentials, roles that are assumed.
Does not: what is signed and sent (invoker/lambda_.py).
botocore is the extra `lambda`, imported by the first call. It blocks (files, the metadata service,
STS), so all of it runs in threads; the signed request itself is sent by our own client.
"""

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from restated.daemon import system
from restated.invoker.lambda_ import Call
from restated.invoker.transport import Headers, TransportError, UnsendableError

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.session import Session

SERVICE: Final = "lambda"
SESSION_NAME: Final = "restated"  # under which an assumed role shows up in audit logs
ROLES_MAX: Final = 1_000
THREADS_MAX: Final = 8
MISSING: Final = "invoking Lambda functions needs botocore: pip install 'restated[lambda]'"


class AwsSigner:
    """Implements `Signer` (invoker/lambda_.py)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.endpoint = (
            environment.get("AWS_ENDPOINT_URL_LAMBDA")
            or environment.get("AWS_ENDPOINT_URL")
            or None
        )
        self._limiter = trio.CapacityLimiter(THREADS_MAX)
        self._opening = threading.Lock()
        self._session: Session | None = None
        self._credentials: dict[str | None, Credentials] = {}  # by role

    async def sign(self, call: Call) -> Headers:
        """The call's headers and those of its signature. Raises TransportError."""
        return await system.in_thread(partial(self._sign, call), self._limiter)

    def _sign(self, call: Call) -> Headers:
        try:
            from botocore.auth import SigV4Auth
            from botocore.awsrequest import AWSRequest
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise UnsendableError(MISSING) from error
        try:
            credentials = self._credentials_of(call.role, call.region).get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise TransportError(f"no AWS credentials: {error}") from error
        request = AWSRequest("POST", call.url, headers=dict(call.headers), data=call.body)
        SigV4Auth(credentials, SERVICE, call.region).add_auth(request)
        return tuple((name.lower(), value) for name, value in request.headers.items())

    def _credentials_of(self, role: str | None, region: str) -> "Credentials":
        # A session is not made for threads; clients and credentials that it gives are.
        with self._opening:
            found = self._credentials.get(role)
            if found is None:
                if len(self._credentials) >= ROLES_MAX:
                    self._credentials.clear()
                found = self._own() if role is None else self._assumed(role, region)
                self._credentials[role] = found
            return found

    def _own(self) -> "Credentials":
        found = self._opened().get_credentials()
        if found is None:
            raise TransportError(
                "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "a profile, or give the machine a role"
            )
        return found

    def _assumed(self, role: str, region: str) -> "Credentials":
        """Credentials of a role, fetched when they are first needed and before they expire."""
        from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

        session = self._opened()

        def create_client(service: str, **options: object) -> object:
            with self._opening:
                return session.create_client(service, region_name=region, **options)

        fetcher = AssumeRoleCredentialFetcher(
            create_client,
            self._own(),
            role,
            extra_args={"RoleSessionName": SESSION_NAME},
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")

    def _opened(self) -> "Session":
        if self._session is None:
            from botocore.session import Session

            self._session = Session()
        return self._session
