"""The batch interface of Google's Gemini API, by its SDK."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from kai.embeddings import DEFAULT_TIMEOUT_S, TextTooLongError
from kai.models import EmbeddingSettings, find_model, surely_over_token_limit
from kai.provider_errors import provider_fault
from kai.providers.answers import read_json
from migration.embedding.ahead.files import digest_of
from migration.embedding.ahead.service import Answer, BatchLimits, NoBatches, NoVector, Seen, Stage

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.types import BatchJob

    from kai.settings import Settings

_LARGE_TIMEOUT_MS: Final = 900_000
_NOT_FOUND: Final = 404
_REFUSED: Final = frozenset({3, 400})
"""INVALID_ARGUMENT, as gRPC and as HTTP number it."""
_STAGES: Final[Mapping[str, Stage]] = {
    "JOB_STATE_SUCCEEDED": "answered",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "answered",
    "JOB_STATE_EXPIRED": "answered",
    "JOB_STATE_CANCELLED": "answered",
    "JOB_STATE_FAILED": "failed",
}
"""Of any other state, the provider works on it."""


class GeminiBatches:
    """See `BatchService`.

    Args:
        client: the SDK's, which must repeat nothing.
        embedding: what is asked for.
        folder: where answers are put while they are read; those of a full batch take gigabytes.
    """

    key = "key"

    def __init__(self, client: Client, embedding: EmbeddingSettings, folder: Path) -> None:
        self.limits = BatchLimits()
        self._client, self._embedding, self._folder = client, embedding, folder
        known = find_model("google", embedding.model)
        self._token_limit = known.token_limit if known else None

    @classmethod
    def of(cls, settings: Settings, folder: Path) -> GeminiBatches:
        """With the key and the address of the settings."""
        from google.genai import Client
        from google.genai.types import HttpOptions

        options = HttpOptions(base_url=settings.base, timeout=round(DEFAULT_TIMEOUT_S * 1000))
        client = Client(api_key=settings.key, vertexai=False, http_options=options)
        return cls(client, settings.embedding, folder)

    def check(self) -> None:
        """See `BatchService`."""
        try:
            self._client.batches.list(config={"page_size": 1})
        except Exception as error:
            fault = provider_fault(error)
            if fault.kind in ("bug", "transient", "rate_limited"):
                raise
            raise NoBatches(f"the list of batches: {fault.message}") from error

    def line(self, digest: bytes, text: str) -> bytes:
        """See `BatchService`; as the direct call asks, and no text that would be cut."""
        limit = self._token_limit
        if limit is not None and surely_over_token_limit(text, limit):
            raise TextTooLongError(f"the text has more than the {limit} tokens that {self._embedding.model} reads")
        request: dict[str, Any] = {
            "content": {"role": "user", "parts": [{"text": text}]},
            "outputDimensionality": self._embedding.dimensions,
        }
        if self._embedding.task_type is not None:
            request["taskType"] = self._embedding.task_type
        return orjson.dumps({"key": digest.hex(), "request": request})

    def upload(self, file: Path, name: str) -> str:
        """See `BatchService`."""
        options: Any = {"timeout": _LARGE_TIMEOUT_MS}
        sent = self._client.files.upload(
            file=file, config={"display_name": name, "mime_type": "application/jsonl", "http_options": options}
        )
        return sent.name or ""

    def submit(self, file_id: str, name: str) -> str:
        """See `BatchService`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The SDK calls it experimental.
            job = self._client.batches.create_embeddings(
                model=self._embedding.model, src={"file_name": file_id}, config={"display_name": name}
            )
        return job.name or ""

    def find(self, name: str, since: datetime) -> str | None:
        """See `BatchService`; nothing is said about the order of the list, so all of it is read."""
        jobs = self._client.batches.list(config={"page_size": 100})
        return next((job.name for job in jobs if job.display_name == name), None)

    def look(self, batch_id: str) -> Seen:
        """See `BatchService`."""
        job = self._job(batch_id)
        if job is None:
            return Seen("gone", "not found")
        state = job.state.value if job.state else "unknown"
        reason = (job.error.message if job.error else None) or ""
        return Seen(_STAGES.get(state, "waiting"), state, None, state == "JOB_STATE_CANCELLED", reason)

    def answers(self, batch_id: str) -> Iterator[Answer]:
        """See `BatchService`."""
        job = self._job(batch_id)
        if job is None or job.dest is None or job.dest.file_name is None:
            return
        options: Any = {"timeout": _LARGE_TIMEOUT_MS}
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _not_found_is_none(), tempfile.TemporaryFile(dir=self._folder) as file:
            self._client.files.download(file=job.dest.file_name, destination=file, config={"http_options": options})
            file.seek(0)
            for line in file:
                if line.strip() and (answer := answer_of(read_json(line))) is not None:
                    yield answer

    def cancel(self, batch_id: str) -> None:
        """See `BatchService`; one that has ended meanwhile is no error."""
        from google.genai.errors import ClientError

        with contextlib.suppress(ClientError):
            self._client.batches.cancel(name=batch_id)

    def clean(self, batch_id: str | None, file_id: str | None) -> None:
        """See `BatchService`."""
        job = self._job(batch_id) if batch_id is not None else None
        for each in (job.dest.file_name if job and job.dest else None, file_id):
            if each is not None:
                with _not_found_is_none():
                    self._client.files.delete(name=each)

    def _job(self, batch_id: str) -> BatchJob | None:
        with _not_found_is_none():
            return self._client.batches.get(name=batch_id)
        return None


@contextlib.contextmanager
def _not_found_is_none() -> Iterator[None]:
    from google.genai.errors import ClientError

    try:
        yield
    except ClientError as error:
        if error.code != _NOT_FOUND:
            raise


def answer_of(line: Any) -> Answer | None:
    """One line of a file of answers; None where it is for no text of ours."""
    if not isinstance(line, dict) or (digest := digest_of(line.get("key"))) is None:
        return None
    response = line.get("response")
    embedding = response.get("embedding") if isinstance(response, dict) else None
    values = embedding.get("values") if isinstance(embedding, dict) else None
    if isinstance(values, list):
        try:
            return digest, np.asarray(values, np.float32)
        except (TypeError, ValueError):
            return digest, NoVector("the answer has a vector that is no list of numbers", may_pass=True)
    fault = line.get("error") or (response.get("error") if isinstance(response, dict) else None) or {}
    words = fault if isinstance(fault, dict) else {"message": fault}
    reason = str(words.get("message") or "the answer has no vector")
    return digest, NoVector(reason, may_pass=words.get("code") not in _REFUSED)
