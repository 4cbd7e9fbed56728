"""From which seed the random combinations of faults are drawn: the same in every run, and in every worker of one.

`FAULT_SEED=random` draws another one, `FAULT_SEED=N` takes that one.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

VARIABLE: Final = "FAULT_SEED"
_FIXED: Final = 29030
_RANDOM: Final = "random"


def fault_seed() -> int:
    """The seed; one that is drawn stays in the environment, where the other processes of this run find it.

    Raises:
        ValueError: FAULT_SEED is neither `random` nor a number.
    """
    wanted = os.environ.get(VARIABLE) or str(_FIXED)
    if wanted == _RANDOM:
        wanted = os.environ[VARIABLE] = str(secrets.randbelow(10**6))
    return int(wanted)
