import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice
from pathlib import Path

import pytest

from captionless.data.process_pool import map_in_processes
from platforms import SIGNALS

FILES = [Path(f"{i:03d}") for i in range(40)]


def test_results_come_in_order_although_the_work_does_not():
    def work(path):
        time.sleep(0.02 if int(path.name) % 8 == 0 else 0)
        return path.name

    results = map_in_processes(work, FILES, workers=2, lost=str)
    assert list(results) == [path.name for path in FILES]


@SIGNALS
def test_a_file_that_kills_its_process_costs_only_itself(capfd):
    ends = {"001": signal.SIGKILL, "002": signal.SIGSEGV, "009": signal.SIGKILL}

    def work(path):
        if path.name in ends:
            os.kill(os.getpid(), ends[path.name])
        return path.name

    files = FILES[:10]
    results = list(map_in_processes(work, files, workers=1, lost=lambda path: f"lost {path.name}"))
    assert results == [f"lost {path.name}" if path.name in ends else path.name for path in files]
    assert capfd.readouterr().err == ""


def test_no_more_is_read_ahead_than_a_few(tmp_path):
    def work(path):
        (tmp_path / path.name).touch()
        return path.name

    many = [Path(f"{i:04d}") for i in range(400)]
    results = map_in_processes(work, many, workers=2, lost=str)
    assert list(islice(results, 10)) == [path.name for path in many[:10]]
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) <= 2 * 8 + 10 + 4
    results.close()


def test_an_error_of_the_function_comes_out():
    def work(path):
        raise LookupError(path.name)

    with pytest.raises(LookupError, match="000"):
        list(map_in_processes(work, FILES, workers=2, lost=str))


@SIGNALS
def test_an_interruption_ends_everything_at_once_and_in_silence(tmp_path):
    # Without a __main__ guard, as people write scripts.
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from captionless.data.process_pool import map_in_processes

        def work(path):
            Path(sys.argv[1], str(__import__("os").getpid())).touch()
            time.sleep(0.1)
            return 0

        try:
            for _ in map_in_processes(work, [Path(str(i)) for i in range(4000)], workers=2, lost=str):
                print("working", flush=True)
        except KeyboardInterrupt:
            sys.exit(130)
        """)
    )
    pids = tmp_path / "pids"
    pids.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), str(pids)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == ""
    for pid in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.name), 0)


def in_session(stat, session):
    """Whether a process belongs to a session, by its file in /proc."""
    try:
        return stat.read_text().rpartition(")")[2].split()[3] == str(session)
    except (FileNotFoundError, ProcessLookupError):
        return False


def running(pid):
    """Whether a process runs; one that has ended but whose parent has not asked for it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="lists processes as Linux does")
@pytest.mark.parametrize("number", ["SIGKILL", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_workers_end_with_their_parent_however_it_ended(tmp_path, number):
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from captionless.data.process_pool import map_in_processes

        def work(path):
            time.sleep(0.1)
            return 0

        for _ in map_in_processes(work, [Path(str(i)) for i in range(4000)], workers=2, lost=str):
            print("working", flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    group = [path.parent.name for path in Path("/proc").glob("[0-9]*/stat") if in_session(path, process.pid)]
    assert len(group) >= 3
    process.send_signal(signal.Signals[number])
    process.wait()
    deadline = time.monotonic() + 20
    while any(running(pid) for pid in group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(running(pid) for pid in group)
