"""The warm process, each case in an interpreter of its own: a fork needs a single thread."""

import json
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import json, os, signal, sys, threading
import anyio
from deployments.warm import Ended, ThreadsBeforeFork, WarmProcess, WarmProcessGone

def entry(request):
    if request["do"] == "exit":
        sys.exit(int(request["code"]))
    if request["do"] == "raise":
        raise ValueError("secret of a row")
    if request["do"] == "pid":
        print(json.dumps({"child": os.getpid(), "parent": os.getppid()}), flush=True)
    if request["do"] == "hang":
        signal.pause()
    if request["do"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return request.get("answer", "")

async def with_warm(work):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await work()
        tasks.cancel_scope.cancel()

async def listen():
    await warm.listen()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_child_runs_the_entry_and_its_exit_code_comes_back():
    done = run("""
    warm = WarmProcess.fork(entry)
    async def work():
        codes = []
        for request in ({"do": "pid"}, {"do": "exit", "code": "7"}, {"do": "raise"}):
            codes.append((await warm.wait(await warm.start(request))).exit_code)
        print(json.dumps({"codes": codes, "warm": warm.pid}))
    anyio.run(with_warm, work)
    """)
    child, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert summary["codes"] == [0, 7, 1]
    assert child["parent"] == summary["warm"]


def test_children_run_side_by_side_and_one_can_be_killed():
    done = run("""
    warm = WarmProcess.fork(entry)
    async def work():
        hanging = await warm.start({"do": "hang"})
        assert await warm.wait(await warm.start({"do": "exit", "code": "3"})) == Ended(3, b"")
        warm.kill(hanging)
        print((await warm.wait(hanging)).exit_code)
    anyio.run(with_warm, work)
    """)
    assert done.stdout.strip() == "-9", done.stderr


def answers(*requests: dict[str, str]) -> list[tuple[int, str]]:
    """The exit code of a child for each request, and the answer that it has left."""
    done = run(f"""
    warm = WarmProcess.fork(entry)
    async def work():
        before = len(os.listdir("/proc/self/fd"))
        for request in {list(requests)!r}:
            ended = await warm.wait(await warm.start(request))
            print(json.dumps([ended.exit_code, ended.answer.decode()]))
        assert len(os.listdir("/proc/self/fd")) == before  # nothing is left open
    anyio.run(with_warm, work)
    """)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_what_the_entry_returns_comes_back_and_each_child_has_its_own():
    said = answers({"do": "say", "answer": "grüße"}, {"do": "say", "answer": "2"}, {"do": "say"})
    assert said == [(0, "grüße"), (0, "2"), (0, "")]


@pytest.mark.parametrize(
    ("do", "exit_code"), [("die", -9), ("raise", 1), ("exit", 0)], ids=lambda value: str(value)
)
def test_a_child_that_ends_before_its_answer_has_none(do: str, exit_code: int):
    """Nor is what it was asked taken for its answer, which lies in the same file."""
    assert answers({"do": do, "code": "0", "answer": "never said"}) == [(exit_code, "")]


def test_of_an_answer_no_more_than_the_most_is_read():
    ((code, answer),) = answers({"do": "say", "answer": "x" * 16_385})
    assert (code, answer) == (0, "x" * 16_384)


def test_a_request_may_be_larger_than_a_message():
    done = run("""
    warm = WarmProcess.fork(entry)
    async def work():
        request = {"do": "say", "answer": "short", "more": "x" * 300_000}
        print(await warm.wait(await warm.start(request)))
    anyio.run(with_warm, work)
    """)
    assert done.stdout.strip() == "Ended(exit_code=0, answer=b'short')", done.stderr


def test_a_fork_with_a_second_thread_is_refused():
    done = run("""
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True).start()
    try:
        WarmProcess.fork(entry)
    except ThreadsBeforeFork as error:
        print(error)
    """)
    assert "2 threads" in done.stdout


def test_the_warm_process_and_its_children_end_with_the_worker():
    done = run("""
    warm = WarmProcess.fork(entry)
    async def work():
        child = await warm.start({"do": "hang"})
        print(json.dumps([warm.pid, child]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    anyio.run(with_warm, work)
    """)
    assert done.returncode == -9
    assert _ended(json.loads(done.stdout))


def test_a_lost_warm_process_is_reported_and_not_waited_for():
    done = run("""
    warm = WarmProcess.fork(entry)
    async def work():
        child = await warm.start({"do": "hang"})
        os.kill(warm.pid, signal.SIGKILL)
        try:
            await warm.wait(child)
        except WarmProcessGone as error:
            print("gone")
    try:
        anyio.run(with_warm, work)
    except* WarmProcessGone:
        print("reported")
    """)
    assert done.stdout.split()[-1:] == ["reported"], done.stderr


def _ended(pids: list[int]) -> bool:
    import psutil

    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("module", ["deployments.warm"])
def test_the_module_imports_nothing_heavy(module):
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}, sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
