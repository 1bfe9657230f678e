"""Samples to a fitted, validated model of the column and the sense amplifier."""
