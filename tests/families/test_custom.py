"""A class of the user's own: its `embed_query` decides, and what is wrong with it is said in words."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from kai.embeddings import ArrayEmbeddings, CustomClassError, make_embeddings
from kai.models import fingerprint
from kai.provider_errors import provider_fault
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings, load_settings
from tests.families import own
from tests.providers import vector_for
from tests.unit.test_settings import GOOD


def settings(name: str, dimensions: int = 8) -> Settings:
    family = name if name.startswith("custom:") else f"custom:tests.families.own:{name}"
    return Settings(EmbeddingSettings(family, "own", dimensions), TypesenseSettings())


def arrays(name: str, dimensions: int = 8) -> ArrayEmbeddings:
    return cast(ArrayEmbeddings, make_embeddings(settings(name, dimensions)))


@pytest.mark.parametrize("name", ["Plain", "TwoTypes"])
def test_every_text_has_the_vector_of_its_embed_query(name: str) -> None:
    texts = ["one", "two", "three"]
    embeddings = arrays(name)
    for _ in range(2):
        assert np.array_equal(embeddings.embed_array(texts), [vector_for(t, model="own", dimensions=8) for t in texts])


def test_it_is_made_with_the_settings_that_it_names_and_with_no_other() -> None:
    assert arrays("Plain", 16).embed_array(["text"]).shape == (1, 16)
    assert arrays("TwoTypes", 16).embed_array(["text"]).shape == (1, 8)  # as it is; the probe tells of the length


def test_a_batch_is_one_call_where_stored_texts_are_embedded_as_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[str]] = []

    def embed_documents(_self: own.Plain, texts: list[str]) -> list[list[float]]:
        batches.append(texts)
        return [[float(len(text)), 1.0] for text in texts]

    monkeypatch.setattr(own.Plain, "embed_documents", embed_documents)
    monkeypatch.setattr(own.Plain, "embed_query", lambda _self, text: [float(len(text)), 1.0])
    embeddings = arrays("Plain")
    embeddings.embed_array(["a", "bb"])
    embeddings.embed_array(["ccc", "d"])
    assert batches == [["a"], ["a", "bb"], ["ccc", "d"]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("custom:tests.families.nowhere:Plain", "there is no module 'tests.families.nowhere'; install it, or put its"),
        ("custom:nowhere.at.all:Plain", "there is no module 'nowhere.at.all'"),
        ("Plane", "module tests.families.own has no 'Plane'; it has CannotBeMade, Embeddings, Plain, TwoTypes"),
        ("made", "tests.families.own:made is no class, but Plain"),
        ("Deaf", "class tests.families.own:Deaf has no embed_query and embed_documents"),
        ("CannotBeMade", "tests.families.own:CannotBeMade cannot be made: OSError: no weights in ~/models"),
    ],
)
def test_what_cannot_be_used_is_said_in_words(name: str, message: str) -> None:
    with pytest.raises(CustomClassError) as caught:
        make_embeddings(settings(name))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import not_there_at_all", "broken cannot be imported: ModuleNotFoundError: No module named 'not_there_at"),
        ("1 / 0", "broken cannot be imported: ZeroDivisionError: division by zero"),
        ("class (", "broken cannot be imported: SyntaxError"),
    ],
)
def test_a_module_that_is_broken_is_told_from_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CustomClassError) as caught:
        make_embeddings(settings("custom:broken:Class"))
    assert str(caught.value).startswith(message)


def test_an_error_of_its_own_is_one_that_is_tried_again_and_then_blamed_on_a_text() -> None:
    with pytest.raises(Exception) as caught:
        arrays("Plain").embed_array(["good", "unlucky"])
    fault = provider_fault(caught.value)
    assert fault.kind == "transient"
    assert fault.message == "tests.families.own:Plain failed: RuntimeError: no vector for this one"


def test_the_path_and_the_name_of_the_class_are_kept_as_they_are_written() -> None:
    family = "custom:My_Package.Models:OurOwn"
    embedding = load_settings(environ=GOOD | {"EMBEDDING_FAMILY": f" {family} "}).embedding
    assert (embedding.family, embedding.task_type) == (family, None)


def test_another_class_is_another_space() -> None:
    spaces = {fingerprint(settings(name).embedding, "{a}") for name in ("Plain", "TwoTypes")}
    assert len(spaces) == 2
