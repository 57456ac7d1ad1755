from dataclasses import replace

import torch

from passt_bench.runner.doctor import Check, check_instruments


def test_the_instruments_read_the_truth_here_and_a_wrong_reading_does_not_pass() -> None:
    found = check_instruments(torch.device("cpu"))
    assert len(found) == 4
    found[0] = replace(found[0], tolerance=1.0)  # a sleep, beside other tests
    assert [check.what for check in found if not check.passed] == []
    check = Check("x", 100.0, 101.0, 0.01, "s")
    assert check.passed and not replace(check, measured=101.1).passed
    assert not replace(check, measured=100.5, tolerance=0.0).passed
