"""What ingress can say of itself to the doctor: its certificate, its durability, what it has left unsaid."""

from collections.abc import Sequence

from services.ingress.journal import Journal
from services.ingress.settings import IngressSettings
from shared.bus.roll_call import Examine
from shared.contract.examination import CallRoll, Finding
from shared.runtime import clock
from shared.runtime.server_certificate import WARNING, Certificate


def examination(certificate: Certificate, journals: Sequence[Journal], settings: IngressSettings) -> Examine:
    """Return what examines this process."""

    async def examine(_call: CallRoll) -> Sequence[Finding]:
        findings = [_certificate(certificate)]
        if settings.relaxed_durability:
            findings.append(
                Finding(
                    check="durability",
                    state="warning",
                    sentence="durability is relaxed: mail answered 250 can be lost in a crash of the bus",
                    advice="unset POSTLANE_INGRESS_RELAXED_DURABILITY for real mail",
                )
            )
        findings += [_dropped(journal) for journal in journals if journal.dropped]
        return findings

    return examine


def _certificate(certificate: Certificate) -> Finding:
    left = certificate.expires - clock.now()
    until = f"the certificate of the SMTP listeners is valid until {certificate.expires:%Y-%m-%d}"
    advice = "renew it; new files at the same place are taken up without a restart"
    if left.total_seconds() <= 0:
        return Finding(check="certificate", state="bad", sentence=f"{until}: it has ended", advice=advice)
    if left < WARNING:
        return Finding(check="certificate", state="warning", sentence=f"{until}, {left.days} days", advice=advice)
    return Finding(check="certificate", state="ok", sentence=until)


def _dropped(journal: Journal) -> Finding:
    return Finding(
        check="events",
        state="warning",
        sentence=f"{journal.dropped} events about {journal.name} mail were not published since the start",
        advice="the bus was away for long; the audit makes missing acceptances again, refusals stay unknown",
    )
