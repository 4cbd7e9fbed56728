"""The one exception that the ledger raises."""


class LedgerError(Exception):
    """The ledger cannot do what was asked.

    The message is one line: what is wrong, which setting it comes from (`MIGRATION_LEDGER_URL` or
    `MIGRATION_HOME`), and what helps. It never contains a password.
    """
