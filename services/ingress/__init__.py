"""Ingress: the door strangers' bytes come through. It admits mail, makes it durable and answers with a queue ID.

Owns: queue IDs, and the decision whether a message comes in.
Writes: MAIL (fresh mail), ACCEPTED, REFUSALS; the buckets `logins` and `spending`, where its processes tell each other
of failures and of what was sent, and `usage` and `reports`, where people read of passwords and of rules on trial.
Reads: the buckets `directory` and `standing`, as live local snapshots.
Never: asks another room while a client waits, looks anything up in DNS, delivers, or answers 250 before the bus has
the message on disk.
"""
