"""Text in, text out: processes, cells, amplifiers and the decks that test them."""
