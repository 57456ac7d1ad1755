"""Instruments: clocks, memory, FLOPs, the machine, and the interleaved cost session."""
