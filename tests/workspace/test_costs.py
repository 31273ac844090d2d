"""What a run took: every attempt counts, one that was killed too, and all of its processes."""

import signal
import subprocess
import sys

import pytest

from msd_genre.workspace.costs import _measured, cost_table, read_costs
from msd_genre.workspace.runs import create_run

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


@pytest.fixture
def run(tmp_path):
    return create_run({"seed": 1}, tmp_path / "run")


def test_the_work_of_other_processes_counts(run):
    with _measured(run, "catalog") as cost:
        subprocess.run([sys.executable, "-c", BURN], check=True)
    assert cost.ended == "executed" and cost.processor_s >= 0.3 and cost.memory_gb > 0.01


def test_attempts_add_up_until_a_step_is_complete(run):
    with pytest.raises(MemoryError), _measured(run, "05_cnn"):
        raise MemoryError
    with _measured(run, "05_cnn"):
        pass
    assert [one["ended"] for one in read_costs(run)["05_cnn"]] == ["failed", "executed"]
    with _measured(run, "05_cnn") as cost:
        cost.ended = "reused"
    table = cost_table(read_costs(run)).set_index("step")
    assert table.loc["05_cnn", "attempts"] == 2, "what was reused has cost nothing anew"
    with _measured(run, "05_cnn"):
        pass
    assert [one["ended"] for one in read_costs(run)["05_cnn"]] == ["executed"]


def test_what_is_only_reused_has_no_costs(run):
    with _measured(run, "catalog") as cost:
        cost.ended = "reused"
    assert read_costs(run) == {} and len(cost_table(read_costs(run))) == 0


def test_an_attempt_that_is_killed_leaves_what_it_took(run):
    code = f"""
import os, signal, time
from msd_genre.workspace import costs, runs
costs._KEEP_EVERY_S, costs._EVERY_S = 0.1, 0.05
with costs._measured(runs.open_run({str(run.dir)!r}), "catalog"):
    time.sleep(0.6)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    [attempt] = read_costs(run)["catalog"]
    assert attempt["ended"] == "cut short" and attempt["seconds"] > 0.1
