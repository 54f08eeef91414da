"""The proof that a domain is somebody's: a value they were given, published where only they can publish."""

from services.verifier.core.answer import Absent, Answer, Records, Unknown, printable
from services.verifier.core.dkim_record import Finding


def judge(answer: Answer, name: str, value: str) -> Finding:
    """Judge what was answered for TXT `name`; other values may stand beside ours."""
    match answer:
        case Unknown(why):
            return Finding(verdict="unknown", detail=f"The proof at {name} could not be looked up: {why}.")
        case Absent():
            return Finding(verdict="fail", detail=f"There is no TXT record at {name}: publish '{value}' there.")
        case Records(values):
            shown = tuple(printable(each) for each in values)
            if value in (each.strip() for each in values):
                return Finding(verdict="pass", detail=f"The proof is published at {name}.", values=shown)
            detail = f"The TXT record at {name} is not the proof: publish '{value}' there."
            return Finding(verdict="fail", detail=detail, values=shown)
