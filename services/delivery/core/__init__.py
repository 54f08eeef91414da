"""Delivery's decisions: pure functions over values. Time, chance and DNS answers come in as arguments."""
