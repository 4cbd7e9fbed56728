"""`filter_by`: parsing to a tree, and the tree to a predicate over documents.

    is_default:=false && (id:[c1,c2] || rank:>=3) && $database_connections(alias:=`sales`)

`&&` binds stronger than `||`; a value may be put in backticks. Parsing knows nothing of schemas, binding
(`kai.sandbox.matching`) does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kai.sandbox.errors import ApiError

OPERATORS = ("!=", ">=", "<=", "=", "!", ">", "<", "")
"""Comparison operators after the colon, longer ones first; the empty one is Typesense's loose match."""

FIELD_NAME = re.compile(r"[^\s:()&|`$\[\]]+")


@dataclass(frozen=True)
class Condition:
    """`field:<operator><values>`; more than one value, or a list, means "any of them"."""

    field: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Join:
    """`$collection(filter)`: documents whose referenced document matches."""

    collection: str
    filter: Filter


@dataclass(frozen=True)
class And:
    """All of the parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """Any of the parts."""

    parts: tuple[Filter, ...]


Filter = Condition | Join | And | Or


def unparsable() -> ApiError:
    """What a malformed filter gets."""
    return ApiError(400, "Could not parse the filter query.")


def parse_filter(text: str) -> Filter:
    """The tree of a `filter_by` string; ApiError 400 if it is malformed."""
    parser = _Parser(text)
    tree = parser.any_of()
    parser.skip_space()
    if parser.position != len(text):
        raise unparsable()
    return tree


class _Parser:
    """Recursive descent, one method a rule."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def skip_space(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def take(self, token: str) -> bool:
        self.skip_space()
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def any_of(self) -> Filter:
        parts = [self.all_of()]
        while self.take("||"):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all_of(self) -> Filter:
        parts = [self.term()]
        while self.take("&&"):
            parts.append(self.term())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def term(self) -> Filter:
        if self.take("("):
            inner = self.any_of()
            if not self.take(")"):
                raise unparsable()
            return inner
        if self.take("$"):
            name = self.name()
            if not self.take("("):
                raise unparsable()
            inner = self.any_of()
            if not self.take(")"):
                raise unparsable()
            return Join(name, inner)
        field = self.name()
        if not self.take(":"):
            raise unparsable()
        self.skip_space()
        operator = next(sign for sign in OPERATORS if self.text.startswith(sign, self.position))
        self.position += len(operator)
        return Condition(field, operator, self.values(field))

    def name(self) -> str:
        self.skip_space()
        found = FIELD_NAME.match(self.text, self.position)
        if found is None:
            raise unparsable()
        self.position = found.end()
        return found.group()

    def values(self, field: str) -> tuple[str, ...]:
        self.skip_space()
        if self.take("["):
            values: list[str] = []
            while not self.take("]"):
                values.append(self.value(",]"))
                if not self.take(",") and not self.text.startswith("]", self.position):
                    raise unparsable()
            return tuple(values)
        value = self.value("")
        if not value:
            raise ApiError(400, f"Error with filter field `{field}`: Filter value cannot be empty.")
        return (value,)

    def value(self, stops: str) -> str:
        """Characters up to one of `stops`, an operator or a closing parenthesis; backticks protect.

        As on the server, white space at the ends goes even inside backticks, and a backslash keeps a backtick
        from being one.
        """
        self.skip_space()
        taken: list[str] = []
        quoted = False
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == "`" and taken[-1:] != ["\\"]:
                quoted = not quoted
            elif not quoted and self._ends_value(character, stops):
                break
            else:
                taken.append(character)
            self.position += 1
        if quoted:
            raise unparsable()
        return "".join(taken).strip()

    def _ends_value(self, character: str, stops: str) -> bool:
        if character in stops or character == ")":
            return True
        return self.text.startswith(("&&", "||"), self.position)
