"""The one exception of backups."""


class BackupError(Exception):
    """A backup cannot be written, read or trusted.

    The message is one line: what is wrong, the file or folder (or `MIGRATION_HOME`), and what helps.
    """
