"""What the page says of where its samples come from."""

from __future__ import annotations

from collections.abc import Mapping

from cosim.surrogate.operating import point_of, records_of

_NGSPICE = (
    "every sample is an ngspice run of the whole transistor netlist below, with threshold mismatch drawn for each"
)


def samples_from(provenance: Mapping[str, object]) -> str:
    """A sentence on who read the columns: ngspice, or the fast column with what it erred by against ngspice."""
    records = records_of(provenance)
    fast = [record for record in records if record.get("level") == "L2"]
    if not fast:
        return f"{_NGSPICE} transistor"
    worst = {name: max(float(each[name]) for each in fast if name in each) for name in ("l2_bias_mv", "l2_rms_mv")}
    where = "" if len(fast) == len(records) else f" at {len(fast)} of {len(records)} operating points"
    missed = any(record.get("l2_reason") for record in fast)
    return (
        f"columns were read by the fast model of the whole transistor netlist below{where}, which erred by at most "
        f"{worst['l2_bias_mv']:.3f} mV (bias) and {worst['l2_rms_mv']:.3f} mV (rms) against ngspice on the same draws"
        + ("; where it missed its bound, ngspice read them" if missed else "")
    )


def operating_point(provenance: Mapping[str, object]) -> str:
    """A sentence on the operating point, and whether the surrogate was interpolated to it."""
    named = str(provenance.get("operating_point", ""))
    if not named:
        records = records_of(provenance)
        named = (
            str(point_of(records[0])) if len(records) == 1 else "the corner, supply and temperature of the recipe below"
        )
    between = provenance.get("interpolated")
    return f"One operating point: {named}" + (", interpolated between those that were simulated" if between else "")
