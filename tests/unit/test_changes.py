"""A change is sent until it shows, and no answer is believed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest

from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_changes import alter_fields_until, send_until_it_shows, wait_for_alters
from migration.strategies.shadow_state import MARK, clone, drop

LOST = TypesenseError("connection failed", transient=True)
EXISTS = TypesenseError("A collection with name `copy` already exists. (HTTP 409)", status=409)


class Answering:
    """A server that answers changes and looks as it is told, the last answer for ever.

    Attributes:
        sent: how many changes were sent.
        looked: how many looks there were.
        lags_seen: what was told to `saw_lag`.
    """

    patience = 0.6
    lag = 0.3
    is_settled = True

    def __init__(
        self,
        answers: Iterable[TypesenseError | None] = (None,),
        shown: Iterable[Schema | None] = (None,),
        *,
        lags: bool = False,
    ) -> None:
        self.answers, self.shown, self.lags = list(answers), list(shown), lags
        self.sent = self.looked = 0
        self.lags_seen: list[float] = []

    def send(self, *_: object) -> Any:
        """A change."""
        answer = self.answers[min(self.sent, len(self.answers) - 1)]
        self.sent += 1
        if answer is not None:
            raise answer
        return 7

    clone_collection = drop_collection_once = alter_fields = send

    def collection(self, _name: str) -> Schema | None:
        """A look."""
        self.looked += 1
        return self.shown[min(self.looked, len(self.shown)) - 1]

    def schema_changes(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def settle(self) -> None:
        """At once."""

    def saw_lag(self, seconds: float) -> None:
        """Remembered."""
        self.lags_seen.append(seconds)

    @property
    def server(self) -> Typesense:
        """As the code under test takes it."""
        return cast(Typesense, self)


def standing(**metadata: Any) -> Schema:
    return {"name": "copy", "fields": [{"name": "v", "num_dim": 8}], "metadata": metadata}


ORIGINAL, SUCCESSOR = standing(**{MARK: {"role": "original"}}), standing()


def test_a_change_whose_answer_was_lost_is_not_sent_again_when_it_shows() -> None:
    answering = Answering([LOST], [standing()])
    assert clone(answering.server, "source", "copy") == standing()
    assert answering.sent == 1


def test_a_change_whose_answer_was_lost_is_sent_again_when_it_does_not_show_and_then_is_so_already() -> None:
    answering = Answering([LOST, EXISTS], [None, standing()])
    assert clone(answering.server, "source", "copy") == standing()
    assert answering.sent == 2


def test_a_refusal_for_good_is_raised_at_once() -> None:
    answering = Answering([TypesenseError("Not Found", status=404)])
    with pytest.raises(TypesenseError, match="Not Found"):
        clone(answering.server, "source", "copy")
    assert answering.sent == 1


def test_what_is_said_to_be_there_and_never_shows_is_given_up() -> None:
    with pytest.raises(TypesenseError, match="already exists"):
        clone(Answering([EXISTS]).server, "source", "copy")


def test_where_nodes_lag_one_look_is_not_enough_and_a_change_that_shows_late_is_not_sent_twice() -> None:
    answering = Answering([None], [None, standing(), None, standing()], lags=True)
    clone(answering.server, "source", "copy")
    assert answering.sent == 1
    assert answering.looked == 6, "three in a row are wanted"
    assert 0 < answering.lags_seen[0] < 0.5


def test_a_lag_is_not_learnt_from_a_change_that_may_have_been_late_itself() -> None:
    answering = Answering([LOST], [None, standing()], lags=True)
    clone(answering.server, "source", "copy")
    assert answering.lags_seen == []


@pytest.mark.parametrize("lags", [False, True])
def test_what_was_dropped_is_not_dropped_again_while_it_still_shows(lags: bool) -> None:
    answering = Answering([None], [ORIGINAL, ORIGINAL, SUCCESSOR], lags=lags)
    counted, _ = drop(answering.server, "copy", "original")
    assert (counted, answering.sent) == (7, 1), "the next one of that name is the application's"


def test_what_another_request_dropped_already_counts_as_dropped() -> None:
    answering = Answering([LOST, TypesenseError("Not Found", status=404)], [ORIGINAL, None])
    counted, _ = drop(answering.server, "copy", "original")
    assert (counted, answering.sent) == (None, 2)


@pytest.mark.parametrize(
    "words", ["Field `v` is not part of collection schema.", "Field `v` is already part of the schema: to change it"]
)
def test_an_alter_that_is_said_to_be_done_already_is_looked_for(words: str) -> None:
    before: Schema = {"name": "copy", "fields": []}
    answering = Answering([TypesenseError(words, status=400)], [before, standing()])
    altered = alter_fields_until(
        answering.server, "copy", lambda _: [{"name": "v"}], lambda schema: bool(schema["fields"]), claim="it"
    )
    assert altered == standing()


def test_an_alter_of_what_is_gone_is_an_error() -> None:
    with pytest.raises(TypesenseError, match="gone") as raised:
        alter_fields_until(Answering().server, "copy", lambda _: [], lambda _: True, claim="it")
    assert raised.value.missing


def test_after_a_request_of_unknown_fate_it_is_waited_for_before_looking() -> None:
    answering = Answering([LOST], [standing()])
    waited: list[int] = []
    send_until_it_shows(
        answering.server,
        answering.send,
        lambda: answering.collection("copy"),
        claim="it",
        before_looking=lambda: waited.append(answering.looked),
    )
    assert waited == [0]


def test_an_alter_that_begins_anew_after_a_quiet_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kai.typesense_changes.SETTLED", 0.2)
    monkeypatch.setattr("kai.typesense_changes._POLL", 0.05)
    answering = Answering()
    listed = [[], [{"collection": "copy"}], [{"collection": "other"}]]
    asked: list[int] = []

    def schema_changes() -> list[dict[str, Any]]:
        asked.append(1)
        return listed.pop(0) if listed else []

    monkeypatch.setattr(answering, "schema_changes", schema_changes)
    wait_for_alters(answering.server, "copy")
    assert len(asked) > 4
