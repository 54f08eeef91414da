"""Ingress: the door strangers' bytes come through. It admits mail, makes it durable and answers with a queue ID.

Owns: queue IDs; writes MAIL (fresh mail), ACCEPTED and REFUSALS.
Reads: the buckets `directory` and `standing`, as live local snapshots.
Never: asks another room while a client waits, looks anything up in DNS, delivers, or answers 250 before the bus has
the message on disk.
"""
