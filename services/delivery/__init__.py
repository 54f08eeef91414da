"""Delivery: carries each accepted message to the recipients' mail exchangers, once, and records every attempt.

Owns and alone writes: STATUS (one record per attempt, hold, release, expiry or drop), RETRY (deferred, held and due
messages), the bucket `suppressions`; serves the queue operations `postlane.delivery.queue.*`.
Reads: MAIL and RETRY by their consumers, the buckets `directory`, `standing` and `keys`.
Never: decides who may send, accepts mail, sends unsigned mail, or loses a message it cannot read (quarantine).

The way of a message: `worker` pulls it, `carrier` reads its last STATUS and asks `core.step` what is next, `courier`
makes an attempt, `commit` records it in STATUS and only then moves or releases the message.
"""
