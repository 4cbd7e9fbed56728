"""Questions with known answers: from a file, or made from the documents themselves.

Made ones are some of the words of a document, which is their answer. They need nobody's work, and say less: they favour
a model that goes by words, and know nothing of questions in other words than the documents'.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FORM: Final = '{"q": "the question", "relevant": ["id of a document", "..."]}'
_KEPT: Final = 0.4
"""Share of a text's words that a question made of it has."""
_LEAST_WORDS: Final = 5
"""A text of fewer, as one in a script without spaces, is cut by its characters."""
_LEAST_CHARACTERS: Final = 4
_NAMED: Final = 5
LIMITS: Final = (
    "the questions are made from the documents: some of the words of each, whose answer it is. They favour a model "
    "that goes by words, and know nothing of other words for the same: what real users ask (--questions FILE) counts "
    "for more"
)


class QuestionsError(Exception):
    """The questions cannot be used; one problem each, which names the line and the remedy."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the documents that answer it.

    Attributes:
        line: its line in the file; of a made one its number.
        text: as it is asked.
        relevant: ids of the documents, at least one.
    """

    line: int
    text: str
    relevant: frozenset[str]


def read_questions(file: Path) -> list[Question]:
    """The questions of a JSON Lines file: `{"q": "…", "relevant": ["id", …]}` on each line; empty lines count as none.

    Raises:
        QuestionsError: the file cannot be read, or lines are wrong; the first of them are named.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise QuestionsError([f"--questions {file}: it is not UTF-8 text; save it as UTF-8"]) from None
    except OSError as error:
        raise QuestionsError([f"--questions {file}: it cannot be read: {error.strerror or error}"]) from error
    questions: list[Question] = []
    problems: list[str] = []
    asked: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _read(line, number)
        if isinstance(found, str):
            problems.append(f"line {number}: {found}")
        elif (before := asked.setdefault(found.text, number)) != number:
            problems.append(f"line {number}: it asks what line {before} asks; put the documents of both into one line")
        else:
            questions.append(found)
    if not questions and not problems:
        problems.append(f"there is no question in it; write one a line: {_FORM}")
    refuse(file, problems)
    return questions


def refuse(file: Path, problems: Sequence[str]) -> None:
    """Raise the first of the problems of a file, if there are any.

    Raises:
        QuestionsError: there are.
    """
    if problems:
        more = [f"--questions {file}: … and {len(problems) - _NAMED} more lines"] if len(problems) > _NAMED else []
        raise QuestionsError([*(f"--questions {file}: {problem}" for problem in problems[:_NAMED]), *more])


def _read(line: str, number: int) -> Question | str:
    """The question of a line, or what is wrong with it."""
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({getattr(error, 'msg', 'nested too deeply')}); write {_FORM}"
    if not isinstance(found, dict):
        return f"it is no object; write {_FORM}"
    text, relevant = found.get("q"), found.get("relevant")
    if not isinstance(text, str) or not text.strip():
        return f"`q` is {'no text' if 'q' in found else 'missing'}; write the question: {_FORM}"
    if not isinstance(relevant, list) or not relevant:
        return f"`relevant` is {'no list of ids' if 'relevant' in found else 'missing'}; write {_FORM}"
    if not all(isinstance(id_, str | int) and not isinstance(id_, bool) and id_ != "" for id_ in relevant):
        return "an id in `relevant` is no text; write the ids of the documents as the server has them"
    return Question(number, text, frozenset(map(str, relevant)))


def make_questions(texts: Mapping[str, str], most: int, seed: int) -> list[Question]:
    """Questions made from documents, one each, by a fixed seed.

    Args:
        texts: by document id, in the order in which they are to be taken; a text that came before is left out, and so
            is one that is too short.
        most: how many to make.
        seed: of which words are taken.
    """
    questions: list[Question] = []
    used: set[str] = set()
    for id_, text in texts.items():
        if len(questions) == most:
            break
        question = _some_words(text, random.Random(f"{seed} {id_}"))  # noqa: S311
        if question and text not in used and question not in used:
            used |= {text, question}
            questions.append(Question(len(questions) + 1, question, frozenset([id_])))
    return questions


def _some_words(text: str, pick: random.Random) -> str:
    """Some of the words of a text in their order; empty where it has too little to leave anything out."""
    words = text.split()
    if len(words) >= _LEAST_WORDS:
        count = max(2, round(_KEPT * len(words)))
        return " ".join(words[place] for place in sorted(pick.sample(range(len(words)), count)))
    joined = " ".join(words)
    if len(joined) < _LEAST_CHARACTERS:
        return ""
    count = max(2, round(0.6 * len(joined)))
    start = pick.randrange(len(joined) - count + 1)
    return joined[start : start + count].strip()
