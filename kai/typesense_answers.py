"""What the Typesense server answers, told apart: an error that waiting may help, one that it may not, no answer.

Every answer that is not 2xx, every broken connection and every body that is not of the expected form becomes a
`TypesenseError`. No error text carries the API key.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx
import orjson

from kai.provider_errors import finite_number

T = TypeVar("T")
Schema = dict[str, Any]
"""A collection as `GET /collections/:name` returns it."""

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_EXHAUSTED = (
    "running out of resource",
    "out_of_disk",
    "out_of_memory",
    "out of memory",
    "out of disk",
    "memory",
    "disk space",
)
"""What a server says that takes no writes for now: `Rejecting write: running out of resource type: OUT_OF_DISK`."""
_SKIPPING: Final = "skipping writes"
"""What a server says to every write while its operator has switched writes off."""
_NO_LEADER: Final = "an empty answer, as a follower gives to writes while its cluster has no leader"


_UNKNOWN_AUTHORITY: Final = (18, 19, 20, 21)
"""What OpenSSL calls a certificate that nobody known has signed: self-signed, or by an authority of one's own."""
_OTHER_NAME: Final = (62, 64)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""What it calls an answer that is none of TLS."""


class TypesenseError(Exception):
    """A request that did not do what it should.

    Attributes:
        status: HTTP status, or None where there was no (complete) answer.
        transient: whether the same request may succeed later.
        retry_after: seconds that the server asked to wait, if it did.
        setting: the variable that is at fault; empty where that is not certain.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        transient: bool = False,
        retry_after: float | None = None,
        setting: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.transient = transient
        self.retry_after = retry_after
        self.setting = setting

    @property
    def unauthorized(self) -> bool:
        """The key was refused."""
        return self.status in (401, 403)

    @property
    def missing(self) -> bool:
        """The collection, document or alias is not there."""
        return self.status == 404


@dataclass(frozen=True, slots=True)
class ImportAnswer:
    """What the server said to one line of an import. `code` is 0 and `error` empty on success.

    Attributes:
        document: the whole document as it stands after the line, where that was asked for and the line succeeded.
    """

    success: bool
    code: int = 0
    error: str = ""
    document: dict[str, Any] | None = None


def read_json(response: httpx.Response, read: Callable[[bytes], Any] = orjson.loads) -> Any:
    """The body, read; a body that is no JSON is a passing fault."""
    try:
        return read(response.content)
    except orjson.JSONDecodeError as error:
        raise TypesenseError(
            f"the server's answer is not JSON: {response.text[:80]!r}",
            status=response.status_code,
            transient=True,
        ) from error


def own_fields(document: dict[str, Any]) -> dict[str, Any]:
    """A document without the numbers by which the server finds what it refers to.

    Searches and exports do not show those; the answers to a deletion and to an import with `return_doc` do.
    """
    helpers = {".ref", *document.get(".ref", ())}
    return {name: value for name, value in document.items() if name not in helpers}


def read_object(answer: Any) -> dict[str, Any]:
    """An answer that is an object."""
    if not isinstance(answer, dict):
        raise TypesenseError("the server's answer is not an object", transient=True)
    return answer


def read_schema(answer: Any) -> Schema:
    """A collection, as `GET /collections/:name` returns it."""
    if not isinstance(answer, dict) or not isinstance(answer.get("fields"), list) or "name" not in answer:
        raise TypesenseError("the server's answer is not a collection's schema", transient=True)
    return dict(answer)


def read_list(answer: Any) -> list[Any]:
    """An answer that is a list."""
    if not isinstance(answer, list):
        raise TypesenseError("the server's answer is not a list", transient=True)
    return answer


def read_search(answer: Any) -> dict[str, Any]:
    """An answer with `found` and `hits`."""
    if not isinstance(answer, dict) or not isinstance(answer.get("hits"), list) or "found" not in answer:
        raise TypesenseError("the server's search answer has no hits in it", transient=True)
    return answer


def attempt(request: Callable[[], T]) -> T:
    """Make a request; whatever goes wrong with it is a `TypesenseError`."""
    with translated():
        return request()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what httpx and the official client raise into a `TypesenseError`."""
    try:
        yield
    except TypesenseError:
        raise
    except httpx.TimeoutException as error:
        raise TypesenseError(f"time-out ({type(error).__name__})", transient=True) from error
    except httpx.HTTPError as error:
        if (refusal := _refusal_of_tls(error)) is not None:
            raise refusal from error
        raise TypesenseError(f"connection failed: {error or type(error).__name__}", transient=True) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # The official client decodes JSON itself: a body that is none, or not of the expected form.
        raise TypesenseError(f"the server's answer cannot be read: {type(error).__name__}", transient=True) from error


def _refusal_of_tls(error: BaseException) -> TypesenseError | None:
    """What keeps TLS from being spoken at all, which no waiting helps; None for any other trouble."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__  # httpcore cuts the one and leaves the other.
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"its certificate is refused: {cause.verify_message.rstrip('.')}"
        if cause.verify_code in _UNKNOWN_AUTHORITY:
            remedy = "set it to a file with the certificate (PEM) of the authority that issued it"
            return TypesenseError(f"{why}; {remedy}", setting="TYPESENSE_CA_FILE")
        if cause.verify_code in _OTHER_NAME:
            return TypesenseError(f"{why}; write the name that it is issued for", setting="TYPESENSE_HOST")
        return TypesenseError(f"{why}; it has to be renewed on the server, or this machine's clock is wrong")
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return TypesenseError("it does not speak TLS there; write http, or another port", setting="TYPESENSE_PROTOCOL")
    return None


def raise_for_status(response: httpx.Response) -> None:
    """Raise what an answer that is not 2xx says."""
    if response.is_success:
        return
    with translated():
        response.read()
    try:
        message = str(orjson.loads(response.content)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = response.text[:200].strip() or (_NO_LEADER if response.status_code == 500 else response.reason_phrase)
    status = response.status_code
    exhausted = status == 422 and any(word in message.lower() for word in _EXHAUSTED)
    busy = status == 422 and "in progress" in message
    skipping = status == 422 and _SKIPPING in message.lower()
    if skipping:
        message += ' The operator has switched writes off; POST /config {"skip-writes": false} ends it'
    raise TypesenseError(
        f"{message} (HTTP {status})",
        status=status,
        transient=status in TRANSIENT_STATUSES or exhausted or busy or skipping,
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _seconds(header: str | None) -> float | None:
    seconds = finite_number(header)
    return None if seconds is None else min(seconds, 300.0)


def read_import_line(line: bytes) -> ImportAnswer:
    """What one line of the answer to an import says."""
    try:
        answer = orjson.loads(line)
        if answer["success"] is True:
            whole = answer.get("document")
            return ImportAnswer(True, document=own_fields(whole) if isinstance(whole, dict) else None)
        return ImportAnswer(False, int(answer.get("code", 0)), str(answer.get("error", "")))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TypesenseError(f"a line of the import's answer cannot be read: {line[:80]!r}", transient=True) from error
