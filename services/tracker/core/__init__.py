"""What the tracker concludes from events, as pure functions over values."""
