"""Signs the short-lived tokens of the API; every replica of control has the same key."""

from services.control.core import tokens
from services.control.core.tokens import Claims
from shared.runtime.sealing import MasterKey

ISSUER = "postlane"


class TokenSigner:
    """Makes tokens from API keys, and reads them."""

    def __init__(self, master_key: MasterKey, seconds: int) -> None:
        self._keys = tuple(tokens.signing_key(key) for key in master_key.every)
        self.seconds = seconds

    def issue(self, api_key_id: str, now_seconds: int) -> tuple[str, int]:
        """Return a token and when it ends, in epoch seconds."""
        ends = now_seconds + self.seconds
        return tokens.sign(Claims(iss=ISSUER, sub=api_key_id, iat=now_seconds, exp=ends), self._keys[0]), ends

    def read(self, token: str, now_seconds: int) -> str | None:
        """Return the ID of the API key a token was made from, or None."""
        claims = tokens.read_by_any(token, self._keys, now_seconds, ISSUER)
        return claims.sub if claims else None
