"""OpenAI's batch interface, and every other that answers as it does (Azure, LiteLLM): files and batches, by its SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from kai.embeddings import DEFAULT_TIMEOUT_S, MalformedAnswerError
from kai.models import EmbeddingSettings, find_model
from kai.provider_errors import provider_fault
from kai.providers.answers import openai_vectors, read_json
from migration.embedding.ahead.files import digest_of
from migration.embedding.ahead.service import Answer, BatchLimits, NoBatches, NoVector, Seen, Stage

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

    from kai.settings import Settings

_NAME: Final = "kai_embed"
"""Entry of a batch's metadata that has its name."""
_UPLOAD_TIMEOUT: Final = 900.0
"""Seconds for a file of up to 200 MB."""
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_STAGES: Final[Mapping[str, Stage]] = {
    "validating": "checking",
    "completed": "answered",
    "expired": "answered",
    "cancelled": "answered",
    "failed": "failed",
}
"""Of any other state, the provider works on it."""
_NO_ROOM: Final = "token_limit_exceeded"
_MAY_PASS: Final = frozenset({408, 409, 425, 429})


class OpenAIBatches:
    """See `BatchService`.

    Args:
        client: the SDK's, which must repeat nothing: a batch that is submitted twice is paid for twice.
        embedding: what is asked for.
        deployment: what Azure calls the model; empty for its name.
    """

    key = "custom_id"

    def __init__(self, client: OpenAI, embedding: EmbeddingSettings, *, deployment: str = "") -> None:
        self.limits = BatchLimits()
        self._client, self._path = client, "/v1/embeddings"
        known = find_model(embedding.family, embedding.model)
        # As the direct call asks: by strings, for base64, naming the dimensions where the model takes them.
        self._body: dict[str, Any] = {"model": deployment or embedding.model, "encoding_format": "base64"}
        if known is None or known.takes_dimensions:
            self._body["dimensions"] = embedding.dimensions

    @classmethod
    def of(cls, settings: Settings) -> OpenAIBatches:
        """With the key and the address of the settings."""
        from openai import OpenAI

        client = OpenAI(
            api_key=settings.key,
            base_url=settings.value("OPENAI_API_BASE"),
            timeout=DEFAULT_TIMEOUT_S,
            max_retries=0,
        )
        return cls(client, settings.embedding)

    @classmethod
    def of_azure(cls, settings: Settings) -> OpenAIBatches:
        """The same call of Azure OpenAI, whose lines name the deployment, which must be one for batches."""
        from openai import AzureOpenAI

        client = AzureOpenAI(
            api_key=settings.key,
            azure_endpoint=settings.base or "",
            api_version=settings.value("OPENAI_API_VERSION"),
            timeout=DEFAULT_TIMEOUT_S,
            max_retries=0,
        )
        return cls(client, settings.embedding, deployment=settings.value("AZURE_OPENAI_DEPLOYMENT"))

    def check(self) -> None:
        """See `BatchService`: the list of batches must be one, whoever answers."""
        try:
            answer = self._client.batches.with_raw_response.list(limit=1)
            found = read_json(answer.http_response.content)
        except ValueError:
            found = None
        except Exception as error:
            fault = provider_fault(error)
            if fault.kind in ("bug", "transient", "rate_limited"):
                raise
            raise NoBatches(f"GET {self._client.base_url}batches: {fault.message}") from error
        if not (isinstance(found, dict) and found.get("object") == "list" and isinstance(found.get("data"), list)):
            raise NoBatches(f"GET {self._client.base_url}batches is not answered with a list of batches")

    def line(self, digest: bytes, text: str) -> bytes:
        """See `BatchService`."""
        body = self._body | {"input": text}
        return orjson.dumps({"custom_id": digest.hex(), "method": "POST", "url": self._path, "body": body})

    def upload(self, file: Path, name: str) -> str:
        """See `BatchService`."""
        with file.open("rb") as content:
            sent = self._client.files.create(file=(f"{name}.jsonl", content), purpose="batch", timeout=_UPLOAD_TIMEOUT)
        return sent.id

    def submit(self, file_id: str, name: str) -> str:
        """See `BatchService`."""
        endpoint: Any = self._path
        made = self._client.batches.create(
            input_file_id=file_id, endpoint=endpoint, completion_window="24h", metadata={_NAME: name}
        )
        return made.id

    def find(self, name: str, since: datetime) -> str | None:
        """See `BatchService`; the newest come first."""
        oldest = (since - _CLOCKS_DIFFER).timestamp()
        for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get(_NAME) == name:
                return batch.id
            if batch.created_at < oldest:
                break
        return None

    def look(self, batch_id: str) -> Seen:
        """See `BatchService`."""
        from openai import NotFoundError

        try:
            batch = self._client.batches.retrieve(batch_id)
        except NotFoundError:
            return Seen("gone", "not found")
        errors = (batch.errors.data if batch.errors else None) or []
        reason = "; ".join(dict.fromkeys(each.message or each.code or "" for each in errors[:3]))
        stage = _STAGES.get(batch.status, "waiting")
        if stage == "failed" and any(each.code == _NO_ROOM for each in errors):
            stage = "no room"
        answered = batch.request_counts.completed if batch.request_counts else None
        return Seen(stage, batch.status, answered, batch.status == "cancelled", reason)

    def answers(self, batch_id: str) -> Iterator[Answer]:
        """See `BatchService`; read as they come, because the file of a full batch has hundreds of megabytes."""
        from openai import NotFoundError

        batch = self._client.batches.retrieve(batch_id)
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            # Gone where a power cut took the note that everything was kept.
            with (
                contextlib.suppress(NotFoundError),
                self._client.files.with_streaming_response.content(file_id, timeout=_UPLOAD_TIMEOUT) as content,
            ):
                for line in content.iter_lines():
                    if line.strip() and (answer := answer_of(read_json(line))) is not None:
                        yield answer

    def cancel(self, batch_id: str) -> None:
        """See `BatchService`; one that has ended meanwhile is no error."""
        from openai import BadRequestError, ConflictError, NotFoundError

        with contextlib.suppress(NotFoundError, ConflictError, BadRequestError):
            self._client.batches.cancel(batch_id)

    def clean(self, batch_id: str | None, file_id: str | None) -> None:
        """See `BatchService`."""
        from openai import NotFoundError

        batch: Batch | None = None
        if batch_id is not None:
            with contextlib.suppress(NotFoundError):
                batch = self._client.batches.retrieve(batch_id)
        for each in (batch.output_file_id if batch else None, batch.error_file_id if batch else None, file_id):
            if each is not None:
                with contextlib.suppress(NotFoundError):
                    self._client.files.delete(each)


def answer_of(line: Any) -> Answer | None:
    """One line of an output file or of an error file; None where it is for no text of ours."""
    if not isinstance(line, dict) or (digest := digest_of(line.get("custom_id"))) is None:
        return None
    response = line.get("response")
    if not isinstance(response, dict):
        response = {}
    status, body = response.get("status_code"), response.get("body")
    if status == 200:
        try:
            vectors = openai_vectors(body)
        except MalformedAnswerError as error:
            return digest, NoVector(str(error), may_pass=True)
        if len(vectors) != 1:
            return digest, NoVector(f"the provider returned {len(vectors)} vectors for 1 text", may_pass=True)
        return digest, vectors[0]
    fault = line.get("error") or (body.get("error") if isinstance(body, dict) else None) or {}
    words = fault if isinstance(fault, dict) else {"message": fault}
    reason = str(words.get("message") or words.get("code") or f"status {status}")
    # Without a status it was not tried: the batch expired or was cancelled before its turn.
    return digest, NoVector(reason, may_pass=status is None or status >= 500 or status in _MAY_PASS)
