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
from typing import TYPE_CHECKING, Final

from kai.embedding_interface import MissingPackageError
from kai.families import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings

DEFAULT_TIMEOUT_S: Final = 60.0


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
