"""What a DKIM signature costs, by size of mail and kind of key, beside dkimpy.

Run: `python -m benchmarks.dkim [--seconds 2]`; prints JSON, times in milliseconds per signature (median, 99 %).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dkim as peer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from services.delivery.core.dkim import PrivateKey, prepare, sign, signature

HEAD = b"From: A <a@sender.example>\r\nTo: b@other.example\r\nSubject: hello\r\nDate: x\r\nMessage-ID: <1@s>\r\n"
LINE = b"The quick brown  fox jumps over the lazy dog, and then\tdoes it again. \r\n"
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def timed(act: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Repeat an act for a while; return median and 99th percentile in milliseconds."""
    act()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 5:
        begun = time.perf_counter()
        act()
        taken.append((time.perf_counter() - begun) * 1000)
    taken.sort()
    return {"median": round(statistics.median(taken), 3), "p99": round(taken[int(len(taken) * 0.99)], 3)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds = parser.parse_args().seconds
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    second = ed25519.Ed25519PrivateKey.generate()
    pem = rsa_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )

    def one(mail: bytes, key: PrivateKey) -> None:
        sign(mail, key=key, domain="s.example", selector="s", now_seconds=1)

    def both(mail: bytes) -> None:
        prepared = prepare(mail)
        for key in (rsa_key, second):
            signature(prepared, key=key, domain="s.example", selector="s", now_seconds=1)

    def of_peer(mail: bytes) -> None:
        peer.sign(mail, b"s", b"s.example", pem, canonicalize=(b"relaxed", b"relaxed"))

    found: dict[str, dict[str, Any]] = {}
    for size in SIZES:
        mail = HEAD + b"\r\n" + LINE * (size // len(LINE))
        found[f"{size} octets"] = {
            "rsa-2048": timed(partial(one, mail, rsa_key), seconds),
            "ed25519": timed(partial(one, mail, second), seconds),
            "rsa-2048 and ed25519": timed(partial(both, mail), seconds),
            "dkimpy rsa-2048": timed(partial(of_peer, mail), seconds),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
