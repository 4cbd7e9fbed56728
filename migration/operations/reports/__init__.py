"""The reports of the operations: of a run, of a doctor's look, of an evaluation."""
