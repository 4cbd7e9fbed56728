"""A run's command line, written from its record: what was given, and the settings that it went by, but no key.

The options are read off the command itself, so that one that a command gets tomorrow is written too.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from kai.families import find_family
from migration.ledger import StartRecord
from migration.operations.history import RunDetails
from migration.operations.runs.record import WITHHELD
from migration.strategies.refusals import Refused

_COMMANDS: Final = {"migrate": "run", "rollback": "rollback", "restore": "restore", "backup": "backup"}
"""By the kind of a run."""


def command_of(details: RunDetails) -> str:
    """What does the run again, for a shell to execute: of one that was resumed, its last start.

    A file of collections is written first, from the record. The alias is left out, for it is the run's own.

    Raises:
        Refused: the options were not recorded.
    """
    start = recorded(details)
    options, settings = dict(start.options or {}), dict(start.environment or {})
    words = [f"{name}={shlex.quote(str(value))}" for name, value in settings.items() if not _is_withheld(value)]
    file = f"{details.run.name}.toml" if start.collections_file is not None else None
    if file is not None:
        options["collections_file"] = file
    line = " ".join([*words, shlex.join(["kai-migrate", *arguments_of(_COMMANDS[details.run.kind], options)])])
    if file is None:
        return line
    env_file = ["--env-file", str(options["env_file"])] if "env_file" in options else []
    shown = shlex.join(["kai-migrate", "show", details.run.name, "--collections-file", *env_file])
    return f"{shown} > {shlex.quote(file)} && {line}"


def notes_on(details: RunDetails) -> list[str]:
    """What the command line does not say, a sentence each."""
    settings = recorded(details).environment or {}
    family = find_family(str(settings.get("EMBEDDING_FAMILY")))
    secret = [family.key.name] if family and family.key and family.key.required else []
    secret += [name for name, value in settings.items() if _is_withheld(value)]
    notes = [f"TYPESENSE_API_KEY{''.join(f', {name}' for name in secret)}: from .env or the environment"]
    if any(each.options != details.starts[-1].options for each in details.starts):
        notes.append(
            f"The run was begun with other options, and resumed with these: kai-migrate show {details.run.name}"
        )
    return notes


def recorded(details: RunDetails) -> StartRecord:
    """The last start of a run.

    Raises:
        Refused: its options were not recorded.
    """
    start = details.starts[-1] if details.starts else None
    if start is None or start.options is None or details.run.kind not in _COMMANDS:
        raise Refused(
            f"RUN: the options of {details.run.name} were not recorded, for an older version of this program made it; "
            f"`kai-migrate show {details.run.name}` says what is known"
        )
    return start


def arguments_of(name: str, options: Mapping[str, Any]) -> list[str]:
    """The words after `kai-migrate` that give these options to the command of this name."""
    command: click.Command = import_module(f"migration.cli.{name}").command
    given = {param: options[str(param.name)] for param in command.params if param.name in options}
    given = {param: value for param, value in given.items() if param.name != "alias"}
    # First what stands by itself: a list of collections takes all that follows it.
    ordered = sorted(given.items(), key=lambda each: isinstance(each[0], click.Option))
    return [name, *(word for param, value in ordered for word in _words(param, value))]


def _words(param: click.Parameter, value: Any) -> list[str]:
    if not isinstance(param, click.Option):
        return [str(value)]
    option = param.opts[0]
    if param.is_flag and value is False and param.secondary_opts:
        return [param.secondary_opts[0]]
    if param.is_flag:
        return [option]  # Only what differs from the default is on record.
    if param.name == "hold":
        return [option] if value is True else [f"{option}={value:.12g}s"]
    if param.name == "max_load":
        value = ",".join(f"{name}={most:.12g}" for name, most in value.items())
    if param.name == "until":
        value = f"{100 * value:.12g}%"
    values = [str(each) for each in value] if param.multiple else [str(value)]
    if any(each.startswith("-") for each in values):
        return [f"{option}={each}" for each in values]
    return [option, *values]


def _is_withheld(value: Any) -> bool:
    return WITHHELD in str(value)
