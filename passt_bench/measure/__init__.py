"""Instruments: clocks, memory, FLOPs, the machine, and the interleaved cost session."""

from passt_bench.measure.arm import Arm
from passt_bench.measure.flops import count_flops, matmul_peak, vit_flops
from passt_bench.measure.machine import describe_machine, disturbance, git_commit, library_versions
from passt_bench.measure.memory import measure_peak, saved_for_backward
from passt_bench.measure.session import ArmResult, SessionResult, run_session
from passt_bench.measure.target import Subject

__all__ = [
    "Arm",
    "ArmResult",
    "SessionResult",
    "Subject",
    "count_flops",
    "describe_machine",
    "disturbance",
    "git_commit",
    "library_versions",
    "matmul_peak",
    "measure_peak",
    "run_session",
    "saved_for_backward",
    "vit_flops",
]
