"""What an exception of an embedding provider means: try again, leave the text, or stop.

The SDKs of the families raise unrelated classes and wrap each other's. They are told apart by what they carry
(a status, a body, headers) and by the names of their classes, so that no SDK is imported to explain an error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from kai.embeddings import (
    EndpointsError,
    MalformedAnswerError,
    MissingPackageError,
    ModelNotAvailableError,
    TextTooLongError,
)
from kai.settings import redact

FaultKind = Literal["rate_limited", "transient", "refused", "denied", "model_missing", "not_found", "bug"]

MESSAGE_LENGTH: Final = 300

_DENIED: Final = frozenset({401, 402, 403, 405, 407, 501})
_MODEL_MISSING: Final = frozenset({404, 410})
_NO_SUCH_MODEL: Final = ("model_not_found", "DeploymentNotFound", "invalid_model")
_TRANSIENT: Final = frozenset({408, 409, 425})
_HOPELESS_CONNECTIONS: Final = frozenset(
    {"UnsupportedProtocol", "LocalProtocolError", "InvalidURL", "SSLCertVerificationError"}
)
_BROKEN_CONNECTIONS: Final = frozenset({"APIConnectionError", "APITimeoutError", "TransportError", "StreamError"})
_BAD_BODIES: Final = frozenset({"APIResponseValidationError", "UnknownApiResponseError", "DecodingError"})
_READERS_OF_BODIES: Final = (
    *("openai", "google.genai", "ollama", "cohere", "voyageai"),
    *("httpx", "httpx2", "requests", "pydantic", "json"),
)
_NO_LOGIN: Final = frozenset({"DefaultCredentialsError", "RefreshError"})  # of google.auth
_NO_MEMORY: Final = "OutOfMemoryError"  # of torch: fewer texts may fit
# OpenAI shows the first and last letters of a wrong key; other servers quote headers and URLs.
_KEY_TRACES: Final = re.compile(
    r"(api[ _-]?key provided:?\s+|\bbearer\s+|[?&]key=|x-goog-api-key['\":\s]+)[^\s&'\",]+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ProviderFault:
    """One failed embedding request, understood.

    Attributes:
        kind: What to do about it.
            `rate_limited`: wait, then repeat. `transient`: repeat. `refused`: the request is at fault,
            perhaps for one of its texts; halve it. `denied`: key, quota or address are wrong, so that no
            request will succeed. `model_missing`: the provider has no such model. `bug`: not the provider's
            doing; let it be seen.
        retry_after: Seconds that the provider asks to wait; `None` if it does not say.
        status: HTTP status of the answer; `None` if there was none.
        message: The provider's words on one line of at most `MESSAGE_LENGTH` characters, without secrets.
    """

    kind: FaultKind
    retry_after: float | None
    status: int | None
    message: str


def provider_fault(exc: BaseException, secrets: Iterable[str] = ()) -> ProviderFault:
    """Understand an exception that `embed_array`, `embed_documents` or `embed_query` raised.

    Args:
        exc: The exception. LangChain's wrappers are looked through by way of `__cause__`.
        secrets: As `kai.settings.Settings.secrets` gives them; none is left in the message.
    """
    for error in _chain(exc):
        kind = _kind(error) if isinstance(error, Exception) else None
        if kind is not None:
            message = _message(error)
            break
    else:
        error, kind, message = exc, "bug", f"{type(exc).__name__}: {exc}"
    return ProviderFault(
        kind=kind,
        retry_after=_retry_after(error) if kind in ("rate_limited", "transient") else None,
        status=_status(error),
        message=_one_line(message, secrets),
    )


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception and its causes; a cause that leads back to itself ends the chain."""
    seen: set[int] = set()
    error: BaseException | None = exc
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _kind(error: BaseException) -> FaultKind | None:
    """The kind of one link of the chain; `None` if it says nothing by itself."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, MalformedAnswerError) or names & _BAD_BODIES:
        return "transient"
    if isinstance(error, TextTooLongError | UnicodeEncodeError) or _NO_MEMORY in names:
        return "refused"
    if isinstance(error, EndpointsError):
        return "not_found"
    if names & _NO_LOGIN:
        return "denied"
    if isinstance(error, ModelNotAvailableError):
        return "model_missing"
    if isinstance(error, MissingPackageError):
        return "denied"
    status = _status(error)
    if status is not None:
        return _kind_of_status(status, error)
    if _is_hopeless(error):
        return "denied"
    if names & _BROKEN_CONNECTIONS or _is_of_the_network(error):
        return "transient"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) or _raised_while_reading(error):
        return "transient"
    return None


def _kind_of_status(status: int, error: BaseException) -> FaultKind:
    details = _details(error)
    if any(word in details for word in _NO_SUCH_MODEL) or (status == 400 and "Invalid model name" in details):
        return "model_missing"
    if status == 429:
        return "denied" if "insufficient_quota" in details else "rate_limited"
    if status in _DENIED or (status == 400 and ("API_KEY_INVALID" in details or "API key not valid" in details)):
        return "denied"
    if status in _MODEL_MISSING:
        return "model_missing" if "model" in details.lower() else "not_found"
    if status in _TRANSIENT or status < 300:
        return "transient"
    if status >= 500:
        # Ollama cannot write NaN as JSON, and says so with 500: some text of the batch is the reason.
        return "refused" if "unsupported value: NaN" in details else "transient"
    return "refused" if status >= 400 else "denied"


def _status(error: BaseException) -> int | None:
    """The HTTP status: `status_code` (openai, ollama), `http_status` (voyage), `code` (google), the response's own."""
    response = getattr(error, "response", None)
    for owner, name in (
        (error, "status_code"),
        (error, "http_status"),
        (error, "code"),
        (response, "status_code"),
    ):
        value = getattr(owner, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def _is_of_the_network(error: BaseException) -> bool:
    """Whether an operating system error comes from a connection, and not from a file."""
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)


def _is_hopeless(error: BaseException) -> bool:
    """Whether the address itself is wrong: a URL that cannot be called, or a certificate not accepted."""
    return any(
        "certificate verify failed" in str(link).lower()
        or any(cls.__name__ in _HOPELESS_CONNECTIONS for cls in type(link).__mro__)
        for link in _chain(error)
    )


def _raised_while_reading(error: BaseException) -> bool:
    """Whether an SDK stumbled over an answer, such as a list where it expected an object."""
    if type(error).__module__.startswith("pydantic"):
        return True
    if not isinstance(error, TypeError | AttributeError | KeyError | IndexError | ValueError):
        return False
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return any(module == reader or module.startswith(f"{reader}.") for reader in _READERS_OF_BODIES)


def _details(error: BaseException) -> str:
    """Everything that the answer said, as one text to search in."""
    parts = (getattr(error, name, None) for name in ("code", "status", "body", "details", "error"))
    return " ".join(str(part) for part in (*parts, error, _body(error)) if part is not None)


def _body(error: BaseException) -> str | None:
    """The JSON that was answered, where the error has not read it: `http_body` (voyage), or the response's (httpx)."""
    try:
        body = getattr(error, "http_body", None) or getattr(getattr(error, "response", None), "text", None)
    except RuntimeError:  # httpx, of an answer that was never read
        return None
    return body if isinstance(body, str) and body.lstrip().startswith(("{", "[")) else None


def _message(error: BaseException) -> str:
    """The provider's own sentence, as deep inside the answer as it is; else the exception's."""
    for answer in (*(getattr(error, name, None) for name in ("body", "details", "error")), _body(error)):
        found = _sentence(answer)
        if found:
            return found
    text = str(error).strip() or type(error).__name__
    cause = error.__cause__
    if cause is not None and str(cause).strip() and str(cause) not in text:
        text = f"{text} ({cause})"
    return text


def _sentence(value: Any) -> str | None:
    """Find `message` or `error` in a body, which may be JSON in a string."""
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except ValueError:
            return value.strip() or None
        return _sentence(parsed) if isinstance(parsed, dict) else value
    if isinstance(value, list) and len(value) == 1:
        return _sentence(value[0])
    if not isinstance(value, dict):
        return None
    return next((found for name in ("error", "message", "detail") if (found := _sentence(value.get(name)))), None)


def _retry_after(error: BaseException) -> float | None:
    """Seconds to wait, from the headers, or from the RetryInfo of a Google answer."""
    headers = _headers(error)
    milliseconds = finite_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    seconds = finite_number(after)
    if seconds is None and isinstance(after, str):
        seconds = _seconds_until(after)
    return seconds if seconds is not None else _retry_info(getattr(error, "details", None))


def _headers(error: BaseException) -> Mapping[str, str]:
    """The answer's headers, of the error itself (cohere, voyage); ollama hides the answer behind its own exception."""
    for owner in (error, getattr(error, "response", None), getattr(error.__context__, "response", None)):
        headers = getattr(owner, "headers", None)
        if headers is not None and hasattr(headers, "get"):
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return {}


def finite_number(text: str | None) -> float | None:
    """The number of seconds that a header names; None for what is none, is negative or has no end."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds_until(http_date: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _retry_info(details: Any) -> float | None:
    """`retryDelay` (`"34s"`) in the details of a `google.rpc` error."""
    error = details.get("error", details) if isinstance(details, dict) else None
    entries = error.get("details") if isinstance(error, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        delay = entry.get("retryDelay") if isinstance(entry, dict) else None
        if isinstance(delay, str):
            return finite_number(delay.removesuffix("s"))
    return None


def _one_line(message: str, secrets: Iterable[str]) -> str:
    """Redact first, then shorten: a key cut in two would not be found."""
    line = _KEY_TRACES.sub(r"\1***", redact(" ".join(message.split()), secrets))
    line = "".join(character if character.isprintable() else " " for character in line)
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 3] + "..."
