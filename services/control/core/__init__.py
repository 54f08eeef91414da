"""What control decides, as pure functions: nothing here reads a clock, a socket, a file or the dice."""
