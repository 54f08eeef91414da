"""What is wrong with a request, as a value: the shape of IBM's error objects."""

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: a stable code, a sentence that says what to do, and the field it is about."""

    code: str
    message: str
    field: str = ""


def text_fault(field: str, value: str, least: int, most: int) -> tuple[Fault, ...]:
    """Check the length of a text and that it has no control characters."""
    if not least <= len(value) <= most:
        wanted = f"{least} to {most}" if least else f"at most {most}"
        return (Fault("invalid_length", f"{field} must have {wanted} characters, it has {len(value)}", field),)
    if not value.isprintable():
        return (Fault("invalid_characters", f"{field} must not contain control characters or line breaks", field),)
    return ()
