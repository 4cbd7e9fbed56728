"""A class of the user's own: `EMBEDDING_FAMILY=custom:package.module:Class`."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from kai.embeddings import CustomClassError, MalformedAnswerError
from kai.provider_errors import provider_fault
from kai.providers.answers import ArrayBased, stack
from kai.vectors import Vector, same_vector

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings

_LONGEST: Final = 300


def custom(settings: Settings, timeout: float) -> Embeddings:
    """Make the class, and embed as its `embed_query` does.

    Its `embed_documents` is used where it gives a text the same vector, which is tried with the first batch: a class
    may embed stored texts as another type. Else its `embed_query` is asked for each text.
    """
    found = load(settings.embedding.family)
    given: dict[str, Any] = {
        "model": settings.embedding.model,
        "dimensions": settings.embedding.dimensions,
        "timeout": timeout,
    }
    try:
        embeddings = found(**_accepted(found, given))
    except Exception as error:  # the user's code may raise whatever it likes
        raise CustomClassError(f"{_name(found)} cannot be made: {_words(error)}") from error
    in_batches: bool | None = None

    def alone(texts: list[str]) -> Vector:
        return stack([embeddings.embed_query(text) for text in texts])

    def embed(texts: list[str]) -> Vector:
        nonlocal in_batches
        if in_batches is None:
            one = alone(texts[:1])
            in_batches = same_vector(stack(embeddings.embed_documents(texts[:1])), one)
            if len(texts) == 1:
                return one
        return stack(embeddings.embed_documents(texts)) if in_batches else alone(texts)

    def embed_array(texts: list[str]) -> Vector:
        try:
            vectors = embed(texts)
        except Exception as error:
            if provider_fault(error).kind != "bug":
                raise
            # Not known for what it is: asked for again, and then halved, so that a text at fault ends alone.
            raise MalformedAnswerError(f"{_name(found)} failed: {_words(error)}") from error
        return np.ascontiguousarray(vectors)

    return ArrayBased(embed_array)


def load(family: str) -> type[Embeddings]:
    """The class that `custom:package.module:Class` names.

    Raises:
        CustomClassError: there is none, or it is no class that embeds.
    """
    _, module_name, name = family.split(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise CustomClassError(f"{module_name} cannot be imported: {_words(error)}") from error
        message = f"there is no module {module_name!r}; install it, or put its folder into PYTHONPATH"
        raise CustomClassError(message) from error
    except Exception as error:
        raise CustomClassError(f"{module_name} cannot be imported: {_words(error)}") from error
    found = getattr(module, name, None)
    if found is None:
        classes = sorted(each for each, value in vars(module).items() if _embeds(value))
        there = f"; it has {', '.join(classes)}" if classes else ""
        raise CustomClassError(f"module {module_name} has no {name!r}{there}")
    if not inspect.isclass(found):
        raise CustomClassError(f"{module_name}:{name} is no class, but {type(found).__name__}")
    if not _embeds(found):
        message = f"class {module_name}:{name} has no embed_query and embed_documents, as LangChain's Embeddings has"
        raise CustomClassError(message)
    return cast("type[Embeddings]", found)


def _embeds(value: object) -> bool:
    methods = ("embed_query", "embed_documents")
    return inspect.isclass(value) and all(callable(getattr(value, method, None)) for method in methods)


def _accepted(found: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of these keyword arguments those that the class names among its own."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return {}
    by_name = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return {name: value for name, value in given.items() if name in by_name}


def _name(found: type) -> str:
    return f"{found.__module__}:{found.__qualname__}"


def _words(error: BaseException) -> str:
    """What was raised, on one line of a bearable length."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", _LONGEST, placeholder=" ...")
