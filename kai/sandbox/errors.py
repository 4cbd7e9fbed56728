"""The one exception that becomes an error answer."""

from __future__ import annotations


class ApiError(Exception):
    """A refused request or import line.

    Attributes:
        status: HTTP status, also the `code` of a failed import line.
        message: the text a real server gives.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def collection_not_found() -> ApiError:
    """What a request to an unknown collection gets."""
    return ApiError(404, "Collection not found")


def document_not_found(document_id: str) -> ApiError:
    """What a request for an unknown document gets."""
    return ApiError(404, f"Could not find a document with id: {document_id}")


def forbidden() -> ApiError:
    """What a request without a key, or with one that does not allow it, gets."""
    return ApiError(401, "Forbidden - a valid `x-typesense-api-key` header must be sent.")
