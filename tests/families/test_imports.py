"""Only the SDK of the chosen family is loaded, and none before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

SDKS = (
    "openai",
    "google.genai",
    "ollama",
    "wordllama",
    "langchain_core",
    "numpy",
    "httpx",
    "pydantic",
    "dotenv",
)
MAKE = """
from kai.embeddings import make_embeddings
from kai.settings import *
settings = Settings(EmbeddingSettings({family!r}, {model!r}, 256), TypesenseSettings(),
                    provider={{"OPENAI_API_KEY": "key", "GOOGLE_API_KEY": "key"}})
make_embeddings(settings)
"""


def loaded_by(code: str) -> set[str]:
    report = f"{code}\nimport sys; print(*(name for name in {SDKS!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_modules_themselves_load_no_sdk() -> None:
    assert loaded_by("import kai.settings, kai.models, kai.embeddings, kai.provider_errors") == set()


@pytest.mark.parametrize(
    ("family", "model", "sdk"),
    [
        ("openai", "text-embedding-3-small", "openai"),
        ("google", "gemini-embedding-001", "google.genai"),
        ("ollama", "nomic-embed-text", "ollama"),
        ("local", "l2_supercat", "wordllama"),
    ],
)
def test_a_family_loads_its_own_sdk_only(family: str, model: str, sdk: str) -> None:
    others = {"openai", "google.genai", "ollama", "wordllama"} - {sdk}
    loaded = loaded_by(MAKE.format(family=family, model=model))
    assert sdk in loaded
    assert not loaded & others


def test_explaining_an_error_loads_no_sdk() -> None:
    code = "from kai.provider_errors import provider_fault; provider_fault(ConnectionError())"
    assert loaded_by(code) == set()
