import pytest
from known_subjects import Sleeps

from passt_bench.measure.arm import ArmError, ArmProcess


def test_commands_and_answers() -> None:
    process = ArmProcess()
    process.send("build", Sleeps(0.01), 1)
    assert process.receive(60) is None
    process.send("warm_up", 2)
    seconds = process.receive(60)
    assert len(seconds) == 2
    assert min(seconds) >= 0.01
    process.close()


def test_a_command_that_raises_leaves_the_process_alive() -> None:
    process = ArmProcess()
    process.send("warm_up", 1)
    with pytest.raises(ArmError, match="subject"):  # not built yet
        process.receive(60)
    process.send("build", Sleeps(0.01), 1)
    assert process.receive(60) is None
    process.close()


def test_a_late_answer_is_a_timeout() -> None:
    process = ArmProcess()
    process.send("build", Sleeps(5), 1)
    process.receive(60)
    process.send("warm_up", 1)
    with pytest.raises(ArmError) as caught:
        process.receive(0.2)
    assert caught.value.status == "timeout"
    process.close()


def test_a_factory_that_cannot_be_sent_is_a_bug_and_raises() -> None:
    process = ArmProcess()
    with pytest.raises((AttributeError, TypeError, ValueError), match=r"(?i)pickle|local"):
        process.send("build", lambda: Sleeps(0.01)(), 1)
    process.close()
