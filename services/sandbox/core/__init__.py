"""What the sandbox answers, as pure functions over values: DNS look-ups and the script in a recipient's name."""
