"""Delivery: carries each accepted message to the recipients' mail exchangers, once, and records every attempt.

Owns: STATUS (one record per attempt, hold, release, expiry or drop), RETRY (deferred, held and due messages), CAPTURED
(staged messages) and the buckets `suppressions`, `policies` (MTA-STS) and `pressure` (what workers tell each other);
answers `postlane.delivery.>` (queue operations, suppressions).
Writes: those, and the quarantine of MAIL; nobody else writes them.
Reads: MAIL, RETRY and NOTICES by their consumers, the buckets `directory`, `standing` and `keys`.
Never: decides who may send, accepts mail, sends unsigned mail, or loses a message it cannot read.

The way of a message: `worker` pulls it and holds a lease on it (`leases`), `core.fair_queue` says when its turn is,
`carrier` reads its last STATUS and asks `core.step` what is next, `attempts` makes an attempt through `dispatch` and
`courier`, which visits exchangers (`visit`: an `opening`, a `transaction`), `commit` records it in STATUS and only then
moves or releases the message.
"""
