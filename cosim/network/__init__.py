"""Binary networks whose partial sums are read through a model of the circuit."""
