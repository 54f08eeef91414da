"""What ingress decides, as pure functions over values: nothing here reads a clock, a socket or a file."""
