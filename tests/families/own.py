"""Classes of a user's own, good ones and bad ones, for `custom:tests.families.own:...`."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from tests.providers import vector_for


class Plain(Embeddings):
    """Made of what the settings say; embeds stored texts as it embeds questions."""

    def __init__(self, *, model: str, dimensions: int = 8) -> None:
        self.model, self.dimensions = model, dimensions

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        if text == "unlucky":
            raise RuntimeError("no vector for this one")
        numbers: list[float] = vector_for(text, model=self.model, dimensions=self.dimensions).tolist()
        return numbers


class TwoTypes(Plain):
    """Embeds stored texts as another type."""

    def __init__(self) -> None:
        super().__init__(model="own", dimensions=8)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return super().embed_documents([f"passage: {text}" for text in texts])


class CannotBeMade(Plain):
    """Wants something that no setting says."""

    def __init__(self) -> None:
        raise OSError("no weights in ~/models")


class Deaf:
    """Embeds nothing."""


made = Plain(model="own")
