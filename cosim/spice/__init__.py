"""The only place that talks to ngspice: engines, workers and where to find the library."""
