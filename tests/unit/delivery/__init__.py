"""Unit tests of delivery's cores: no I/O, no clock."""
