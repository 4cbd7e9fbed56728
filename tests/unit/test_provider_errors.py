"""Exceptions that no stand-in can provoke, and the parts of an explanation.

The SDKs are loaded by the tests that need them: seconds, which each worker that only collects would pay.
"""

from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.embedding_interface import MalformedAnswerError, MissingPackageError, ModelNotAvailableError, TextTooLongError
from kai.provider_errors import MESSAGE_LENGTH, FaultKind, provider_fault

KEY = "sk-secret-0123456789"


class Answer:
    """As much of an HTTP response as an SDK's exception keeps."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.headers = headers or {}
        self.request = httpx.Request("POST", "http://provider.example.org")


def openai_error(status: int, body: object = None, headers: dict[str, str] | None = None) -> Exception:
    import openai

    answer: Any = Answer(status, headers)
    return openai.APIStatusError("the SDK's words", response=answer, body=body)


def google_error(status: int, message: str, details: list[dict[str, Any]] | None = None) -> Exception:
    from google.genai.errors import APIError

    body = {"error": {"code": status, "message": message, "status": "STATUS", "details": details or []}}
    return APIError(status, body)


def ollama_error(*arguments: Any) -> Exception:
    import ollama

    return ollama.ResponseError(*arguments)


def made(error: BaseException | partial[BaseException]) -> BaseException:
    return error() if isinstance(error, partial) else error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (partial(openai_error, 429, {"code": "insufficient_quota", "message": "You exceeded your quota."}), "denied"),
        (partial(openai_error, 403, {"code": "model_not_found", "message": "no access to model"}), "model_missing"),
        (partial(openai_error, 400, {"message": "Invalid model name passed in model=x"}), "model_missing"),
        (partial(openai_error, 400, {"message": "too long"}), "refused"),
        (partial(openai_error, 402), "denied"),
        (partial(openai_error, 405), "denied"),
        (partial(openai_error, 302), "denied"),
        (partial(openai_error, 529), "transient"),
        (partial(google_error, 400, "API key not valid.", [{"reason": "API_KEY_INVALID"}]), "denied"),
        (partial(google_error, 400, "INVALID_ARGUMENT"), "refused"),
        (partial(google_error, 429, "RESOURCE_EXHAUSTED"), "rate_limited"),
        (partial(ollama_error, '{"error":"model not found"}', 404), "model_missing"),
        (ConnectionError("refused"), "transient"),
        (ConnectionResetError(), "transient"),
        (TimeoutError(), "transient"),
        (socket.gaierror(8, "name not known"), "transient"),
        (httpx.ReadTimeout("slow"), "transient"),
        (httpx.RemoteProtocolError("peer closed connection"), "transient"),
        (httpx.UnsupportedProtocol("Request URL is missing a protocol."), "denied"),
        (httpx.InvalidURL("Invalid port"), "denied"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "denied"),
        (ssl.SSLCertVerificationError("self-signed"), "denied"),
        (json.JSONDecodeError("Expecting value", "<html>", 0), "transient"),
        (orjson.JSONDecodeError("unexpected character", "<html>", 0), "transient"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "transient"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), "refused"),
        (MalformedAnswerError("no vectors"), "transient"),
        (TextTooLongError("too long"), "refused"),
        (ModelNotAvailableError("no such model"), "model_missing"),
        (MissingPackageError("pip install"), "denied"),
        (FileNotFoundError("weights"), "bug"),
        (TypeError("unsupported operand"), "bug"),
        (AssertionError(), "bug"),
        (KeyboardInterrupt(), "bug"),
        (SystemExit(130), "bug"),
    ],
)
def test_an_exception_has_its_kind(error: BaseException | partial[BaseException], kind: FaultKind) -> None:
    fault = provider_fault(made(error))
    assert fault.kind == kind
    assert fault.message


def test_a_wrapper_is_looked_through() -> None:
    from langchain_google_genai._common import GoogleGenerativeAIError

    try:
        raise GoogleGenerativeAIError("Error embedding content: 503") from google_error(503, "overloaded")
    except GoogleGenerativeAIError as error:
        fault = provider_fault(error)
    assert (fault.kind, fault.status, fault.message) == ("transient", 503, "overloaded")


def test_an_sdk_that_stumbles_over_an_answer_makes_it_transient() -> None:
    import ollama

    answer = httpx.MockTransport(lambda _request: httpx.Response(200, json=["not", "an", "object"]))
    client = ollama.Client(host="http://ollama.example.org", transport=answer)
    with pytest.raises(TypeError) as caught:
        client.embed("model", ["text"])
    assert provider_fault(caught.value).kind == "transient"


IN_AN_HOUR = "the HTTP date of an hour from now, whenever the test runs"


def in_an_hour() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": IN_AN_HOUR}, 3600),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_time_to_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None, status: int) -> None:
    headers = {name: in_an_hour() if value == IN_AN_HOUR else value for name, value in headers.items()}
    after = provider_fault(openai_error(status, headers=headers)).retry_after
    assert after == seconds if not seconds else after == pytest.approx(seconds, abs=60)


def test_the_time_to_wait_is_read_from_googles_retry_info() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}
    assert provider_fault(google_error(429, "slow down", [{}, info])).retry_after == 34.07


def test_a_fault_that_waiting_does_not_mend_has_no_time_to_wait() -> None:
    assert provider_fault(openai_error(400, headers={"retry-after": "7"})).retry_after is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (partial(openai_error, 400, {"message": "too\n  long"}), "too long"),
        (partial(openai_error, 500, {"error": {"message": "deep inside"}}), "deep inside"),
        (partial(openai_error, 500, "plain words"), "plain words"),
        (partial(openai_error, 500), "the SDK's words"),
        (partial(ollama_error, '{"error":"ollama\'s words"}', 500), "ollama's words"),
        (TimeoutError(), "TimeoutError"),
        (TypeError("oops"), "TypeError: oops"),
    ],
)
def test_the_message_is_the_providers_own_sentence(error: BaseException | partial[BaseException], message: str) -> None:
    assert provider_fault(made(error)).message == message


def test_the_reason_of_a_broken_connection_is_told() -> None:
    import openai

    try:
        raise openai.APIConnectionError(request=Answer(0).request) from OSError("Connection refused")  # type: ignore[arg-type]
    except openai.APIConnectionError as error:
        assert provider_fault(error).message == "Connection error. (Connection refused)"


@pytest.mark.parametrize(
    "leak",
    [
        f"Incorrect API key provided: {KEY}",
        f"Illegal header value b'Bearer {KEY}'",
        f"GET https://host/v1?key={KEY}&x=1",
        f"could not connect to http://me:{KEY}@host",
        f"'x-goog-api-key': '{KEY}'",
    ],
)
def test_a_key_is_not_in_the_message_even_if_nobody_said_that_it_is_one(leak: str) -> None:
    assert KEY not in provider_fault(openai_error(401, {"message": leak})).message


@given(st.text(max_size=400), st.text(max_size=400))
def test_a_message_is_one_line_of_limited_length_without_the_key(before: str, after: str) -> None:
    message = provider_fault(ValueError(f"{before}{KEY}{after}"), [KEY]).message
    assert KEY not in message
    assert len(message) <= MESSAGE_LENGTH
    assert message.isprintable()
