"""The fast column: a bank of cells simulated once, then thousands of columns integrated at once."""
