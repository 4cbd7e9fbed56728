"""Several servers as one: who is asked, who is left out, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.embeddings import EndpointsError
from kai.endpoints import COMPARED_TEXT, Chooser, Endpoints
from kai.provider_errors import provider_fault
from kai.providers.answers import ArrayBased
from kai.vectors import Vector


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Model(ArrayBased):
    """A server of one model, which takes its time and fails on demand."""

    def __init__(self, clock: Clock, *, seconds: float = 0.1, space: int = 0) -> None:
        super().__init__(self._answer)
        self.clock, self.seconds, self.space = clock, seconds, space
        self.down: Exception | None = None
        self.texts: list[str] = []

    def _answer(self, texts: list[str]) -> Vector:
        if self.down is not None:
            raise self.down
        self.clock.now += self.seconds
        self.texts += [text for text in texts if text != COMPARED_TEXT]
        vectors = [np.random.default_rng([self.space, *text.encode()]).standard_normal(8) for text in texts]
        return np.asarray(vectors, dtype=np.float32)


def asked(chooser: Chooser, seconds: float | None = None) -> int:
    """Ask whoever is chosen; it answers after that many seconds."""
    place = chooser.choose()
    assert place is not None
    if seconds is not None:
        chooser.answered(place, seconds)
    chooser.released(place)
    return place


def measured(clock: Clock, *seconds: float) -> Chooser:
    """A chooser that knows how long each server takes."""
    chooser = Chooser(len(seconds), clock)
    for place, each in enumerate(seconds):
        assert chooser.choose(set(range(len(seconds))) - {place}) == place
        chooser.answered(place, each)
        chooser.released(place)
    return chooser


def test_before_anything_is_known_the_requests_are_spread_evenly() -> None:
    chooser = Chooser(3, Clock())
    assert [chooser.choose() for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_server_gets_as_many_requests_at_once_as_it_answers_in_the_same_time() -> None:
    chooser = measured(Clock(), 0.1, 0.3)
    chosen = [chooser.choose() for _ in range(8)]
    assert (chosen.count(0), chosen.count(1)) == (6, 2)


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=5), st.integers(1, 40))
def test_no_other_server_would_have_answered_the_request_sooner(seconds: list[float], requests: int) -> None:
    chooser = measured(Clock(), *seconds)
    under_way = [0] * len(seconds)
    for _ in range(requests):
        place = chooser.choose()
        assert place is not None
        soonest = min(each * (busy + 1) for each, busy in zip(seconds, under_way, strict=True))
        under_way[place] += 1
        assert seconds[place] * under_way[place] <= soonest * (1 + 1e-9)


def test_one_that_was_never_measured_is_measured() -> None:
    clock = Clock()
    chooser = Chooser(2, clock)
    assert asked(chooser, 0.1) == 0
    assert [chooser.choose(), chooser.choose()] == [1, 0]


def test_one_that_was_slow_once_is_tried_again_after_a_while() -> None:
    clock = Clock()
    chooser = measured(clock, 0.1, 5.0)
    assert asked(chooser, 0.1) == 0
    for _ in range(3600):
        clock.now += 1
        if asked(chooser, 0.1) == 1:
            break
    assert 60 < clock.now - 1000 < 600


def test_one_that_fails_is_left_out_for_longer_each_time_up_to_a_minute() -> None:
    clock = Clock()
    chooser = Chooser(2, clock)
    waits = []
    for _ in range(9):
        while asked(chooser) != 0:
            clock.now += 0.5
        chooser.failed(0)
        begun = clock.now
        while 0 not in [chooser.choose(), chooser.choose()]:
            for place in (1, 1):
                chooser.released(place)
            clock.now += 0.5
        waits.append(clock.now - begun)
        chooser.released(0)
        chooser.released(1)
        clock.now += 100
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_it_is_left_out_for_as_long_as_it_asks_for() -> None:
    clock = Clock()
    chooser = Chooser(2, clock)
    chooser.failed(0, 20)
    clock.now += 19
    assert [asked(chooser), asked(chooser)] == [1, 1]
    clock.now += 2
    assert 0 in [chooser.choose(), chooser.choose()]


def test_one_request_alone_tries_a_server_that_has_failed() -> None:
    clock = Clock()
    chooser = Chooser(2, clock)
    chooser.failed(0)
    clock.now += 1
    assert [chooser.choose() for _ in range(4)] == [0, 1, 1, 1]
    chooser.answered(0, 0.1)
    chooser.released(0)
    assert chooser.choose() == 0


def test_a_request_goes_to_each_server_once_and_then_to_none() -> None:
    chooser = Chooser(2, Clock())
    assert chooser.choose() == 0
    assert chooser.choose({0}) == 1
    assert chooser.choose({0, 1}) is None


def test_where_all_are_out_the_one_whose_time_comes_first_is_asked() -> None:
    clock = Clock()
    chooser = Chooser(2, clock)
    chooser.failed(0, 30)
    chooser.failed(1, 10)
    assert chooser.choose() == 1
    assert chooser.choose({1}) is None


Make = Callable[..., tuple[Endpoints, list[Model], Clock, list[str]]]


@pytest.fixture
def make() -> Make:
    def made(*spaces: int, seconds: float = 0.1) -> tuple[Endpoints, list[Model], Clock, list[str]]:
        clock, told = Clock(), list[str]()
        models = [Model(clock, seconds=seconds, space=space) for space in spaces]
        servers = {f"http://me:secret@{'abc'[place]}/v1": model for place, model in enumerate(models)}
        return Endpoints(servers, tell=told.append, clock=clock), models, clock, told

    return made


def test_servers_of_one_model_give_what_one_of_them_gives(make: Make) -> None:
    several, models, _, told = make(0, 0, 0)
    texts = [f"text {number}" for number in range(30)]
    vectors = np.concatenate([several.embed_array([text]) for text in texts])
    assert np.array_equal(vectors, Model(Clock()).embed_array(texts))
    assert sorted(text for model in models for text in model.texts) == sorted(texts)
    assert told == []


def test_a_server_of_another_model_is_refused_by_its_name_before_any_text_is_sent(make: Make) -> None:
    several, models, _, _ = make(0, 7, 0)
    with pytest.raises(EndpointsError) as caught:
        several.embed_array(["text"])
    assert str(caught.value).startswith(
        "http://b/v1 gives the same text another vector than http://a/v1, http://c/v1: another model"
    )
    assert provider_fault(caught.value).kind == "not_found"
    assert not any(model.texts for model in models)


def test_a_server_that_refuses_the_key_while_others_take_it_is_refused_by_its_name(make: Make) -> None:
    several, models, _, _ = make(0, 0)
    models[1].down = PermissionDenied("no such key")
    with pytest.raises(EndpointsError, match="http://b/v1 cannot be used: no such key"):
        several.embed_array(["text"])


class PermissionDenied(Exception):  # noqa: N818
    """What an SDK raises for 401."""

    status_code = 401


class Busy(Exception):  # noqa: N818
    """What an SDK raises for 429."""

    status_code = 429


class TooLong(Exception):  # noqa: N818
    """What an SDK raises for 400."""

    status_code = 400


def test_one_that_is_down_from_the_beginning_is_left_out_and_used_when_it_comes(make: Make) -> None:
    several, models, clock, told = make(0, 0)
    models[0].down = ConnectionRefusedError("connection refused")
    several.embed_array(["first"])
    assert models[1].texts == ["first"]
    models[0].down = None
    clock.now += 1
    for number in range(4):
        several.embed_array([str(number)])
    assert models[0].texts
    assert told == ["http://a/v1 is left out for the time being: connection refused", "http://a/v1 answers again"]


def test_one_that_dies_is_left_out_and_its_request_goes_to_another(make: Make) -> None:
    several, models, _, told = make(0, 0)
    several.embed_array(["first"])
    models[1].down = models[0].down = None
    models[0].down = ConnectionResetError("reset")
    for number in range(10):
        several.embed_array([str(number)])
    assert models[1].texts[-10:] == [str(number) for number in range(10)]
    assert told == ["http://a/v1 is left out for the time being: reset"]


def test_one_that_comes_back_with_another_model_is_not_asked_any_more(make: Make) -> None:
    several, models, clock, told = make(0, 0)
    several.embed_array(["first"])
    models[0].down = ConnectionResetError("reset")
    for number in range(3):
        several.embed_array([str(number)])
    models[0].down, models[0].space, before = None, 9, len(models[0].texts)
    for number in range(50):
        clock.now += 60
        several.embed_array([str(number)])
    assert len(models[0].texts) == before
    assert told[-1] == "http://a/v1 has another model than before, and is not asked any more"
    models[1].down = ConnectionResetError("reset")
    with pytest.raises(ConnectionResetError):
        several.embed_array(["text"])


def test_where_all_fail_the_failure_that_may_pass_is_told(make: Make) -> None:
    several, models, _, _ = make(0, 0)
    several.embed_array(["first"])
    models[0].down, models[1].down = PermissionDenied("key revoked"), Busy("slow down")
    with pytest.raises(Busy):
        several.embed_array(["text"])


def test_a_text_that_is_refused_is_not_tried_elsewhere_and_leaves_nobody_out(make: Make) -> None:
    several, models, _, told = make(0, 0)
    several.embed_array(["first"])
    models[0].down = models[1].down = TooLong("too long")
    with pytest.raises(TooLong):
        several.embed_array(["text"])
    models[0].down = models[1].down = None
    several.embed_array(["text"])
    assert told == []


def test_an_answer_that_cannot_be_right_is_asked_for_elsewhere(make: Make) -> None:
    several, models, _, told = make(0, 0)
    several.embed_array(["first"])
    right = models[0].embed_array
    models[0].embed_array = lambda texts: right(texts) * np.float32(np.nan)
    for number in range(4):
        assert np.isfinite(several.embed_array([str(number)])).all()
    assert told == [
        "http://a/v1 is left out for the time being: the provider returned a vector with a number that is not finite"
    ]
