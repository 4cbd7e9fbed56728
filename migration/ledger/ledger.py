"""The ledger as the rest of the program sees it: one object, plain values in and out.

Store       opening, closing, transactions            store.py
Models      embedding models                          models.py
Documents   which vector each document carries        documents.py
Runs        runs and their collections                runs.py
Outcomes    failures, verifications, metrics, history outcomes.py
Evaluations models compared before they are used      evaluations.py
Pruning     taking out what nothing needs any more    pruning.py
Batches     texts that a provider embeds in a day     batches.py
"""

from migration.ledger.batches import Batches
from migration.ledger.documents import Documents
from migration.ledger.evaluations import Evaluations
from migration.ledger.models import Models
from migration.ledger.outcomes import Outcomes
from migration.ledger.pruning import Pruning


class Ledger(Models, Documents, Outcomes, Evaluations, Pruning, Batches):
    """What was done, by which model, when. Open it with `Ledger.open`; use it from any thread.

    Every method that writes has committed when it returns. Errors are LedgerErrors.
    """
