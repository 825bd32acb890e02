"""Rewards in processes of their own: real interpreters, virtual environments, sockets and signals."""

from __future__ import annotations

import ast
import base64
import errno
import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reward_environments import environment, wheel

from clip_fixtures import pan, still
from penchant.errors import ModelError
from penchant.feedback.groups import Media
from penchant.judges import load
from penchant.judges.served import SERVER, RewardServer, Served

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(tmp_path):
    """Starts the reward `Reward` of some code; all are closed at the end."""
    judges: list[Served] = []

    def start(code: str, **options: Any) -> Served:
        file = tmp_path / f"reward{len(judges)}.py"
        file.write_text(textwrap.dedent(code))
        judges.append(Served.start(RewardServer(reward=f"{file}:Reward", **options)))
        return judges[-1]

    yield start
    for judge in judges:
        judge.close()


def health(judge: Served) -> dict[str, Any]:
    with urllib.request.urlopen(judge.url + "/health", timeout=10) as answer:
        return json.loads(answer.read())


def post(url: str, body: bytes, path: str = "/score") -> tuple[int, dict[str, Any]]:
    """Status and answer of a request made by hand."""
    try:
        with urllib.request.urlopen(url + path, data=body, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def wait_until_gone(port: int) -> None:
    """Until nothing listens on the port: the process is gone, not merely silent."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as client:
            # Nobody accepts at a helper's port: when its queue is full, connecting would wait.
            client.settimeout(0.5)
            if client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return
        time.sleep(0.05)
    pytest.fail("the server is still there.")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


LENGTHS = """
    class Reward:
        name, version, dimensions = "lengths", "7", ("length", "calls")

        def __init__(self):
            self.calls = 0

        def score(self, prompts, samples):
            self.calls += 1
            return [[len(s), self.calls] for s in samples]
"""


def test_name_version_and_dimensions_come_from_the_server(started):
    judge = started(LENGTHS)
    assert (judge.name, judge.version, judge.dimensions) == ("lengths", "7", ("length", "calls"))
    said = health(judge)
    assert said["ready"] is True
    assert said["orientation"] == ["larger", "larger"]
    assert said["python"] == sys.version.split()[0]
    assert said["pid"] != os.getpid()


def test_batches_come_back_in_order(started):
    judge = started(LENGTHS, batch_size=2)
    scores = judge.score(["p"] * 5, ["a", "bb", "ccc", "dddd", "eeeee"])
    assert scores.tolist() == [[1, 1], [2, 1], [3, 2], [4, 2], [5, 3]]
    assert judge.score([], []).shape == (0, 2)


def test_a_function_is_a_reward_and_its_version_is_that_of_its_file(started):
    code = "def Reward():\n    return lambda prompts, samples: [len(p) for p in prompts]\n"
    judge, same, other = started(code), started(code), started(code + "# changed\n")
    assert judge.score(["ab", "c"], ["", ""]).tolist() == [[2], [1]]
    assert judge.name == "Reward"
    assert judge.version == same.version != other.version


def test_pictures_arrive_as_png_media_as_they_are_and_texts_as_text(started):
    judge = started("""
        WHOLE = {bytes: lambda s: s[1:4] == b"PNG", str: lambda s: s == "h\\u00e9 \\U0001f600"}

        def Reward():
            return lambda prompts, samples: [WHOLE[type(s)](s) for s in samples]
    """)
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, "PNG")
    samples = [Image.new("CMYK", (3, 2)), Media.of(buffer.getvalue()), buffer.getvalue(), "hé 😀", b"no picture"]
    assert judge.score(["p"] * 5, samples)[:, 0].tolist() == [1, 1, 1, 1, 0]
    with pytest.raises(ModelError, match="a ndarray cannot be sent"):
        judge.score(["p"], [np.zeros(3)])


def test_pixels_arrive_as_they_were_sent(started):
    judge = started("""
        import io
        from PIL import Image

        def Reward():
            return lambda prompts, samples: [Image.open(io.BytesIO(s)).getpixel((1, 0))[2] for s in samples]
    """)
    picture = Image.new("RGB", (2, 1))
    picture.putpixel((1, 0), (1, 2, 200))
    assert judge.score(["p"], [picture]).tolist() == [[200]]


def test_clips_arrive_as_animated_png_with_all_their_frames(started):
    judge = started("""
        import io
        from PIL import Image

        def Reward():
            return lambda prompts, samples: [Image.open(io.BytesIO(s)).n_frames for s in samples]
    """)
    assert judge.score(["p", "p"], [pan(frames=5), still(frames=3)]).tolist() == [[5], [3]]


def test_arrays_are_as_good_as_lists(started):
    judge = started("""
        import numpy as np

        class Reward:
            dimensions = ("a", "b")

            def score(self, prompts, samples):
                return np.array([[1.5, np.nan]] * len(samples), dtype=np.float32)
    """)
    np.testing.assert_array_equal(judge.score(["p"] * 2, ["", ""]), [[1.5, math.nan]] * 2)


def test_smaller_is_better_is_turned_by_sign(started):
    judge = started("""
        class Reward:
            dimensions, orientation = ("good", "bad"), ("larger", "smaller")

            def score(self, prompts, samples):
                return [[len(s), len(s)] for s in samples]
    """)
    assert judge.score(["p"] * 2, ["aa", "b"]).tolist() == [[2, -2], [1, -1]]


def test_nan_and_none_are_null_in_json_and_nan_here(started):
    judge = started("""
        def Reward():
            return lambda prompts, samples: [float("nan"), None, 1][:len(samples)]
    """)
    request = {"prompts": ["p"] * 3, "samples": [{"text": ""}] * 3}
    assert post(judge.url, json.dumps(request).encode()) == (200, {"scores": [[None], [None], [1.0]]})
    np.testing.assert_array_equal(judge.score(["p"] * 3, [""] * 3)[:, 0], [math.nan, math.nan, 1])


def test_two_rewards_that_need_different_versions_of_a_package_run_side_by_side(tmp_path):
    old = environment(tmp_path / "old", wheel(tmp_path, "1.0", "def grade(text): return len(text)\n"))
    api = "class Grader:\n    def grade(self, texts): return [10 * len(t) for t in texts]\n"
    new = environment(tmp_path / "new", wheel(tmp_path, "2.0", api))
    head = (
        "import sys\nfrom importlib.metadata import version\nimport tastes\n"
        "try:\n    import penchant\n    raise SystemExit('penchant is here')\nexcept ImportError:\n    pass\n\n"
        "class Reward:\n    name, version = sys.prefix, version('tastes')\n"
    )
    (tmp_path / "uses_old.py").write_text(
        head + "    def score(self, prompts, samples): return [tastes.grade(s) for s in samples]\n"
    )
    (tmp_path / "uses_new.py").write_text(
        head + "    def score(self, prompts, samples): return tastes.Grader().grade(samples)\n"
    )
    with (
        Served.start(RewardServer(reward=f"{tmp_path}/uses_old.py:Reward", python=old)) as first,
        Served.start(RewardServer(reward=f"{tmp_path}/uses_new.py:Reward", python=new)) as second,
    ):
        assert (first.version, second.version) == ("1.0", "2.0")
        assert (Path(first.name).name, Path(second.name).name) == ("old", "new")
        assert first.score(["p"], ["abc"]).tolist() == [[3]]
        assert second.score(["p"], ["abc"]).tolist() == [[30]]
    # Neither runs where the other's package is: that is what the environments are for.
    wrong = RewardServer(reward=f"{tmp_path}/uses_old.py:Reward", python=new, retries=0)
    with Served.start(wrong) as judge, pytest.raises(ModelError, match="has no attribute 'grade'"):
        judge.score(["p"], ["a"])


def test_a_reward_that_raises_is_tried_again_and_then_named_with_its_words(started, tmp_path):
    judge = started(
        f"""
        class Reward:
            def score(self, prompts, samples):
                open({str(tmp_path / "tries")!r}, "a").write("x")
                raise RuntimeError("no such concept: " + samples[0])
        """,
        retries=1,
    )
    pid = health(judge)["pid"]
    with pytest.raises(ModelError) as caught:
        judge.score(["p"], ["hat"])
    for words in ("reward0.py:Reward", judge.url, "2 times", "RuntimeError: no such concept: hat"):
        assert words in str(caught.value)
    assert (tmp_path / "tries").read_text() == "xx"
    # Raising is no reason to load a model again.
    assert health(judge)["pid"] == pid


def test_a_reward_that_hangs_is_killed_started_again_and_then_named(started, tmp_path):
    judge = started(
        f"""
        import os, time

        class Reward:
            def __init__(self):
                open({str(tmp_path / "starts")!r}, "a").write("x")

            def score(self, prompts, samples):
                time.sleep(100)
        """,
        retries=1,
        timeout=0.5,
    )
    port = port_of(judge.url)
    with pytest.raises(ModelError, match=r"reward0.py:Reward failed 2 times; the last time: no answer within 0.5 s"):
        judge.score(["p"], ["x"])
    wait_until_gone(port)
    assert (tmp_path / "starts").read_text() == "xx"


@pytest.mark.parametrize(
    ("accident", "timeout"), [("time.sleep(100)", 0.7), ("os.kill(os.getpid(), 9)", 30), ("sys.exit(3)", 30)]
)
def test_one_accident_under_way_is_made_good(accident, timeout, started, tmp_path):
    judge = started(
        f"""
        import os, sys, time

        class Reward:
            def score(self, prompts, samples):
                if samples[0] == "c" and not os.path.exists({str(tmp_path / "met")!r}):
                    open({str(tmp_path / "met")!r}, "w")
                    {accident}
                return [ord(s) for s in samples]
        """,
        timeout=timeout,
        batch_size=1,
    )
    assert judge.score(["p"] * 4, list("abcd"))[:, 0].tolist() == [97, 98, 99, 100]
    assert (tmp_path / "met").exists()


def test_a_process_killed_between_two_calls_is_started_again(started):
    judge = started(LENGTHS)
    before = health(judge)["pid"]
    os.kill(before, signal.SIGKILL)
    assert judge.score(["p"], ["abc"]).tolist() == [[3, 1]]
    assert health(judge)["pid"] != before


def test_a_reward_that_comes_back_changed_is_refused(started, tmp_path):
    judge = started("def Reward():\n    return lambda prompts, samples: [1] * len(samples)\n")
    os.kill(health(judge)["pid"], signal.SIGKILL)
    (tmp_path / "reward0.py").write_text("def Reward():\n    return lambda prompts, samples: [2] * len(samples)\n")
    with pytest.raises(ModelError, match=f"changed under way, from version {judge.version}") as caught:
        judge.score(["p"], ["x"])
    assert "failed" not in str(caught.value)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ("[1]", "no list of 2 rows"),
        ("3", "no list of 2 rows"),
        ("[[1, 2], [1, 2]]", "row 0 has 2 scores"),
        ("[1, float('inf')]", "row 1 is infinite"),
        ("[1, 'good']", "could not convert"),
    ],
)
def test_scores_of_the_wrong_shape_or_kind_are_refused(scores, words, started):
    judge = started(f"def Reward():\n    return lambda prompts, samples: {scores}\n", retries=0)
    with pytest.raises(ModelError, match=words):
        judge.score(["p"] * 2, ["a", "b"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("Other = 1", "has no attribute 'Reward'"),
        ("def Reward(path): pass", "missing 1 required positional argument"),
        ("class Reward: pass", "has no score"),
        ("class Reward:\n  orientation = 'up'\n  def score(self, p, s): pass", "say larger or smaller"),
        ("import os; os._exit(1)", "ended without a word"),
        ("import time; time.sleep(100)", "not ready after 2 s"),
    ],
)
def test_what_keeps_a_reward_from_starting_is_said(code, words, started):
    with pytest.raises(ModelError, match=words) as caught:
        started(code, startup_timeout=2)
    assert "reward0.py:Reward" in str(caught.value)
    assert "run it by hand" in str(caught.value)


def test_an_interpreter_that_is_not_there_is_said(started):
    with pytest.raises(ModelError, match="/no/python cannot be run"):
        started(LENGTHS, python="/no/python")


def test_what_a_reward_prints_or_reads_does_not_disturb(started):
    judge = started(
        """
        import subprocess, sys

        print('{"port": 1}')
        subprocess.run(["cat"])

        def Reward():
            return lambda prompts, samples: [print("scoring") or len(sys.stdin.read())] * len(samples)
        """,
        startup_timeout=10,
        timeout=10,
        retries=0,
    )
    assert judge.score(["p"], ["x"]).tolist() == [[0]]


def test_a_reward_may_be_named_like_the_package_it_needs_and_import_its_neighbours(tmp_path):
    (tmp_path / "numpy.py").write_text(
        "import numpy, neighbour\ndef Reward(): return lambda p, s: [numpy.float64(neighbour.score)] * len(s)\n"
    )
    (tmp_path / "neighbour.py").write_text("score = 4\n")
    with Served.start(RewardServer(reward=f"{tmp_path}/numpy.py:Reward")) as judge:
        assert judge.score(["p"], ["x"]).tolist() == [[4]]


def test_close_ends_the_process_and_a_later_score_starts_it_again(started):
    judge = started(LENGTHS)
    port = port_of(judge.url)
    judge.close()
    wait_until_gone(port)
    assert judge.score(["p"], ["ab"]).tolist() == [[2, 1]]


# Its helper holds a port as long as it lives.
WITH_HELPER = """
    import socket, subprocess

    class Reward:
        def __init__(self):
            with socket.socket() as held:
                held.bind(("127.0.0.1", 0))
                held.listen()
                self.name = str(held.getsockname()[1])
                subprocess.Popen(["sleep", "100"], pass_fds=[held.fileno()])

        def score(self, prompts, samples):
            return [1] * len(samples)
"""


def test_what_a_reward_started_ends_with_it(started):
    judge = started(WITH_HELPER)
    with socket.create_connection(("127.0.0.1", int(judge.name)), timeout=5):
        judge.close()
    wait_until_gone(int(judge.name))


@pytest.mark.parametrize("end", ["killed", "of itself"])
def test_server_and_helpers_end_with_the_client(end, tmp_path):
    (tmp_path / "reward.py").write_text(textwrap.dedent(WITH_HELPER))
    script = (
        "import time\nfrom penchant.judges.served import RewardServer, Served\n"
        f"judge = Served.start(RewardServer(reward={str(tmp_path / 'reward.py:Reward')!r}))\n"
        f"print(judge.url, judge.name, flush=True)\ntime.sleep({100 if end == 'killed' else 0})\n"
    )
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    url, helper = client.stdout.readline().split()
    if end == "killed":
        client.kill()
    client.wait(30)
    client.stdout.close()
    wait_until_gone(port_of(url))
    wait_until_gone(int(helper))


@pytest.fixture
def by_hand(tmp_path):
    """A server started as a user would, with a small limit on bodies: its URL."""
    (tmp_path / "reward.py").write_text(textwrap.dedent(LENGTHS))
    command = [sys.executable, str(SERVER), f"{tmp_path}/reward.py:Reward", "--max-bytes", "1000"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert server.stdout is not None
    yield f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
    server.kill()
    server.wait()
    server.stdout.close()


def test_a_running_server_is_an_address_like_any_other_judge_and_stays_when_it_is_closed(by_hand):
    judge = load(by_hand)
    assert judge.score(["p"], ["abc"])[0, 0] == 3
    judge.close()
    assert load(by_hand + "/").version == "7"


def test_too_large_a_body_is_refused(by_hand):
    with pytest.raises(ModelError, match=r"refused: the body of \d+ bytes is over the limit of 1000"):
        Served(url=by_hand).score(["p"], ["x" * 100_000])
    assert Served(url=by_hand, batch_size=1).score(["p"], ["abc"])[0, 0] == 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{not json", "JSONDecodeError"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 900, "malformed"),
        (b"[]", "malformed"),
        (b'{"prompts": ["p"]}', "'samples'"),
        (b'{"prompts": ["p"], "samples": []}', "1 prompts for 0 samples"),
        (b'{"prompts": "p", "samples": [{"text": "x"}]}', "no list of texts"),
        (b'{"prompts": ["p"], "samples": [{"text": 3}]}', "no text"),
        (b'{"prompts": ["p"], "samples": ["text"]}', "malformed"),
        (b'{"prompts": ["p"], "samples": [{"mime": "image/png", "data": "*"}]}', "malformed"),
        (b'{"prompts": ["p"], "samples": [{"mime": "image/png"}]}', "'data'"),
    ],
)
def test_a_malformed_request_is_refused_in_words(body, words, by_hand):
    status, answer = post(by_hand, body)
    assert status == 400
    assert words in answer["error"]


def test_other_paths_and_methods_are_refused_as_json(by_hand):
    assert post(by_hand, b"{}", "/other")[0] == 404
    request = urllib.request.Request(by_hand + "/score", data=b"{}", method="PUT")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert "PUT" in json.loads(caught.value.read())["error"]


def test_the_server_listens_on_this_machine_alone(by_hand):
    port, address = port_of(by_hand), "127.0.0.2"
    with socket.socket() as client:
        assert client.connect_ex((address, port)) != 0


def test_where_no_server_is_the_address_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ModelError, match="ConnectionRefusedError") as caught:
        load(url)
    assert url in str(caught.value)


def test_the_server_is_one_file_for_python_3_8_and_the_standard_library():
    tree = ast.parse(SERVER.read_text(), feature_version=(3, 8))
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13", "3.14"])
def test_the_example_runs_under_other_pythons(version):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip(f"python{version} is not here")
    with Served.start(RewardServer(reward=f"{ROOT}/examples/reward.py:Reward", python=python)) as judge:
        assert health(judge)["python"].startswith(version)
        assert judge.score(["red cat"], ["a red hat"]).tolist() == [[0.5, -3]]


def test_the_example_runs():
    with Served.start(RewardServer(reward=f"{ROOT}/examples/reward.py:Reward")) as judge:
        assert judge.dimensions == ("mentioned", "words")
        assert judge.score(["red cat", "dog"], ["a red cat", "a cat"]).tolist() == [[1, -3], [0, -2]]


def test_base64_that_python_sends_is_what_the_protocol_says(by_hand):
    request = {"prompts": ["p"], "samples": [{"mime": "image/png", "data": base64.b64encode(b"four").decode()}]}
    assert post(by_hand, json.dumps(request).encode())[1]["scores"][0][0] == 4
