"""What a look finds, as data: a check of something, and what it found there, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Severity = Literal["error", "warning", "info"]
"""Error: searches suffer, or a run would be refused or fail. Warning: it may come to that. Info: to be known."""
Verdict = Literal["PASS", "WARN", "FAIL", "NOT CHECKED"]
FailOn = Literal["error", "warning"]

SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""The worst first."""
MOST_IDS: Final = 1000
"""Documents that a finding names; its count is of all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: how bad it is.
        code: what kind of thing it is, the same in every version of the program.
        what: a sentence.
        where: a setting, an address, a collection or `collection.field`.
        remedy: what mends it; empty where nothing need be done.
        count: documents that it is about; 0 where it is about none.
        ids: the first 1,000 of them, in the order in which they were read.
    """

    severity: Severity
    code: str
    what: str
    where: str
    remedy: str = ""
    count: int = 0
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at.

    Attributes:
        name: what was looked at.
        where: where.
        detail: what was seen, or why it could not be looked at.
        findings: what is not as it should be.
        is_made: whether it could be looked at; one that was broken off may have findings all the same.
    """

    name: str
    where: str
    detail: str
    findings: tuple[Finding, ...] = ()
    is_made: bool = True

    @property
    def verdict(self) -> Verdict:
        """PASS without a finding that matters, WARN or FAIL by the worst one, NOT CHECKED where it was not made."""
        if not self.is_made:
            return "NOT CHECKED"
        severities = {finding.severity for finding in self.findings}
        return "FAIL" if "error" in severities else "WARN" if "warning" in severities else "PASS"


@dataclass(slots=True)
class Named:
    """Documents that have something in common: how many, and the first of their ids."""

    count: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, document_id: str) -> None:
        """One more."""
        self.count += 1
        if len(self.ids) < MOST_IDS:
            self.ids.append(document_id)

    def extend(self, document_ids: Iterable[str]) -> None:
        """Some more."""
        for document_id in document_ids:
            self.add(document_id)

    def found(self, severity: Severity, code: str, what: str, where: str, remedy: str) -> tuple[Finding, ...]:
        """The finding about them, of which `what` is said behind their number; none where there are none."""
        if not self.count:
            return ()
        said = f"{self.count:,} document{'s' * (self.count > 1)} {what}"
        return (Finding(severity, code, said, where, remedy, self.count, tuple(self.ids)),)


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The severity of the worst of them; None where there are none."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), None)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, and what was found.

    Attributes:
        server: address of Typesense.
        model: the configured one, as family/model/dimensions; None where none is.
        checks: in the order in which they were made.
        fail_on: severity from which on a finding makes the exit status 1.
        report: the file of its report; empty where none could be written.
    """

    server: str
    model: str | None
    checks: tuple[Check, ...]
    fail_on: FailOn = "error"
    report: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, the worst first."""
        found = [finding for check in self.checks for finding in check.findings]
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))

    @property
    def exit_status(self) -> int:
        """0 where nothing was found that is as bad as `fail_on`, else 1."""
        found = worst(self.findings)
        return int(found is not None and SEVERITIES.index(found) <= SEVERITIES.index(self.fail_on))

    def facts(self) -> dict[str, object]:
        """What a program reads of it."""
        checks = [
            {"name": check.name, "where": check.where, "verdict": check.verdict, "detail": check.detail}
            for check in self.checks
        ]
        return {
            "server": self.server,
            "model": self.model,
            "exit_status": self.exit_status,
            "findings": self.findings,
            "checks": checks,
            "report": self.report,
        }
