"""What a trial's code prints reaches the log in whole lines, with the trial's id, up to a bound."""

import logging
import subprocess
import sys

from ddl.sweeps import trial_output


def test_lines_of_both_streams_keep_their_order_and_bear_the_trials_id(tmp_path):
    log = tmp_path / "launch.log"
    log.write_text("before\n")

    def code():
        print("one")
        print("two, ", end="", file=sys.stderr)
        print("three")
        subprocess.run([sys.executable, "-c", "print('of a process')"], stdout=sys.stdout, check=True)
        print("unfinished \udc80", end="")

    with trial_output.trial_output("ab12", log) as output:
        output.run(code)
        print("between two steps")
    assert log.read_text().splitlines() == [
        "before", "ab12: one", "ab12: two, three", "of a process", r"ab12: unfinished \udc80",
    ]  # fmt: skip


def test_what_exceeds_the_bound_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_output, "MAX_CHARACTERS", 10)
    with trial_output.trial_output("a", tmp_path / "log") as output:
        output.run(lambda: print("12345\n12345"))
        output.run(lambda: print("67"))
    assert (tmp_path / "log").read_text() == "a: 12345\na: 1234\na: 5 more characters of this trial's output were dropped.\n"


def test_an_endless_line_is_not_collected(tmp_path):
    with trial_output.trial_output("a", tmp_path / "log") as output:
        output.run(lambda: print("x" * trial_output.LONGEST_LINE, end="\r"))
        assert (tmp_path / "log").stat().st_size > trial_output.LONGEST_LINE


def test_without_a_log_it_goes_to_standard_output(capsys):
    with trial_output.trial_output("a", None) as output:
        output.run(lambda: print("one", file=sys.stderr))
    assert capsys.readouterr().out == "a: one\n"


def test_a_logger_that_outlives_its_trial_writes_on(tmp_path, capsys):
    with trial_output.trial_output("a", tmp_path / "log") as output:
        handler = output.run(logging.StreamHandler)
        handler.emit(logging.makeLogRecord({"msg": "in time"}))
    handler.emit(logging.makeLogRecord({"msg": "late"}))
    assert (tmp_path / "log").read_text() == "a: in time\n"
    assert capsys.readouterr() == ("a: late\n", "")
