"""What the rooms say to each other, declared once: records, events, requests, errors, subjects, catalogue.

`docs/events.md`, the streams, the consumers and every room's permissions on the bus are generated from here.
Pure declarations: nothing here reads a clock, a socket or a file.
"""
