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
