"""The embedding families: one table, a row each. To add one is to add its row, and the function that the row names.

A row says what a family is to the rest of the product: which variables configure it, what one request may carry, what
its query and document types are called, which package computes its vectors and how that comes to be installed. All
of it is plain values, so that reading it loads no SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import Final, Literal

PROJECT: Final = "kai-embedding-migration"
CUSTOM_PREFIX: Final = "custom:"
_CUSTOM: Final = re.compile(r"custom:[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may carry: at most `texts` texts and `tokens` tokens by `kai.models.estimate_tokens`."""

    texts: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable that configures a family.

    Attributes:
        name: as it stands in `.env`.
        kind: `key` is a secret; `url` one base URL; `urls` one or several, separated by commas; `text` anything else.
        required: whether the family cannot do without it.
        default: what counts where it is not set; for a URL the provider's own.
        example: what a remedy suggests, where there is no default.
        also: another variable that counts where this one is not set.
    """

    name: str
    kind: Literal["key", "url", "urls", "text"]
    required: bool = False
    default: str = ""
    example: str = ""
    also: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table.

    Attributes:
        name: the value of EMBEDDING_FAMILY.
        package: the distribution that computes the vectors.
        make: `module:function` that makes the `Embeddings` out of settings and a time-out in seconds.
        limits: what one request may carry, unless a model of it says otherwise.
        key: the variable with the key; None where there is none.
        base: the variable with the server's address; None where nobody is asked.
        more: further variables.
        extra: the extra of this project that installs the package; None where it always comes along.
        task_types: the provider's words for what a text is embedded as; empty where it knows no difference. The first
            is the default: the one with which `embed_query` asks, for that is what the application compares with.
        spell: the one spelling of a model's name.
    """

    name: str
    package: str
    make: str
    limits: RequestLimits
    key: Variable | None = None
    base: Variable | None = None
    more: tuple[Variable, ...] = ()
    extra: str | None = None
    task_types: tuple[str, ...] = ()
    spell: Callable[[str], str] = str

    @property
    def variables(self) -> Iterator[Variable]:
        """All of its variables."""
        yield from (each for each in (self.key, self.base) if each is not None)
        yield from self.more

    @property
    def where(self) -> str:
        """The setting to look at when the provider does not answer."""
        return self.base.name if self.base else "EMBEDDING_FAMILY"

    @property
    def who(self) -> str:
        """The setting to look at when the provider refuses the key."""
        return self.key.name if self.key else self.where


GOOGLE_TASK_TYPES: Final = (
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
    "TASK_TYPE_UNSPECIFIED",
)
"""Google's task types. KAI embeds everything, stored texts too, as `RETRIEVAL_QUERY`."""

_LOCAL_NAMES: Final = ("wordllama", "wordllama-l2-supercat", "word-llama-l2-supercat", "l2-supercat")


def _without_models(name: str) -> str:
    return name.removeprefix("models/")


def _without_latest(name: str) -> str:
    return name.removesuffix(":latest")


def _local_name(name: str) -> str:
    return "l2_supercat" if name.lower() in _LOCAL_NAMES else name


# OpenAI refuses more than 2,048 texts and 300,000 tokens; a fifth is left for texts that the estimate takes for shorter
# than they are. If it is still too much, the server says so and the caller halves the batch.
_OPENAI_LIMITS: Final = RequestLimits(texts=2048, tokens=240_000)

_ROWS: Final = (
    Family(
        "openai",
        package="langchain-openai",
        make="kai.providers.openai:openai",
        limits=_OPENAI_LIMITS,
        key=Variable("OPENAI_API_KEY", "key", required=True),
        # Where the first is not set, the SDK itself goes to the second.
        base=Variable("OPENAI_API_BASE", "urls", default="https://api.openai.com/v1", also="OPENAI_BASE_URL"),
    ),
    Family(
        "google",
        package="langchain-google-genai",
        make="kai.providers.google:gemini",
        limits=RequestLimits(texts=100, tokens=20_000),
        key=Variable("GOOGLE_API_KEY", "key", required=True),
        base=Variable("GOOGLE_API_BASE", "url", default="https://generativelanguage.googleapis.com"),
        task_types=GOOGLE_TASK_TYPES,
        spell=_without_models,
    ),
    Family(
        "ollama",
        package="langchain-ollama",
        make="kai.providers.ollama:ollama",
        # Ollama has no limit of its own; a request must come back well within the time-out on a slow machine.
        limits=RequestLimits(texts=256, tokens=100_000),
        base=Variable("OLLAMA_API_BASE", "urls", default="http://localhost:11434"),
        spell=_without_latest,
    ),
    Family(
        "local",
        package="wordllama",
        make="kai.providers.local:wordllama",
        limits=RequestLimits(texts=4096, tokens=1_000_000),
        extra="local",
        spell=_local_name,
    ),
    Family(
        "azure",
        package="langchain-openai",
        make="kai.providers.openai:azure",
        limits=_OPENAI_LIMITS,
        key=Variable("AZURE_OPENAI_API_KEY", "key", required=True),
        base=Variable("AZURE_OPENAI_ENDPOINT", "url", required=True, example="https://NAME.openai.azure.com"),
        more=(
            Variable("AZURE_OPENAI_DEPLOYMENT", "text"),
            Variable("OPENAI_API_VERSION", "text", default="2024-10-21"),
        ),
    ),
    Family(
        "vertex",
        package="langchain-google-genai",
        make="kai.providers.google:vertex",
        # What the predict call takes; the Gemini models take one text alone, as the catalogue says.
        limits=RequestLimits(texts=250, tokens=16_000),
        key=Variable("GOOGLE_APPLICATION_CREDENTIALS", "text"),  # a file's path, which is no secret
        # Which address counts without it, the SDK knows by the location.
        base=Variable("VERTEX_API_BASE", "url", example="https://europe-west1-aiplatform.googleapis.com"),
        more=(
            Variable("GOOGLE_CLOUD_PROJECT", "text", required=True, example="my-project"),
            Variable("GOOGLE_CLOUD_LOCATION", "text", default="us-central1"),
        ),
        task_types=GOOGLE_TASK_TYPES,
        spell=_without_models,
    ),
    Family(
        "cohere",
        package="langchain-cohere",
        make="kai.providers.hosted:cohere",
        limits=RequestLimits(texts=96, tokens=100_000),  # 96: embed_batch_size of the SDK
        key=Variable("COHERE_API_KEY", "key", required=True),
        base=Variable("COHERE_API_BASE", "url", default="https://api.cohere.com"),
        extra="cohere",
        task_types=("search_query", "search_document", "classification", "clustering"),
    ),
    Family(
        "voyage",
        package="langchain-voyageai",
        make="kai.providers.hosted:voyage",
        # 1,000 texts, and 120,000 tokens for the models with the lowest bound; a fifth is left as for OpenAI.
        limits=RequestLimits(texts=1000, tokens=96_000),
        key=Variable("VOYAGE_API_KEY", "key", required=True),
        # Without it, the SDK knows by the key whose it is: Voyage's own or MongoDB's.
        base=Variable("VOYAGE_API_BASE", "url", example="https://api.voyageai.com/v1"),
        extra="voyage",
        task_types=("query", "document"),
    ),
    Family(
        "mistral",
        package="langchain-mistralai",
        make="kai.providers.hosted:mistral",
        limits=RequestLimits(texts=256, tokens=12_800),  # 16,000 tokens by LangChain's own count
        key=Variable("MISTRAL_API_KEY", "key", required=True),
        base=Variable("MISTRAL_API_BASE", "url", default="https://api.mistral.ai/v1"),
        extra="mistral",
    ),
    Family(
        "tei",
        package="langchain-openai",
        make="kai.providers.openai:tei",
        limits=RequestLimits(texts=32, tokens=16_000),  # --max-client-batch-size, --max-batch-tokens
        key=Variable("TEI_API_KEY", "key"),
        base=Variable("TEI_API_BASE", "urls", required=True, example="http://localhost:8080/v1"),
    ),
    Family(
        "sentence-transformers",
        package="langchain-huggingface",
        make="kai.providers.local:sentence_transformers",
        limits=RequestLimits(texts=512, tokens=200_000),
        extra="sentence-transformers",
    ),
)
FAMILIES: Final[Mapping[str, Family]] = {row.name: row for row in _ROWS}
"""The table, by name, in the order in which help texts list it."""

# What a class of the user's own can take at once nobody knows: EMBEDDING_REQUEST_TEXTS and _TOKENS say it.
_OWN: Final = Family("custom", package="", make="kai.providers.custom:custom", limits=RequestLimits(32, 8_000))


def find_family(name: str) -> Family | None:
    """The row of a family, also of `custom:package.module:Class`; None if there is none."""
    return _OWN if _CUSTOM.fullmatch(name) else FAMILIES.get(name)


def family_of(name: str) -> Family:
    """The row of a family that exists.

    Raises:
        ValueError: there is none of this name.
    """
    row = find_family(name)
    if row is None:
        raise ValueError(f"there is no embedding family {name!r}")
    return row


@cache
def tool_of(name: str) -> tuple[str, str | None]:
    """The package that computes a family's vectors, and its installed version.

    A class of the user's own may be in no package: then it is its module, and no version.
    """
    package = family_of(name).package
    if package:
        return package, version(package)
    module = name.split(":")[1]
    owners = packages_distributions().get(module.partition(".")[0])
    return (owners[0], version(owners[0])) if owners else (module, None)
