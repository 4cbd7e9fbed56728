"""The batch interfaces of OpenAI and of Google's Gemini API, as their SDKs speak to them."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from tests.providers.google import GoogleStandIn
from tests.providers.http import Reply, Request
from tests.providers.openai import OpenAIStandIn
from tests.providers.standin import ErrorAnswer

Routed = Callable[..., Reply]


def _json(body: Any, **headers: str) -> Reply:
    return Reply(body=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), headers=headers)


class OpenAIBatchStandIn(OpenAIStandIn):
    """OpenAI with files and batches.

    Args:
        looks: how often a batch is looked at before it is done; it is validated at the first.
        fates: of the batches in their order, `completed` without a word; `expired` embeds every second line.
        options: As `OpenAIStandIn`.

    Attributes:
        paid: how often each text was embedded in a batch.
        files: by id.
        jobs: batches by id, as they are answered.
    """

    def __init__(self, *, looks: int = 1, fates: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(**options)
        self.looks, self.fates = looks, fates
        self.paid: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self._seen: Counter[str] = Counter()

    async def _handle(self, request: Request) -> Reply:
        if self.is_embedding_request(request):
            return await super()._handle(request)
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return self._error(ErrorAnswer(401, "Incorrect API key provided."))
        routes: list[tuple[str, str, Routed]] = [
            ("POST", r"/v1/files", lambda: self._upload(request)),
            ("GET", r"/v1/files/([^/]+)/content", lambda id_: Reply(body=self.files[id_])),
            ("DELETE", r"/v1/files/([^/]+)", self._delete),
            ("POST", r"/v1/batches", lambda: self._create(json.loads(request.body))),
            ("GET", r"/v1/batches", lambda: self._list(query)),
            ("GET", r"/v1/batches/([^/]+)", self._look),
            ("POST", r"/v1/batches/([^/]+)/cancel", self._cancel),
        ]
        for method, pattern, answer in routes:
            if request.method == method and (found := re.fullmatch(pattern, path)):
                try:
                    return answer(*found.groups())
                except KeyError:
                    break
        return self._error(ErrorAnswer(404, f"No such object: {path}"))

    def _upload(self, request: Request) -> Reply:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + request.body)
        parts: dict[Any, Any] = {
            part.get_param("name", header="content-disposition"): part for part in message.iter_parts()
        }
        assert parts["purpose"].get_payload(decode=True) == b"batch"
        id_ = f"file-{len(self.files) + len(self.jobs)}-{time.monotonic_ns()}"
        self.files[id_] = parts["file"].get_payload(decode=True)
        filename = parts["file"].get_filename()
        assert filename.endswith(".jsonl")
        size = len(self.files[id_])
        return _json(
            {"id": id_, "object": "file", "bytes": size, "created_at": 1, "filename": filename, "purpose": "batch"}
        )

    def _delete(self, id_: str) -> Reply:
        del self.files[id_]
        return _json({"id": id_, "object": "file", "deleted": True})

    def _create(self, body: dict[str, Any]) -> Reply:
        assert (body["endpoint"], body["completion_window"]) == ("/v1/embeddings", "24h")
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        id_ = f"batch-{len(self.jobs)}"
        job = {
            "id": id_,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "created_at": int(time.time()),
            "metadata": body.get("metadata"),
            "status": "validating",
        }
        fate = self.fates[len(self.jobs)] if len(self.jobs) < len(self.fates) else "completed"
        self.jobs[id_] = job
        self._embed(id_, lines, fate)
        return _json(job)

    def _embed(self, id_: str, lines: list[dict[str, Any]], fate: str) -> None:
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for number, line in enumerate(lines):
            if fate == "expired" and number % 2:
                error = {"code": "batch_expired", "message": "This request was not executed before the batch expired."}
                bad.append({"custom_id": line["custom_id"], "response": None, "error": error})
                continue
            assert (line["method"], line["url"]) == ("POST", "/v1/embeddings")
            fake = Request("POST", line["url"], {"authorization": f"Bearer {self.key}"}, b"")
            try:
                asked = self.read(fake, line["body"])
                self._check(asked)
                status, body = 200, self.write(asked, list(self.embed(asked)))
                self.paid.update(asked.texts)
            except ErrorAnswer as error:
                status, body = error.status, self.write_error(error)
            answer = {"status_code": status, "request_id": f"r{number}", "body": orjson.loads(body)}
            entry = {"id": f"l{number}", "custom_id": line["custom_id"], "response": answer, "error": None}
            (good if status == 200 else bad).append(entry)
        job, after = self.jobs[id_], {"status": fate}
        for name, entries in (("output_file_id", good), ("error_file_id", bad)):
            if entries:
                after[name] = f"{name}-{id_}"
                self.files[after[name]] = b"\n".join(map(orjson.dumps, entries[::-1]))
        counts = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        job["after"] = after | {"request_counts": counts}

    def _shown(self, id_: str) -> dict[str, Any]:
        job = {name: value for name, value in self.jobs[id_].items() if name != "after"}
        return job | (self.jobs[id_]["after"] if self._seen[id_] > self.looks else {})

    def _look(self, id_: str) -> Reply:
        self._seen[id_] += 1
        return _json(self._shown(id_))

    def _list(self, query: dict[str, list[str]]) -> Reply:
        ids = list(self.jobs)[::-1]
        if after := query.get("after"):
            ids = ids[ids.index(after[0]) + 1 :]
        most = int(query.get("limit", ["20"])[0])
        data = [self._shown(id_) for id_ in ids[:most]]
        return _json({"object": "list", "data": data, "has_more": len(ids) > most, "last_id": ids[-1] if ids else None})

    def _cancel(self, id_: str) -> Reply:
        self.jobs[id_]["after"]["status"] = "cancelled"
        return _json(self._shown(id_))


class GeminiBatchStandIn(GoogleStandIn):
    """Google with files and asynchronous batches; one is done at the second look.

    Attributes:
        paid: how often each text was embedded in a batch.
        files: by name.
        jobs: batches by name, as they are answered.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.paid: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self._seen: Counter[str] = Counter()

    async def _handle(self, request: Request) -> Reply:
        if self.is_embedding_request(request):
            return await super()._handle(request)
        path = urlsplit(request.path).path
        if request.headers.get("x-goog-api-key") != self.key and not path.startswith("/sent/"):
            return self._error(ErrorAnswer(400, "API key not valid.", reason="API_KEY_INVALID"))
        routes: list[tuple[str, str, Routed]] = [
            ("POST", r"/upload/v1beta/files", self._begin_upload),
            ("POST", r"/sent/(.+)", lambda id_: self._upload(id_, request)),
            ("GET", r"/v1beta/(files/[^:]+):download", lambda name: Reply(body=self.files[name])),
            ("DELETE", r"/v1beta/(files/[^:]+)", self._delete),
            (
                "POST",
                r"/v1beta/models/([^:]+):asyncBatchEmbedContent",
                lambda m: self._create(m, json.loads(request.body)),
            ),
            ("GET", r"/v1beta/batches", lambda: _json({"operations": list(self.jobs.values())})),
            ("GET", r"/v1beta/(batches/[^:]+)", self._look),
        ]
        for method, pattern, answer in routes:
            if request.method == method and (found := re.fullmatch(pattern, path)):
                try:
                    return answer(*found.groups())
                except KeyError:
                    break
        return self._error(ErrorAnswer(404, f"Not found: {request.method} {path}"))

    def _begin_upload(self) -> Reply:
        return _json({}, **{"x-goog-upload-url": f"{self.root}/sent/f{len(self.files)}{time.monotonic_ns()}"})

    def _upload(self, id_: str, request: Request) -> Reply:
        self.files[f"files/{id_}"] = request.body
        return _json({"file": {"name": f"files/{id_}"}}, **{"x-goog-upload-status": "final"})

    def _delete(self, name: str) -> Reply:
        del self.files[name]
        return _json({})

    def _create(self, model: str, body: dict[str, Any]) -> Reply:
        batch = body["batch"]
        lines = [json.loads(line) for line in self.files[batch["inputConfig"]["file_name"]].splitlines()]
        name = f"batches/{len(self.jobs)}"
        answers = []
        for line in lines:
            fake = Request("POST", f"/v1beta/models/{model}:batchEmbedContents", {"x-goog-api-key": self.key}, b"")
            try:
                asked = self.read(fake, {"requests": [line["request"]]})
                self._check(asked)
                (vector,) = self.embed(asked)
                self.paid.update(asked.texts)
                answers.append({"key": line["key"], "response": {"embedding": {"values": vector}}})
            except ErrorAnswer as error:
                answers.append({"key": line["key"], "error": {"code": 3, "message": error.message}})
        output = f"files/out{len(self.jobs)}"
        self.files[output] = b"\n".join(orjson.dumps(each, option=orjson.OPT_SERIALIZE_NUMPY) for each in answers)
        kind = "type.googleapis.com/google.ai.generativelanguage.v1main.EmbedContentBatch"
        metadata = {"@type": kind, "displayName": batch["displayName"], "state": "BATCH_STATE_PENDING", "output": {}}
        self.jobs[name] = {"name": name, "metadata": metadata}
        return _json(self.jobs[name])

    def _look(self, name: str) -> Reply:
        self._seen[name] += 1
        if self._seen[name] > 1:
            output = {"responsesFile": f"files/out{name.removeprefix('batches/')}"}
            self.jobs[name]["metadata"].update(state="BATCH_STATE_SUCCEEDED", output=output)
            self.jobs[name]["done"] = True
        return _json(self.jobs[name])
