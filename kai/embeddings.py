"""Settings become a LangChain `Embeddings` of the right family.

Whatever the family:

- `embed_documents([text])[0] == embed_query(text)`, and both equal what KAI's own `embed_query` gives.
- One call within `Settings.request_limits` is exactly one HTTP request.
- Nothing is retried here: the caller is the only one that retries, and `kai.provider_errors` tells it when.
- The number and the length of the vectors are as the provider sent them; the caller checks them.
- No text is cut silently. A provider that refuses one that is too long is asked to; where it would cut it all the
  same (Google, sentence-transformers), one that is too long fails here; `local` has no limit.
- The same object may be used from several threads.

Importing this module is cheap. The SDK of the chosen family, and only that, is imported by `make_embeddings`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from kai.families import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings
    from kai.vectors import Vector

DEFAULT_TIMEOUT_S: Final = 60.0


class MalformedAnswerError(ValueError):
    """The provider answered 200 with something that is not a list of vectors. Worth trying again."""


class TextTooLongError(ValueError):
    """A text is over the model's limit, and the provider would cut it without saying so."""


class ModelNotAvailableError(ValueError):
    """The model does not exist in its family."""


class MissingPackageError(ImportError):
    """An optional extra is not installed; the message names the command that installs it."""


class EndpointsError(ValueError):
    """Several servers of one model cannot be used together, and why."""


class CredentialsError(ValueError):
    """The credentials that a variable names cannot be read, and why."""


class CustomClassError(ValueError):
    """The class that EMBEDDING_FAMILY names cannot be used, and why."""


@runtime_checkable
class ArrayEmbeddings(Protocol):
    """An `Embeddings` that hands out its vectors without a Python object for every number.

    For 768 dimensions that saves nine tenths of the time that an answer takes to read. The numbers are the
    same as those of `embed_documents`.
    """

    def embed_array(self, texts: list[str]) -> Vector:
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


def make_embeddings(
    settings: Settings, *, timeout: float = DEFAULT_TIMEOUT_S, tell: Callable[[str], None] | None = None
) -> Embeddings:
    """Build the `Embeddings` that the settings ask for, without asking the provider anything.

    Every object that is returned is an `ArrayEmbeddings`, too.

    Args:
        settings: As `kai.settings.load_settings` gives them.
        timeout: Seconds after which a request is given up.
        tell: Is told, a sentence each, when one of several servers fails or answers again.

    Raises:
        MissingPackageError: If the extra of the family is not installed.
        ModelNotAvailableError: If the family runs models itself and has none of this name.
        CredentialsError: If the file with the credentials cannot be used.
        CustomClassError: If the class of the user's own cannot be used.
        ValueError: For a family that does not exist.
    """
    family = settings.family
    module, _, function = family.make.partition(":")
    try:
        make = getattr(import_module(module), function)
        if len(settings.bases) > 1:
            from kai.endpoints import Endpoints

            servers = {base: make(settings.at(base), timeout) for base in settings.bases}
            several: Embeddings = Endpoints(servers, tell=tell)
            return several
        embeddings: Embeddings = make(settings, timeout)
    except ImportError as error:
        if family.extra is None:
            raise
        message = f"family {family.name} needs {family.package}: pip install '{PROJECT}[{family.extra}]'"
        raise MissingPackageError(message) from error
    return embeddings
