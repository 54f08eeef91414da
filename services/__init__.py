"""The rooms of Postlane: one directory is one process is one set of permissions. `docs/flow.md` is the way through."""
