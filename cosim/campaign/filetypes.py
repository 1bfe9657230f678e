"""Types and versions of the campaign's files, and the codes in them."""

SHARD = ("cosim-shard", (1, 1))
SAMPLES = ("cosim-samples", (1, 1))
BIAS = ("cosim-bias", (1, 0))
FAST_LEVEL = ("cosim-fast-level", (1, 0))

STATUS = ("ok", "flipped", "out_of_range", "timeout", "crash", "bad_deck", "no_convergence", "not_finite")
"""What became of a sample; stored as its index in this tuple. Flipped samples have values, the later ones none."""

TRANSIENT = (STATUS.index("timeout"), STATUS.index("crash"))
"""Failures that the machine may have caused, and not the circuit: the next run tries such a sample again."""
