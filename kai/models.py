"""What is known about embedding models: dimensions, limits, prices, and the fingerprint of a vector space.

The catalogue is knowledge, not a gate: a model that is not listed is allowed, because it may be newer than
this file. Numbers come from the providers' own pages; prices change, so check them at release.

Everything here is plain arithmetic on plain values. Importing this module loads no SDK.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Final

from kai.families import RequestLimits, family_of, find_family


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
        family: A name of `kai.families.FAMILIES`.
        name: The name that the provider's API takes.
        dimensions: The vector lengths it can give; `None` where the server decides (Ollama).
        usual_dimensions: The length to suggest to someone who gave none.
        token_limit: Tokens a single text may have; `None` where there is no limit or the server decides.
        usd_per_million_tokens: List price of input tokens; 0 for models that run on one's own machine, `None` where
            it is not known.
        takes_dimensions: Whether a request may name `dimensions`. OpenAI refuses it for ada-002 with 400.
        limits: What one request may carry, where that is another amount than the family's.
        nests: Whether the first numbers of a vector are the model's vector of fewer dimensions, but for its length
            (Matryoshka).
    """

    family: str
    name: str
    dimensions: Dimensions | None
    usual_dimensions: int
    token_limit: int | None
    usd_per_million_tokens: float | None
    takes_dimensions: bool = True
    limits: RequestLimits | None = None
    nests: bool = False


def _exactly(dimensions: int) -> Dimensions:
    return Dimensions(dimensions, dimensions)


_OPENAI: Final = (
    Model("openai", "text-embedding-3-small", Dimensions(1, 1536), 1536, 8192, 0.02, nests=True),
    Model("openai", "text-embedding-3-large", Dimensions(1, 3072), 3072, 8192, 0.13, nests=True),
    Model("openai", "text-embedding-ada-002", _exactly(1536), 1536, 8192, 0.10, takes_dimensions=False),
)
_ONE_TEXT: Final = RequestLimits(1, 20_000)
_VOYAGE: Final = Dimensions(256, 2048, only=(256, 512, 1024, 2048))

CATALOGUE: Final = (
    *_OPENAI,
    *(replace(model, family="azure") for model in _OPENAI),
    Model("google", "gemini-embedding-001", Dimensions(128, 3072), 768, 2048, 0.15, nests=True),
    Model("google", "gemini-embedding-2", Dimensions(128, 3072), 768, 8192, 0.20),
    Model("google", "gemini-embedding-2-preview", Dimensions(128, 3072), 768, 8192, 0.20),
    # Vertex AI takes one text a request for the Gemini models; the older ones are priced by the character.
    Model("vertex", "gemini-embedding-001", Dimensions(128, 3072), 768, 2048, 0.15, limits=_ONE_TEXT, nests=True),
    Model("vertex", "gemini-embedding-2", Dimensions(128, 3072), 768, 8192, 0.20, limits=_ONE_TEXT),
    Model("vertex", "text-embedding-005", Dimensions(1, 768), 768, 2048, None),
    Model("vertex", "text-multilingual-embedding-002", Dimensions(1, 768), 768, 2048, None),
    # Ollama serves a model in the length it has, and how long a text may be is the server's setting.
    Model("ollama", "nomic-embed-text", None, 768, None, 0.0),
    Model("ollama", "embeddinggemma", None, 768, None, 0.0),
    Model("ollama", "mxbai-embed-large", None, 1024, None, 0.0),
    Model("ollama", "bge-m3", None, 1024, None, 0.0),
    Model("ollama", "all-minilm", None, 384, None, 0.0),
    Model("local", "l2_supercat", Dimensions(64, 256, only=(64, 128, 256)), 256, None, 0.0, nests=True),
    # LangChain's class for Cohere cannot name a length, so each model gives its own.
    Model("cohere", "embed-v4.0", _exactly(1536), 1536, 128_000, 0.12, takes_dimensions=False),
    Model("cohere", "embed-english-v3.0", _exactly(1024), 1024, 512, 0.10, takes_dimensions=False),
    Model("cohere", "embed-multilingual-v3.0", _exactly(1024), 1024, 512, 0.10, takes_dimensions=False),
    Model("cohere", "embed-english-light-v3.0", _exactly(384), 384, 512, 0.10, takes_dimensions=False),
    Model("cohere", "embed-multilingual-light-v3.0", _exactly(384), 384, 512, 0.10, takes_dimensions=False),
    Model("voyage", "voyage-3.5", _VOYAGE, 1024, 32_000, 0.06, limits=RequestLimits(1000, 256_000)),
    Model("voyage", "voyage-3.5-lite", _VOYAGE, 1024, 32_000, 0.02, limits=RequestLimits(1000, 800_000)),
    Model("voyage", "voyage-3-large", _VOYAGE, 1024, 32_000, 0.18),
    Model("voyage", "voyage-code-3", _VOYAGE, 1024, 32_000, 0.18),
    Model("voyage", "voyage-4", _VOYAGE, 1024, 32_000, None, limits=RequestLimits(1000, 256_000)),
    Model("voyage", "voyage-4-lite", _VOYAGE, 1024, 32_000, None, limits=RequestLimits(1000, 800_000)),
    Model("voyage", "voyage-4-large", _VOYAGE, 1024, 32_000, None),
    Model("mistral", "mistral-embed", _exactly(1024), 1024, 8192, 0.10, takes_dimensions=False),
    Model("mistral", "codestral-embed", _exactly(1536), 1536, 8192, 0.15, takes_dimensions=False),
    # On one's own machines, and so without a price; a server cuts a text or refuses it by its own settings.
    Model("tei", "BAAI/bge-m3", None, 1024, None, 0.0, takes_dimensions=False),
    Model("tei", "intfloat/multilingual-e5-large", None, 1024, None, 0.0, takes_dimensions=False),
    Model("sentence-transformers", "sentence-transformers/all-MiniLM-L6-v2", Dimensions(1, 384), 384, None, 0.0),
    Model("sentence-transformers", "BAAI/bge-m3", Dimensions(1, 1024), 1024, None, 0.0),
)
"""The known models. The first of a family is the one that remedies suggest."""

_NEAR_ENOUGH: Final = 0.6


def canonical_model(family: str, name: str) -> str:
    """The one spelling under which a model is known, so that equal spaces get equal fingerprints.

    Google takes `models/<name>` for `<name>`; Ollama takes `<name>:latest` for `<name>`; the local model is
    also called after its package. Any other name is returned as it is.
    """
    row = find_family(family)
    return row.spell(name) if row else name


def find_model(family: str, name: str) -> Model | None:
    """The catalogue's entry for a model, or `None` for a model that it does not know.

    A tag of an Ollama model (`nomic-embed-text:v1.5`) is looked up without the tag.
    """
    wanted = canonical_model(family, name).partition(":")[0]
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


def request_limits(family: str, model: str = "") -> RequestLimits:
    """How much one embedding request of a family's model may carry.

    Raises:
        ValueError: For a family that does not exist.
    """
    known = find_model(family, model)
    return known.limits if known and known.limits else family_of(family).limits


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
        if known.name == canonical_model(known.family, model) and known.usd_per_million_tokens is not None:
            return known.usd_per_million_tokens * tokens / 1_000_000
    return None


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """The embedding configuration: what decides in which space a vector lies.

    Attributes:
        family: A name of `kai.families.FAMILIES`, or `custom:package.module:Class`.
        model: The model's name as the provider's API takes it.
        dimensions: Length of every vector.
        task_type: As what a text is embedded, in the provider's word; `None` where the family knows no difference.
    """

    family: str
    model: str
    dimensions: int
    task_type: str | None = None

    @property
    def name(self) -> str:
        """Family, model and dimensions, as a person names it: `openai/text-embedding-3-small/768`."""
        return f"{self.family}/{self.model}/{self.dimensions}"

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
