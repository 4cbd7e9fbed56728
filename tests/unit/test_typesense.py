"""The client of Typesense against answers that a test makes up."""

from __future__ import annotations

import httpx
import pytest

from kai.typesense_answers import TypesenseError, raise_for_status


def refusal(status: int, message: str, **headers: str) -> TypesenseError:
    """What an answer that is not 2xx becomes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(TypesenseError) as raised:
        raise_for_status(httpx.Response(status, json={"message": message}, headers=names))
    return raised.value


@pytest.mark.parametrize("resource", ["OUT_OF_DISK", "OUT_OF_MEMORY"])
def test_a_server_that_runs_out_of_a_resource_is_waited_for(resource: str) -> None:
    assert refusal(422, f"Rejecting write: running out of resource type: {resource}").transient
    assert not refusal(422, "Only upto 250 hits can be fetched per page.").transient


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("9999", 300.0), ("nan", None), ("inf", None), ("-1", None)]
)
def test_only_a_number_of_seconds_is_a_time_to_wait(header: str, seconds: float | None) -> None:
    assert refusal(503, "Not Ready or Lagging", Retry_After=header).retry_after == seconds
