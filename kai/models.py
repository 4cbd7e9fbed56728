"""What is known about embedding models: dimensions, limits, prices, and the fingerprint of a vector space.

The catalogue is knowledge, not a gate: a model that is not listed is allowed, because it may be newer than
this file. Numbers come from the providers' own pages; prices change, so check them at release.

Everything here is plain arithmetic on plain values. Importing this module loads no SDK.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

FAMILIES: Final = ("openai", "google", "ollama", "local")
"""The embedding families, in the order in which help texts list them."""

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


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Which vector lengths a model can give: a closed range, or a few lengths only.

    `minimum` and `maximum` are inclusive; where `only` is not empty, nothing else is possible.
    """

    minimum: int
    maximum: int
    only: tuple[int, ...] = ()

    def allows(self, dimensions: int) -> bool:
        """Whether the model can give vectors of this length."""
        if self.only:
            return dimensions in self.only
        return self.minimum <= dimensions <= self.maximum

    def __str__(self) -> str:
        """The rule in words: `1 to 1536`, `exactly 1536`, `64, 128 or 256`."""
        if len(self.only) > 1:
            return f"{', '.join(str(length) for length in self.only[:-1])} or {self.only[-1]}"
        if self.minimum == self.maximum:
            return f"exactly {self.minimum}"
        return f"{self.minimum} to {self.maximum}"


@dataclass(frozen=True, slots=True)
class Model:
    """One known embedding model.

    Attributes:
        family: One of `FAMILIES`.
        name: The name that the provider's API takes.
        dimensions: The vector lengths it can give; `None` where the server decides (Ollama).
        usual_dimensions: The length to suggest to someone who gave none.
        token_limit: Tokens a single text may have; `None` where there is no limit or the server decides.
        usd_per_million_tokens: List price of input tokens; 0 for models that run on one's own machine.
        takes_dimensions: Whether a request may name `dimensions`. OpenAI refuses it for ada-002 with 400.
        nests: Whether the first numbers of a vector are the model's vector of fewer dimensions, but for its length
            (Matryoshka).
    """

    family: str
    name: str
    dimensions: Dimensions | None
    usual_dimensions: int
    token_limit: int | None
    usd_per_million_tokens: float
    takes_dimensions: bool = True
    nests: bool = False


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may carry: at most `texts` texts and `tokens` tokens by `estimate_tokens`."""

    texts: int
    tokens: int


CATALOGUE: Final = (
    Model("openai", "text-embedding-3-small", Dimensions(1, 1536), 1536, 8192, 0.02, nests=True),
    Model("openai", "text-embedding-3-large", Dimensions(1, 3072), 3072, 8192, 0.13, nests=True),
    Model("openai", "text-embedding-ada-002", Dimensions(1536, 1536), 1536, 8192, 0.10, takes_dimensions=False),
    Model("google", "gemini-embedding-001", Dimensions(128, 3072), 768, 2048, 0.15, nests=True),
    Model("google", "gemini-embedding-2", Dimensions(128, 3072), 768, 8192, 0.20),
    Model("google", "gemini-embedding-2-preview", Dimensions(128, 3072), 768, 8192, 0.20),
    # Ollama serves a model in the length it has, and how long a text may be is the server's setting.
    Model("ollama", "nomic-embed-text", None, 768, None, 0.0),
    Model("ollama", "embeddinggemma", None, 768, None, 0.0),
    Model("ollama", "mxbai-embed-large", None, 1024, None, 0.0),
    Model("ollama", "bge-m3", None, 1024, None, 0.0),
    Model("ollama", "all-minilm", None, 384, None, 0.0),
    Model("local", "l2_supercat", Dimensions(64, 256, only=(64, 128, 256)), 256, None, 0.0, nests=True),
)
"""The known models. The first of a family is the one that remedies suggest."""

_LIMITS: Final = {
    # 2,048 texts and 300,000 tokens are refused above; a fifth is left for texts that the estimate takes
    # for shorter than they are. If it is still too much, the server says so and the caller halves the batch.
    "openai": RequestLimits(texts=2048, tokens=240_000),
    "google": RequestLimits(texts=100, tokens=20_000),
    # Ollama has no limit of its own; a request must come back well within the time-out on a slow machine.
    "ollama": RequestLimits(texts=256, tokens=100_000),
    "local": RequestLimits(texts=4096, tokens=1_000_000),
}

_LOCAL_ALIASES: Final = ("wordllama", "wordllama-l2-supercat", "word-llama-l2-supercat", "l2-supercat")
_NEAR_ENOUGH: Final = 0.6


def canonical_model(family: str, name: str) -> str:
    """The one spelling under which a model is known, so that equal spaces get equal fingerprints.

    Google takes `models/<name>` for `<name>`; Ollama takes `<name>:latest` for `<name>`; the local model is
    also called after its package. Any other name is returned as it is.
    """
    if family == "google":
        return name.removeprefix("models/")
    if family == "ollama":
        return name.removesuffix(":latest")
    if family == "local" and name.lower() in _LOCAL_ALIASES:
        return "l2_supercat"
    return name


def find_model(family: str, name: str) -> Model | None:
    """The catalogue's entry for a model, or `None` for a model that it does not know.

    A tag of an Ollama model (`nomic-embed-text:v1.5`) is looked up without the tag.
    """
    wanted = canonical_model(family, name)
    if family == "ollama":
        wanted = wanted.partition(":")[0]
    return next((model for model in CATALOGUE if model.family == family and model.name == wanted), None)


def usual_model(family: str) -> Model | None:
    """The model to suggest to someone who chose a family and no model; `None` for an unknown family."""
    return next((model for model in CATALOGUE if model.family == family), None)


def nearest_model(family: str, name: str) -> str | None:
    """The known model of the family whose name is nearest to a name that does not exist.

    `nearest_model("openai", "text-embedding-003-small")` is `text-embedding-3-small`. `None` if nothing is
    near, or if the name is a known one.
    """
    import difflib

    names = [model.name for model in CATALOGUE if model.family == family]
    wanted = canonical_model(family, name).lower()
    if wanted in names:
        return None
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=_NEAR_ENOUGH)
    return near[0] if near else None


def request_limits(family: str) -> RequestLimits:
    """How much one embedding request of a family may carry.

    Raises:
        KeyError: For a family that is not in `FAMILIES`.
    """
    return _LIMITS[family]


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has, rather too many than too few, in about a microsecond.

    Tokenizers are large downloads, so this counts bytes of UTF-8: a third of a token for every ASCII
    character (English has a fourth, SQL a third), 5/3 for a Chinese, Japanese or Korean character (they have
    0.7 to 1.5), 7/3 for an emoji. Texts of single digits or random symbols can have up to three times as
    many tokens as estimated; `RequestLimits` leaves room, and a server that refuses a batch has it halved.
    """
    characters = len(text)
    if text.isascii():
        return characters // 3 + 1
    # surrogatepass: a lone surrogate is the provider's to refuse, not a reason to fail while counting.
    return (2 * len(text.encode("utf-8", "surrogatepass")) - characters) // 3 + 1


def surely_over_token_limit(text: str, token_limit: int) -> bool:
    """Whether a text certainly has more tokens than a limit: it has more words than that.

    No tokenizer joins two words that white space separates, so words are a lower bound. `False` means
    "perhaps not". Costs nothing for texts of ordinary length.
    """
    if len(text) < 2 * token_limit:
        return False
    return len(text.split()) > token_limit


def estimate_cost(model: str, tokens: int) -> float | None:
    """List price in USD of embedding that many tokens; `None` if the model's price is not known.

    The free models of Ollama and `local` cost 0. `model` is a name of the catalogue in any family.
    """
    for known in CATALOGUE:
        if known.name == canonical_model(known.family, model):
            return known.usd_per_million_tokens * tokens / 1_000_000
    return None


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """The embedding configuration: what decides in which space a vector lies.

    Attributes:
        family: One of `FAMILIES`, in lower case.
        model: The model's name as the provider's API takes it.
        dimensions: Length of every vector.
        task_type: Google's task type; `None` for the other families.
    """

    family: str
    model: str
    dimensions: int
    task_type: str | None = None

    def describe(self) -> dict[str, str | int]:
        """Family, model and dimensions, as the console shows them."""
        return {"family": self.family, "model": self.model, "dimensions": self.dimensions}


def fingerprint(embedding: EmbeddingSettings, template: str) -> str:
    """Name a vector space in 16 hexadecimal digits: equal fingerprints, comparable vectors.

    Hashes family, model, dimensions, task type and the text template (`{condition}, {rules}`) as canonical
    JSON with SHA-256, so it is the same in every process and on every machine.
    """
    space = {
        "dimensions": embedding.dimensions,
        "family": embedding.family,
        "model": canonical_model(embedding.family, embedding.model),
        "task_type": embedding.task_type,
        "template": template,
    }
    canonical = json.dumps(space, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]
