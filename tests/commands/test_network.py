"""Typesense behind TLS with an authority of one's own, and behind a proxy; what is wrong is told with the setting."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from kai.settings import SettingsError, TypesenseSettings, load_settings
from kai.typesense import Typesense, TypesenseError
from migration.strategies.refusals import explain
from tests.commands.conftest import Invoke
from tests.providers import OpenAIStandIn
from tests.providers.http import HTTPServer, Reply, Request
from tests.world import World, made_up, openai


class Relay:
    """Passes requests on to a server: over TLS where it has a certificate, and as a proxy.

    Attributes:
        asked: the targets of the requests, as they were written.
    """

    def __init__(self, to: str, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self._http = httpx.AsyncClient(base_url=to, trust_env=False)
        self._server = HTTPServer(self._pass_on)
        self._server.start(tls=tls)
        self.port = str(self._server.port)

    async def _pass_on(self, request: Request) -> Reply:
        self.asked.append(request.path)
        path = httpx.URL(request.path).raw_path.decode()
        kept = ("x-typesense-api-key", "authorization", "content-type")
        headers = {name: value for name, value in request.headers.items() if name in kept}
        answer = await self._http.request(request.method, path, headers=headers, content=request.body)
        return Reply(answer.status_code, answer.content, content_type=answer.headers.get("content-type", "text/plain"))

    def stop(self) -> None:
        """Close the port."""
        self._server.stop()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """One that nobody knows."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, world: World) -> Iterator[Relay]:
    """The world's server, by https as `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    relay = Relay(world.url, context)
    yield relay
    relay.stop()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Its certificate in a file."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    return str(file)


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the proxies that a test names count."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def by_https(world: World, relay: Relay, **variables: str) -> dict[str, str]:
    """The environment that leads to the relay."""
    at = {"TYPESENSE_HOST": "localhost", "TYPESENSE_PORT": relay.port, "TYPESENSE_PROTOCOL": "https"}
    return world.environment(**at, **variables)


def test_with_its_authority_named_a_server_of_a_private_authority_is_migrated(
    invoke: Invoke, world: World, tls: Relay, ca_file: str, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=4, instructions=4), 8)
    environment = by_https(world, tls, TYPESENSE_CA_FILE=ca_file, **openai(provider, 8))
    answer = invoke("run", "--collections", "instructions", **environment)
    assert answer.status == 0, answer.text
    assert "Verification: PASS" in answer.text


def test_a_certificate_of_an_unknown_authority_is_refused_with_the_setting(
    invoke: Invoke, world: World, tls: Relay
) -> None:
    answer = invoke("list", **by_https(world, tls))
    assert answer.status == 2
    assert "TYPESENSE_CA_FILE: Typesense: its certificate is refused: unable to get local issuer" in answer.text
    assert "set it to a file with the certificate (PEM) of the authority that issued it" in answer.text
    assert "Traceback" not in answer.text


def test_a_certificate_for_another_name_is_refused_with_the_setting(
    invoke: Invoke, world: World, tls: Relay, ca_file: str
) -> None:
    environment = by_https(world, tls, TYPESENSE_CA_FILE=ca_file) | {"TYPESENSE_HOST": "127.0.0.1"}
    answer = invoke("discover", **environment)
    assert answer.status == 2
    assert f"TYPESENSE_HOST: Typesense at https://127.0.0.1:{tls.port} cannot be used:" in answer.text
    assert "write the name that it is issued for" in answer.text


def test_a_server_without_tls_is_refused_with_the_setting(invoke: Invoke, world: World) -> None:
    answer = invoke("discover", **world.environment() | {"TYPESENSE_PROTOCOL": "https"})
    assert answer.status == 2
    assert "TYPESENSE_PROTOCOL: Typesense at https://127.0.0.1:" in answer.text
    assert "it does not speak TLS there; write http, or another port" in answer.text


@pytest.mark.parametrize("known", [True, False])
def test_a_provider_of_a_private_authority_is_used_where_the_usual_variable_names_it(
    invoke: Invoke, world: World, authority: trustme.CA, ca_file: str, provider: OpenAIStandIn, known: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    relay = Relay(provider.api_base.removesuffix("/v1"), context)
    world.fill(made_up(questions=4, instructions=4), 8)
    environment = world.environment(**openai(provider, 8)) | {"OPENAI_API_BASE": f"https://localhost:{relay.port}/v1"}
    try:
        answer = invoke("run", "--dry-run", **environment | ({"SSL_CERT_FILE": ca_file} if known else {}))
    finally:
        relay.stop()
    if known:
        assert answer.status == 0, answer.text
    else:
        assert answer.status == 2
        assert "SSL_CERT_FILE, OPENAI_API_BASE: the certificate of the provider is refused:" in answer.text


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_a_certificate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "authority.pem"
    monkeypatch.setenv("TYPESENSE_CA_FILE", str(file))  # What no variable names, no test reads.
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"TYPESENSE_API_KEY": "k", "TYPESENSE_CA_FILE": str(file)}, needs=["typesense"])
    (problem,) = caught.value.problems
    why = "cannot be read" if content is None else "has no certificate in PEM form"
    assert problem.variable == "TYPESENSE_CA_FILE"
    assert f"{why}; write the path of a file with the authority's certificate in PEM form" in problem.message


def test_requests_go_through_the_proxy_of_the_environment_and_past_it_where_no_proxy_says_so(
    invoke: Invoke, world: World
) -> None:
    relay = Relay(world.url)
    try:
        proxy = {"HTTP_PROXY": f"http://127.0.0.1:{relay.port}"}
        elsewhere = world.environment(**proxy) | {"TYPESENSE_HOST": "typesense.internal", "TYPESENSE_PORT": "8108"}
        assert invoke("list", **elsewhere).status == 0
        assert relay.asked
        assert all(target.startswith("http://typesense.internal:8108/") for target in relay.asked)
        relay.asked.clear()
        # As httpx has it, a proxy is for this machine's own addresses, too, until NO_PROXY names them.
        assert invoke("list", **world.environment(**proxy)).status == 0
        assert relay.asked
        relay.asked.clear()
        assert invoke("list", **world.environment(**proxy, NO_PROXY="localhost,127.0.0.1")).status == 0
        assert relay.asked == []
    finally:
        relay.stop()


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, ""),
        ({"HTTP_PROXY": "http://somebody:secret@Proxy:3128"}, "http://proxy:3128"),
        ({"ALL_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, ""),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "elsewhere,localhost"}, ""),
    ],
)
def test_a_refusal_names_the_proxy_that_was_asked(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Typesense(TypesenseSettings(api_key="k")) as server:
        assert server.proxy == proxy
        told = explain(server, TypesenseError("it does not answer", transient=True))
    assert told.endswith(f"; it is asked through the proxy {proxy}, past which NO_PROXY leads" if proxy else "is right")
