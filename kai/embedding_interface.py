"""What an `Embeddings` of this product is beside LangChain's, and how it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from kai.vectors import Vector


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
