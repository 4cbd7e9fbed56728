"""Stand-ins for the embedding providers: real HTTP on 127.0.0.1, made-up but repeatable vectors.

    with OpenAIStandIn(latency=0.05, failure_rate=0.1, seed=7) as provider:
        embeddings = make_embeddings(provider.settings(dimensions=768))
        ...
        assert provider.requests < 120

`python -m tests.providers openai --port 8090 --latency 0.05` runs one in a process of its own.
"""

from tests.providers.faults import Fault, Faults
from tests.providers.google import GoogleStandIn, VertexStandIn
from tests.providers.hosted import CohereStandIn, MistralStandIn, VoyageStandIn
from tests.providers.ollama import OllamaStandIn
from tests.providers.openai import AzureStandIn, OpenAIStandIn, TEIStandIn
from tests.providers.standin import StandIn
from tests.providers.vectors import vector_for

__all__ = [
    "AzureStandIn",
    "CohereStandIn",
    "Fault",
    "Faults",
    "GoogleStandIn",
    "MistralStandIn",
    "OllamaStandIn",
    "OpenAIStandIn",
    "StandIn",
    "TEIStandIn",
    "VertexStandIn",
    "VoyageStandIn",
    "vector_for",
]
