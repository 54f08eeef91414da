"""The tracker remembers: by its queue ID or by other traits, what has happened to a message and why it is where it is.

Owns: its database, a projection of events that can be wiped and is rebuilt from the streams.
Reads: ACCEPTED, STATUS and REFUSALS through its own consumers, the bucket `standing`; answers control's queries.
Writes: its database and nothing else; on the bus it only acks and answers.
Never: writes to the mail path, decides anything about a message.

A place is kept here for the reconciler, which will make events of messages on the mail path that have no ACCEPTED
event: the right to list MAIL and RETRY is not yet the tracker's.
"""
