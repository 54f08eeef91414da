"""The tracker remembers: by its queue ID or by other traits, what has happened to a message and why it is where it is.

Owns: its database, a projection of events that can be wiped and is rebuilt from the streams.
Reads: ACCEPTED, STATUS and REFUSALS through its own consumers, the bucket `standing`; what lies in MAIL and RETRY,
for the audit and the reconciler; answers control's queries.
Writes: its database and nothing else; on the bus it only acks and answers.
Never: writes to the mail path, decides anything about a message.
"""
