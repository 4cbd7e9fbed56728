"""Questions from a file and made ones, and among which documents they are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.assessment.evaluation.questions import Question, QuestionsError, make_questions, read_questions
from migration.assessment.evaluation.sample import Corpus, drawn


def wrong(file: Path, content: str | bytes) -> list[str]:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(QuestionsError) as refused:
        read_questions(file)
    return [problem.removeprefix(f"--questions {file}: ") for problem in refused.value.problems]


def test_questions_are_read_with_the_numbers_of_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('\ufeff{"q": "one?", "relevant": ["a", "b", "a"], "note": 1}\r\n\n{"q": "two?", "relevant": [7]}\n')
    assert read_questions(file) == [Question(1, "one?", frozenset("ab")), Question(3, "two?", frozenset("7"))]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("what?", "line 1: it is not JSON (Expecting value); write {"),
        ("[" * 100_000, "line 1: it is not JSON (nested too deeply)"),
        ('["what?"]', "line 1: it is no object; write {"),
        ('\n{"relevant": ["a"]}', "line 2: `q` is missing; write the question"),
        ('{"q": 1, "relevant": ["a"]}', "line 1: `q` is no text"),
        ('{"q": " ", "relevant": ["a"]}', "line 1: `q` is no text"),
        ('{"q": "x"}', "line 1: `relevant` is missing"),
        ('{"q": "x", "relevant": []}', "line 1: `relevant` is no list of ids"),
        ('{"q": "x", "relevant": "a"}', "line 1: `relevant` is no list of ids"),
        ('{"q": "x", "relevant": [true]}', "line 1: an id in `relevant` is no text"),
        ('{"q": "x", "relevant": [""]}', "line 1: an id in `relevant` is no text"),
        ('{"q": "x", "relevant": ["a"]}\n{"q": "x", "relevant": ["b"]}', "line 2: it asks what line 1 asks; put"),
        ("\n \n", "there is no question in it; write one a line: {"),
        (b"\xff\xfe", "it is not UTF-8 text; save it as UTF-8"),
    ],
)
def test_a_line_that_is_no_question_is_named_with_its_remedy(tmp_path: Path, content: str | bytes, words: str) -> None:
    (problem,) = wrong(tmp_path / "questions.jsonl", content)
    assert problem.startswith(words)


def test_of_many_wrong_lines_the_first_are_named(tmp_path: Path) -> None:
    problems = wrong(tmp_path / "questions.jsonl", "no\n" * 8)
    assert [problem[:6] for problem in problems[:5]] == [f"line {number}" for number in range(1, 6)]
    assert problems[5:] == ["… and 3 more lines"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(QuestionsError, match="it cannot be read: No such file or directory"):
        read_questions(tmp_path / "nowhere")


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=60), max_size=12), st.integers(1, 8), st.integers(0, 3))
def test_made_questions_are_short_forms_of_different_texts_and_the_same_again(
    texts: dict[str, str], most: int, seed: int
) -> None:
    made = make_questions(texts, most, seed)
    assert made == make_questions(texts, most, seed)
    assert len(made) <= most
    assert [question.line for question in made] == list(range(1, len(made) + 1))
    assert len({question.text for question in made}) == len(made)
    for question in made:
        (id_,) = question.relevant
        assert 0 < len(question.text) < len(texts[id_])
        assert not question.text.isspace()
        if len(texts[id_].split()) >= 5:
            assert all(word in texts[id_].split() for word in question.text.split())


def test_texts_without_spaces_are_cut_and_too_short_or_equal_ones_are_left_out() -> None:
    made = make_questions({"a": "上個月賣了多少輛自行車", "b": "ab", "c": "上個月賣了多少輛自行車", "d": ""}, 10, 0)
    assert [question.relevant for question in made] == [frozenset("a")]
    assert made[0].text in "上個月賣了多少輛自行車"


def test_documents_of_an_equal_text_answer_as_well() -> None:
    corpus = Corpus({"a": b"1", "b": b"2", "c": b"1", "d": b"3"})
    asked = [Question(1, "x", frozenset("a")), Question(2, "y", frozenset("bd"))]
    assert [each.relevant for each in corpus.with_equal_texts(asked)] == [frozenset("ac"), frozenset("bd")]


@given(st.integers(2, 40), st.sets(st.integers(0, 39)), st.integers(2, 50), st.integers(0, 3))
def test_the_sample_has_every_answer_and_as_many_others_as_were_asked_for(
    count: int, answers: set[int], size: int, seed: int
) -> None:
    corpus = Corpus({f"d{number}": bytes([number]) for number in range(count)})
    relevant = frozenset(f"d{number}" for number in answers if number < count)
    order = corpus.shuffled(seed)
    chosen = drawn(order, [Question(1, "x", relevant)], size)
    assert relevant <= set(chosen)
    assert len(chosen) == len(set(chosen)) == max(len(relevant), min(size, count))
    assert chosen == [id_ for id_ in order if id_ in set(chosen)]
    again = Corpus(dict(reversed(corpus.hashes.items())))
    assert again.shuffled(seed) == order, "whichever order the server gives them in"


def test_a_question_file_keeps_any_text(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"q": "ü\u2028?\n", "relevant": ["a/b"]}, ensure_ascii=False))
    assert read_questions(file)[0].text == "ü\u2028?\n"
