"""The door to a migration: `python -m migration.embedding_migration`."""

from __future__ import annotations

from migration.cli.run import command


def main() -> None:
    """Run the command."""
    command.main(prog_name="python -m migration.embedding_migration")


if __name__ == "__main__":
    main()
