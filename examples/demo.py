"""A migration from beginning to end, told in plain words: `make demo`.

A search by meaning is right; the application's embedding model changes, and it is wrong; the migration makes
it right again. Everything happens on 127.0.0.1 and in a temporary folder, without a key and without a network.

The new model is the real local one. The old one is made from it: its vectors, turned about the origin by a
fixed rotation. Lengths and angles among the turned vectors are as before, so searching with the old model
works as well as with the new one, while a vector of the one says nothing to the other. That is how two
models stand to each other.

The story cannot lie: every statement about a search is checked, and the exit status is 0 only if all are true.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import orjson

from kai.collections import KAI_COLLECTIONS
from kai.embedding_interface import ArrayEmbeddings
from kai.embeddings import make_embeddings
from kai.sandbox.sample import DOCUMENTS
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from kai.typesense import Typesense

Vectors = npt.NDArray[np.float32]

MODULE: Final = "migration.embedding_migration"
KEY: Final = "demo-key"
LOCAL_MODEL: Final = "l2_supercat"
SEED: Final = 2026
END_SECONDS: Final = 10.0

QUESTIONS: Final = {
    "Which drugs have run out?": "Which medicines are out of stock?",
    "Who works at night?": "Which nurses work the night shift on Sunday?",
    "Which bikes have customers not brought back?": "Which rented bicycles have not come back?",
}
"""What is asked -> the stored question that means the same. They share hardly a word."""


class NotAsToldError(Exception):
    """Something in this story was not as the story says."""


@dataclass(frozen=True, slots=True)
class Model:
    """An embedding model: the local one, or a turned copy of it that stands for another.

    Attributes:
        dimensions: length of its vectors.
        turned: whether it is the other model.
    """

    dimensions: int
    turned: bool = False

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector a text."""
        vectors = local_model(self.dimensions).embed_array(list(texts))
        if self.turned:
            numbers = np.random.default_rng(SEED).standard_normal((self.dimensions, self.dimensions))
            rotation, _ = np.linalg.qr(numbers)
            vectors = (vectors @ rotation).astype(np.float32)
        return vectors


@functools.cache
def local_model(dimensions: int) -> ArrayEmbeddings:
    """The model inside wordllama, loaded once."""
    embedding = EmbeddingSettings("local", LOCAL_MODEL, dimensions)
    return cast(ArrayEmbeddings, make_embeddings(Settings(embedding, TypesenseSettings())))


@dataclass(frozen=True, slots=True)
class Application:
    """KAI's part in the story: it embeds a question with its model and looks for the nearest stored one.

    Attributes:
        server: where the questions are.
        model: by which it embeds.
        field: by which it searches.
    """

    server: Typesense
    model: Model
    field: str = "prompt_embedding"

    def store_embeddings(self) -> int:
        """Embed every document as the application does when it stores one; returns how many."""
        embedded = 0
        for collection in KAI_COLLECTIONS:
            documents = DOCUMENTS.get(collection.name, [])
            eligible = [d for d in documents if not (collection.filter_by and d["is_default"])]
            if not eligible:
                continue
            vectors = self.model.embed([collection.text_of(document) for document in eligible])
            lines = [
                orjson.dumps(
                    {"id": document["id"], collection.embedding_field: vector}, option=orjson.OPT_SERIALIZE_NUMPY
                )
                for document, vector in zip(eligible, vectors, strict=True)
            ]
            answers = self.server.import_lines(collection.name, lines, "update")
            check(all(answer.success for answer in answers), f"every document of {collection.name} is stored")
            embedded += len(eligible)
        return embedded

    def ask(self, question: str) -> str:
        """The stored question that the search finds nearest, or the server's words if it cannot search."""
        vector = ",".join(map(str, self.model.embed([question])[0].tolist()))
        search = {
            "collection": "context_stores",
            "q": "*",
            "vector_query": f"{self.field}:([{vector}], k:1)",
            "include_fields": "prompt_text",
        }
        result = self.server.multi_search([search])[0]
        if "error" in result:
            return f"(the server refuses: {result['error']})"
        return str(result["hits"][0]["document"]["prompt_text"])


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the story plays.

    Attributes:
        server: the running sandbox.
        port: its port.
        folder: everything that is written.
    """

    server: Typesense
    port: int
    folder: Path

    def migrate(self, *arguments: str, dimensions: int, module: str = MODULE) -> int:
        """Run the real command line as anybody would, for a target of so many dimensions; its exit status."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONUNBUFFERED": "1",
            "EMBEDDING_FAMILY": "local",
            "EMBEDDING_MODEL": LOCAL_MODEL,
            "EMBEDDING_DIMENSIONS": str(dimensions),
            "TYPESENSE_HOST": "127.0.0.1",
            "TYPESENSE_PORT": str(self.port),
            "TYPESENSE_API_KEY": KEY,
            "MIGRATION_HOME": str(self.folder / "home"),
        }
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            # Only this is indented; the progress bar on standard error goes straight to the screen.
            stdout=subprocess.PIPE,
            text=True,
        )
        with ended(process):
            for line in process.stdout or ():
                print(f"    {line}", end="", flush=True)
            return process.wait()

    def documents(self) -> list[bytes]:
        """Everything that is stored, to see whether it changed."""
        return [line for name in DOCUMENTS for line in self.server.export_lines(name)]

    def requests_of_last_run(self) -> int:
        """Embedding requests that the last run made, by its own status file."""
        files = (self.folder / "home" / "runs").glob("*/status.json")
        last = max(files, key=lambda file: file.stat().st_mtime_ns)
        status: dict[str, Any] = json.loads(last.read_text())
        return int(status["requests"])


# -- the story -------------------------------------------------------------------------------------------


def tell(stage: Stage) -> None:
    """The whole story."""
    first_act(stage)
    second_act(stage)
    third_act(stage)


def first_act(stage: Stage) -> None:
    """Another model of the same dimensions: in place."""
    title("The application as it was")
    application = Application(stage.server, Model(128, turned=True))
    count = application.store_embeddings()
    say(
        f"A Typesense server holds {count} texts of a small KAI: questions that people asked, and instructions. "
        "Beside each text stands its embedding, computed by the old model. So the application finds a text by "
        "its meaning:"
    )
    show_searches(application, right=True)

    title("Its embedding model changes")
    application = Application(stage.server, Model(128))
    say(
        "Questions are embedded by the new model from now on, and the stored vectors are the old model's still. "
        "Nothing fails and nothing is logged. The answers are simply wrong:"
    )
    show_searches(application, right=False)

    title("What a migration would do")
    before = stage.documents()
    run(stage, "--dry-run", dimensions=128)
    check(stage.documents() == before, "a dry run changes nothing")

    title("The migration")
    run(stage, dimensions=128)

    title("The same searches")
    show_searches(application, right=True)

    title("Once more, to see that nothing is left to do")
    run(stage, dimensions=128)
    requests = stage.requests_of_last_run()
    check(requests <= 1, "the second run embeds nothing once it has begun")
    say(
        "Every document was current already. Only a few texts were embedded again beforehand, to see that the model of "
        "this name is still the same."
    )


def second_act(stage: Stage) -> None:
    """A model of other dimensions: the collection itself has to change."""
    title("Later: a model with 256 dimensions instead of 128")
    application = Application(stage.server, Model(256))
    say("Now the vectors differ even in length. The server refuses to compare them:")
    show_searches(application, right=False)

    title("What a migration would do")
    run(stage, "--dry-run", dimensions=256)

    title("The migration")
    run(stage, dimensions=256)

    title("The same searches")
    show_searches(application, right=True)


def third_act(stage: Stage) -> None:
    """A second field beside the one that serves: no search is wrong for a moment."""
    title("Later still: another model, and nobody is to notice")
    application = Application(stage.server, Model(256))
    say(
        "This time the new vectors go into a second field, beside the one that the application searches by. "
        "It goes on searching all the while:"
    )
    with asking(application):
        run(stage, "--into", "{field}_v2", dimensions=128)

    title("The application switches, field and model at one moment")
    application = Application(stage.server, Model(128), "prompt_embedding_v2")
    show_searches(application, right=True)

    title("What is not needed any more goes")
    with asking(application):
        run(stage, "finish", "--yes", dimensions=128, module="migration")
    show_searches(application, right=True)


@contextlib.contextmanager
def asking(application: Application) -> Iterator[None]:
    """Ask one question after the other while the block runs; every single answer must be right."""
    answers: list[bool] = []
    ended = threading.Event()

    def ask() -> None:
        for question, answer in itertools.cycle(QUESTIONS.items()):
            answers.append(application.ask(question) == answer)
            if ended.wait(0.05):
                return

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield
    finally:
        ended.set()
        asker.join()
    check(all(answers), f"each of {len(answers)} searches meanwhile was right (in truth: {sum(answers)})")
    say(f"Meanwhile it asked {len(answers)} questions, and every answer was right.")


def show_searches(application: Application, *, right: bool) -> None:
    """Ask every question; each must be answered rightly, or each wrongly."""
    found = {question: application.ask(question) for question in QUESTIONS}
    print()
    for question, answer in found.items():
        print(f"    {question}")
        print(f"      {'right' if answer == QUESTIONS[question] else 'WRONG'}: {answer}")
    hits = sum(answer == QUESTIONS[question] for question, answer in found.items())
    expected = len(QUESTIONS) if right else 0
    check(hits == expected, f"{expected} of {len(QUESTIONS)} searches are right (in truth: {hits})")


def run(stage: Stage, *arguments: str, dimensions: int, module: str = MODULE) -> None:
    """Run the command line, shown, to a good end."""
    shown = f"python -m {MODULE}" if module == MODULE else "kai-migrate"
    print(f"\n    $ {shlex.join([*shlex.split(shown), *arguments])}", flush=True)
    status = stage.migrate(*arguments, dimensions=dimensions, module=module)
    check(status == 0, f"the migration ends with exit status 0 (in truth: {status})")


def check(true: bool, statement: str) -> None:
    """Stop the story if it is not true."""
    if not true:
        raise NotAsToldError(statement)


def title(text: str) -> None:
    """A chapter begins."""
    print(f"\n\n== {text} ==", flush=True)


def say(text: str) -> None:
    """A paragraph."""
    print(f"\n{textwrap.fill(text, 78)}", flush=True)


# -- the stage -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A sandbox with sample data on a free port, and a folder; both are gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="kai-demo-") as name:
        folder = Path(name)
        with sandbox(folder / "typesense") as port:
            settings = TypesenseSettings("127.0.0.1", port, "http", KEY)
            with Typesense(settings, patience=10.0) as server:
                yield Stage(server, port, folder)


@contextlib.contextmanager
def sandbox(data: Path) -> Iterator[int]:
    """The sandbox server as a process; yields its port."""
    arguments = ["--port", "0", "--api-key", KEY, "--data-dir", str(data), "--sample"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kai.sandbox", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Ctrl-C is for this program, which ends the server when nobody needs it any more.
        start_new_session=True,
    )
    with ended(process):
        line = process.stdout.readline() if process.stdout else ""
        check("listening on" in line, "the sandbox server starts (is the extra 'sandbox' installed?)")
        yield int(line.rsplit(":", 1)[1])


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """See to it that the process is not there any more when the block is left, however it is left."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def main() -> int:
    """Tell the story; returns the exit status."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # However it is ended, it cleans up as after Ctrl-C.
        signal.signal(ending, signal.default_int_handler)
    begun = time.monotonic()
    try:
        with stage() as where:
            tell(where)
    except NotAsToldError as error:
        print(f"\nThe demo failed. This should be so, and is not: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; server and files are removed.", file=sys.stderr)
        return 130
    say(f"That was all, in {time.monotonic() - begun:.0f} seconds. Server and files are removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
