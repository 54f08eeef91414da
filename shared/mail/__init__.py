"""The vocabulary of mail: addresses, replies, identifiers. Pure values; decides nothing, touches nothing."""
