"""`kai-migrate ledger`: the ledger's schema by hand."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click

Place = Callable[[], tuple[str | None, Path]]
"""What `ctx.obj` must be: a function that gives MIGRATION_LEDGER_URL, or None, and MIGRATION_HOME."""


class Refused(click.ClickException):
    """Refused before anything changed."""

    exit_code = 2


@click.group("ledger")
def command() -> None:
    """Look after the ledger's schema.

    It is upgraded by itself when a run starts; these commands do so by hand. Before a SQLite ledger changes,
    its file is copied beside itself.
    """


@command.command("current")
@click.pass_obj
def current_command(place: Place) -> None:
    """Print the revision at which the ledger stands."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        standing = upgrade.current(resolve(*place()))
    if standing is None:
        click.echo("none")
    else:
        click.echo(f"{standing} (head)" if standing == upgrade.head() else standing)


@command.command("upgrade")
@click.argument("revision", default="head")
@click.pass_obj
def upgrade_command(place: Place, revision: str) -> None:
    """Bring the ledger up to REVISION, by default the newest."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        url = resolve(*place())
        upgrade.upgrade(url, revision)
        standing = upgrade.current(url)
    click.echo(f"The ledger stands at {standing or 'base'}.")


@command.command("downgrade")
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def downgrade_command(place: Place, revision: str, yes: bool) -> None:
    """Take the ledger back to REVISION, or to nothing with `base`. What only newer revisions hold is lost."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        url = resolve(*place())
    if not yes:
        try:
            click.confirm(f"Downgrade to {revision}, losing what only newer revisions hold?", abort=True)
        except click.Abort:
            raise Refused("not confirmed; give --yes to go on without being asked") from None
    with _refusing():
        upgrade.downgrade(url, revision)
        standing = upgrade.current(url)
    click.echo(f"The ledger stands at {standing or 'base'}.")


@command.command("sql")
@click.option(
    "--dialect",
    type=click.Choice(["sqlite", "postgresql"]),
    help="Whose SQL; by default that of the ledger's URL.",
)
@click.option("--from", "from_", default="base", show_default=True, help="Revision to begin at.")
@click.option("--to", default="head", show_default=True, help="Revision to end at; may lie before.")
@click.pass_obj
def sql_command(place: Place, dialect: str | None, from_: str, to: str) -> None:
    """Print the statements that lead from one revision to another, without executing them."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        name = dialect or resolve(*place()).get_backend_name()
        statements = upgrade.sql("sqlite" if name == "sqlite" else "postgresql", from_, to)
    click.echo(statements, nl=False)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Say in one line, with exit status 2, why the ledger cannot be used."""
    from migration.ledger.errors import LedgerError

    try:
        yield
    except LedgerError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.filename or 'MIGRATION_HOME'}: {error.strerror or error}") from error
