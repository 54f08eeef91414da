"""The `postlane` command's own parts: everything that is not a room.

owns    the data directory of `postlane up`, its child processes, the profile of the administrative verbs
reads   control's HTTP API, the rooms' health pages
writes  through control's HTTP API; streams and consumers, when it provisions
never   imports a room: it starts rooms as processes and speaks to them from outside
"""
