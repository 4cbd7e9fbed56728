"""Settings become a LangChain `Embeddings` of the right family.

Whatever the family:

- `embed_documents([text])[0] == embed_query(text)`, and both equal what KAI's own `embed_query` gives.
- One call within `kai.models.request_limits` is exactly one HTTP request.
- Nothing is retried here: the caller is the only one that retries, and `kai.provider_errors` tells it when.
- The number and the length of the vectors are as the provider sent them; the caller checks them.
- No text is cut silently. OpenAI and, asked with `truncate: false`, Ollama refuse one that is too long with
  400; Google would cut it, so one that is certainly too long fails here; `local` has no limit.
- The same object may be used from several threads.

Importing this module is cheap. The SDK of the chosen family, and only that, is imported by `make_embeddings`,
which is why its classes are made inside functions.
"""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from kai.models import canonical_model, find_model, surely_over_token_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings

    FloatArray = npt.NDArray[np.float32]

DEFAULT_TIMEOUT_S: Final = 60.0

_DIMENSIONS_REFUSED: Final = (400, 422)
_TOKENS_PER_BLOCK: Final = 16_384


class MalformedAnswerError(ValueError):
    """The provider answered 200 with something that is not a list of vectors. Worth trying again."""


class TextTooLongError(ValueError):
    """A text is over the model's limit, and the provider would cut it without saying so."""


class ModelNotAvailableError(ValueError):
    """The model does not exist in its family."""


class MissingPackageError(ImportError):
    """An optional extra is not installed; the message names the command that installs it."""


@runtime_checkable
class ArrayEmbeddings(Protocol):
    """An `Embeddings` that hands out its vectors without a Python object for every number.

    For 768 dimensions that saves nine tenths of the time that an answer takes to read. The numbers are the
    same as those of `embed_documents`.
    """

    def embed_array(self, texts: list[str]) -> FloatArray:
        """Embed texts with one request into an array of shape (number of vectors, their length).

        Raises:
            MalformedAnswerError: If the answer has no vectors, or vectors of different lengths.
        """
        ...


@runtime_checkable
class NamesItsModel(Protocol):
    """An `Embeddings` whose server tells which model it has under a name."""

    def digest_of_model(self) -> str | None:
        """What the server calls this very model, another one where the name was given to another; `None` if unknown."""
        ...


def make_embeddings(settings: Settings, *, timeout: float = DEFAULT_TIMEOUT_S) -> Embeddings:
    """Build the `Embeddings` that the settings ask for, without asking the provider anything.

    Every object that is returned is an `ArrayEmbeddings`, too.

    Args:
        settings: As `kai.settings.load_settings` gives them.
        timeout: Seconds after which a request is given up.

    Raises:
        MissingPackageError: If the family is `local` and wordllama is not installed.
        ModelNotAvailableError: If the family is `local` and the model is not the one inside wordllama.
        ValueError: For a family that does not exist.
    """
    match settings.embedding.family:
        case "openai":
            return _make_openai(settings, timeout)
        case "google":
            return _make_google(settings, timeout)
        case "ollama":
            return _make_ollama(settings, timeout)
        case "local":
            return _make_local(settings.embedding.model, settings.embedding.dimensions)
        case unknown:
            message = f"there is no embedding family {unknown!r}"
            raise ValueError(message)


def _make_openai(settings: Settings, timeout: float) -> Embeddings:
    """OpenAI and the servers that speak its protocol.

    Strings are sent, not token ids: most compatible servers refuse ids, and counting them would download a
    vocabulary. Vectors are asked for in base64, the cheap way; a server that ignores this and sends numbers
    is understood as well.

    `dimensions` is sent unless the model is known to refuse it (ada-002). Some compatible servers refuse it
    for a model that has the right length anyway; then it is left out from there on, provided that the
    vectors do come in the right length. If they do not, the refusal stands.
    """
    import openai
    from langchain_openai import OpenAIEmbeddings
    from pydantic import PrivateAttr, SecretStr

    class OpenAIArrayEmbeddings(OpenAIEmbeddings):
        _names_dimensions: bool = PrivateAttr(default=True)
        _length: int = PrivateAttr(default=settings.embedding.dimensions)

        def embed_array(self, texts: list[str]) -> FloatArray:
            if self._names_dimensions and self.dimensions is not None:
                try:
                    return self._request(texts, {"dimensions": self.dimensions})
                except openai.APIStatusError as error:
                    if error.status_code not in _DIMENSIONS_REFUSED or "dimension" not in str(error).lower():
                        raise
                    return self._without_dimensions(texts, error)
            return self._request(texts, {})

        def _without_dimensions(self, texts: list[str], refusal: Exception) -> FloatArray:
            vectors = self._request(texts, {})
            if vectors.shape[1] != self._length:
                raise refusal
            self._names_dimensions = False
            return vectors

        def _request(self, texts: list[str], parameters: dict[str, Any]) -> FloatArray:
            # The SDK's own way of writing the texts and reading the vectors costs ten times as much as
            # the work itself: the texts go in as extra_body, which it does not walk through, and the
            # answer is taken raw.
            answer = self.client.with_raw_response.create(
                input="",
                model=self.model,
                encoding_format="base64",
                extra_body={"input": texts},
                **self.model_kwargs,
                **parameters,
            )
            return openai_vectors(read_json(answer.http_response.content))

        def embed_documents(self, texts: list[str], chunk_size: int | None = None, **kwargs: Any) -> list[list[float]]:
            return _as_lists(self.embed_array(texts))

    known = find_model("openai", settings.embedding.model)
    return OpenAIArrayEmbeddings(
        model=settings.embedding.model,
        dimensions=settings.embedding.dimensions if known is None or known.takes_dimensions else None,
        api_key=SecretStr(settings.openai_api_key),
        base_url=settings.openai_api_base,
        # Else OPENAI_API_TYPE=azure in the environment stops the class with a traceback.
        openai_api_type=None,
        check_embedding_ctx_length=False,
        max_retries=0,
        timeout=timeout,
    )


def _make_google(settings: Settings, timeout: float) -> Embeddings:
    """Google's Gemini API, with one task type for stored texts and questions, as KAI embeds both.

    LangChain's `embed_documents` estimates tokens in its own way and may split a batch into several requests,
    knows no time-out, and omits the role that its `embed_query` sends. This asks for all texts in one request
    and exactly as `embed_query` asks for one. The SDK retries nothing unless told to.
    """
    from google.genai.types import EmbedContentConfig, HttpOptions
    from langchain_google_genai import GoogleGenerativeAIEmbeddings
    from pydantic import SecretStr

    known = find_model("google", settings.embedding.model)
    token_limit = known.token_limit if known else None
    config = EmbedContentConfig(
        task_type=settings.embedding.task_type,
        output_dimensionality=settings.embedding.dimensions,
        http_options=HttpOptions(timeout=max(1, round(timeout * 1000))),
    )

    class GoogleArrayEmbeddings(GoogleGenerativeAIEmbeddings):
        def embed_array(self, texts: list[str]) -> FloatArray:
            if token_limit is not None and any(surely_over_token_limit(text, token_limit) for text in texts):
                message = f"the text has more than the {token_limit} tokens that {self.model} reads"
                raise TextTooLongError(message)
            answer = self.client.models.embed_content(
                model=self.model,
                contents=[{"role": "user", "parts": [{"text": text}]} for text in texts],
                config=config,
            )
            return _stack([embedding.values for embedding in answer.embeddings or ()])

        def embed_documents(self, texts: list[str], **_options: Any) -> list[list[float]]:
            return _as_lists(self.embed_array(texts))

        def embed_query(self, text: str, **_options: Any) -> list[float]:
            return self.embed_documents([text])[0]

    return GoogleArrayEmbeddings(
        model=settings.embedding.model,
        task_type=settings.embedding.task_type,
        output_dimensionality=settings.embedding.dimensions,
        api_key=SecretStr(settings.google_api_key),
        base_url=settings.google_api_base,
        vertexai=False,
    )


def _make_ollama(settings: Settings, timeout: float) -> Embeddings:
    """Ollama, asked as KAI asks it (no `dimensions`, no options), but for `truncate: false`.

    KAI would get the vector of the first part of a text that is longer than the model's context. That is a
    vector of another text, so here the server refuses it with 400 and the text fails by name.
    """
    import httpx
    import ollama
    from langchain_ollama import OllamaEmbeddings

    class OllamaArrayEmbeddings(OllamaEmbeddings):
        def digest_of_model(self) -> str | None:
            assert self._client is not None  # noqa: S101 - made by the class's own validator
            try:
                models = self._client.list().models
            except (ollama.ResponseError, httpx.HTTPError, OSError, ValueError):
                return None  # A proxy may pass on nothing but what embeds.
            tagged = self.model if ":" in self.model.rpartition("/")[2] else f"{self.model}:latest"
            return next((each.digest for each in models if each.model == tagged), None)

        def embed_array(self, texts: list[str]) -> FloatArray:
            assert self._client is not None  # noqa: S101 - made by the class's own validator
            answer = self._client.embed(
                self.model,
                texts,
                truncate=False,
                options=self._default_params,
                keep_alive=self.keep_alive,
            )
            return _stack(answer.embeddings)

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return _as_lists(self.embed_array(texts))

    return OllamaArrayEmbeddings(
        model=settings.embedding.model,
        base_url=settings.ollama_api_base,
        client_kwargs={"timeout": timeout},
    )


def _make_local(model: str, dimensions: int) -> Embeddings:
    """wordllama's static model: the mean of its tokens' vectors, made a unit vector; no key, no network.

    The weights come inside the package, and `load` finds its bundled tokenizer only if it is told that the
    package's own folder is its cache. Pooling is done here, text by text: in wordllama's batches a text is
    padded to the longest one, which costs gigabytes beside one long text. A text of any length is read to its
    end. One without any token gets zeros.
    """
    if canonical_model("local", model) != "l2_supercat":
        message = f"family local has no model {model!r}; it has l2_supercat"
        raise ModelNotAvailableError(message)
    try:
        with _root_logger_untouched():
            import numpy as np
            import wordllama
    except ImportError as error:
        message = "family local needs wordllama: pip install 'kai-embedding-migration[local]'"
        raise MissingPackageError(message) from error
    from langchain_core.embeddings import Embeddings

    inference = wordllama.WordLlama.load(
        config="l2_supercat",
        cache_dir=Path(wordllama.__file__).parent,
        trunc_dim=dimensions,
        disable_download=True,
    )
    weights: FloatArray = inference.embedding
    tokenizer = inference.tokenizer
    tokenizer.no_padding()

    class LocalEmbeddings(Embeddings):
        @staticmethod
        def _tokens(texts: list[str]) -> list[Any]:
            try:
                encodings: list[Any] = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            except TypeError:
                # What the tokenizer says of a lone surrogate; encoding it names the text's fault instead.
                "".join(texts).encode()
                raise
            return encodings

        def embed_array(self, texts: list[str]) -> FloatArray:
            vectors = np.zeros((len(texts), weights.shape[1]), dtype=np.float32)
            for row, encoding in enumerate(self._tokens(texts)):
                ids = encoding.ids
                for start in range(0, len(ids), _TOKENS_PER_BLOCK):
                    vectors[row] += weights[ids[start : start + _TOKENS_PER_BLOCK]].sum(axis=0)
            lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            np.divide(vectors, lengths[:, None], out=vectors, where=lengths[:, None] > 0)
            return vectors

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return _as_lists(self.embed_array(texts))

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    return LocalEmbeddings()


def _as_lists(vectors: FloatArray) -> list[list[float]]:
    lists: list[list[float]] = vectors.tolist()
    return lists


def openai_vectors(answer: Any) -> FloatArray:
    """Read the vectors of an OpenAI answer, base64 or numbers, in the order of the texts.

    Raises:
        MalformedAnswerError: It has none, or vectors of different lengths.
    """
    import numpy as np

    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        error = answer.get("error") if isinstance(answer, dict) else None
        message = f"the answer has no list of embeddings{f': {str(error)[:200]}' if error else ''}"
        raise MalformedAnswerError(message)
    positions = [entry.get("index") for entry in entries]
    # Some servers give every entry index 0: then only the order of the entries can be meant.
    if positions != list(range(len(entries))) and sorted(map(str, positions)) == sorted(map(str, range(len(entries)))):
        entries = sorted(entries, key=lambda entry: int(entry["index"]))
    raw = [entry.get("embedding") for entry in entries]
    if not all(isinstance(vector, str) for vector in raw):
        return _stack(raw)
    try:
        return _stack([np.frombuffer(base64.b64decode(vector), dtype="<f4") for vector in raw])
    except ValueError as error:
        message = "the answer has an embedding that is not base64 of float32"
        raise MalformedAnswerError(message) from error


def read_json(content: bytes | str) -> Any:
    """Parse a body; NaN and Infinity, which some servers write although JSON has none, are numbers here."""
    import json

    import orjson

    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content)


def _stack(vectors: Any) -> FloatArray:
    """Make one float32 array of the vectors; `null` becomes NaN, for the caller's check to find."""
    import numpy as np

    try:
        with np.errstate(over="ignore"):
            array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        message = "the answer has embeddings that are no numbers or differ in length"
        raise MalformedAnswerError(message) from error
    if array.size == 0:
        return array.reshape(len(vectors), 0)
    if array.ndim != 2:
        message = "the answer has embeddings that are no lists of numbers"
        raise MalformedAnswerError(message)
    return array


@contextlib.contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Importing wordllama calls `logging.basicConfig(level=INFO)`; with a handler there it does nothing."""
    import logging

    placeholder = logging.NullHandler()
    root = logging.getLogger()
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeHandler(placeholder)
