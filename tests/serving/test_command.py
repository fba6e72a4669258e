"""The command as users run it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from exfm.events.impression import TOPIC, decode
from exfm.events.log import BEGIN
from exfm.events.sqlite import SqliteLog
from exporter.rollback import Pruned, prune
from serving import command
from serving.catalog import Catalog
from serving.client import BlockingRankingClient, RankCall, Ranking, Tier
from serving.command import main
from serving.processes.fleet import settings_for
from tests.kernel import children

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment
    from serving.embedded.process import EmbeddedTriton

CALL = RankCall("feed_click", ad_ids=[1, 2, 3], ads=[{"ad": 1}, {"ad": 2}, {"ad": 3}])


@contextmanager
def _serving(*arguments: str, env: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and its first line."""
    command = [sys.executable, "-m", "serving", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline()
        finally:
            process.kill()


def _poll(ask: Callable[[], Ranking], wanted: Tier, within_s: float) -> None:
    until_s = time.monotonic() + within_s
    while ask().tier is not wanted:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_it_starts_a_triton_restarts_it_and_takes_it_down_again(
    triton_environment: "TritonEnvironment", published_repository: Path
) -> None:
    env = {"EXFM_TRITON_ENV": str(triton_environment.path)}
    with _serving("--model-repository", str(published_repository), "--json", env=env) as (process, line):
        ready = json.loads(line)
        assert ready["event"] == "ready"
        assert ready["verticals"] == {"feed_click": 1, "feed_long_view": 1}
        (guardian,) = children(process.pid)
        (triton,) = children(guardian)
        with BlockingRankingClient(ready["address"]) as client:
            _poll(lambda: client.rank(CALL, timeout_s=5), Tier.FULL, 5)
            os.kill(triton, signal.SIGKILL)
            _poll(lambda: client.rank(CALL, timeout_s=5), Tier.PRIOR, 5)
            _poll(lambda: client.rank(CALL, timeout_s=5), Tier.FULL, 30)
        (guardian,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not Path(f"/proc/{guardian}").exists()


def test_a_restarted_triton_serves_what_the_frontend_is_pinned_to(
    triton_environment: "TritonEnvironment",
    published_repository: Path,
    tmp_path: Path,
    republish: Callable[[Path, int], None],
) -> None:
    env = {"EXFM_TRITON_ENV": str(triton_environment.path)}
    shutil.copytree(published_repository / "feed_click", tmp_path / "feed_click", copy_function=shutil.copyfile)
    with _serving("--model-repository", str(tmp_path), "--json", env=env) as (process, line):
        (guardian,) = children(process.pid)
        (triton,) = children(guardian)
        republish(tmp_path / "feed_click", 2)
        with BlockingRankingClient(json.loads(line)["address"]) as client:
            _poll(lambda: client.rank(CALL, timeout_s=5), Tier.FULL, 5)
            os.kill(triton, signal.SIGKILL)
            _poll(lambda: client.rank(CALL, timeout_s=5), Tier.PRIOR, 5)
            assert prune(tmp_path, "feed_click", 1) == Pruned([], [1]), "the new Triton needs it"
            _poll(lambda: client.rank(CALL, timeout_s=5), Tier.FULL, 30)
            assert client.rank(CALL, timeout_s=5).model_version == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert prune(tmp_path, "feed_click", 1) == Pruned([1])


@pytest.fixture
def ahead(published_repository: Path, tmp_path: Path, republish: Callable[[Path, int], None]) -> Path:
    """A copy in which version 2 of `feed_long_view` is published, which the running Triton lacks."""
    repository = shutil.copytree(published_repository, tmp_path / "repository", copy_function=shutil.copyfile)
    republish(repository / "feed_long_view", 2)
    return repository


def test_only_the_vertical_that_is_missing_is_blamed(
    embedded_triton: "EmbeddedTriton",
    ahead: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    given = ["--triton", embedded_triton.address, "--ready-within-s", "0.6", "--listen", "127.0.0.1:0"]
    assert main(["--model-repository", str(ahead), *given]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"not ready within 0.6 s: feed_long_view: Triton at {embedded_triton.address}" in said
    assert "feed_click" not in said
    assert sum("waiting:" in record.getMessage() for record in caplog.records) == 1


def test_it_ranks_with_a_triton_that_runs_elsewhere(
    embedded_triton: "EmbeddedTriton", published_repository: Path
) -> None:
    given = ("--model-repository", str(published_repository), "--triton", embedded_triton.address)
    with _serving(*given) as (process, line):
        assert line.startswith("ready on 127.0.0.1:")
        assert "feed_click version 1" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert embedded_triton.running


def test_it_does_without_a_triton_that_is_not_there_and_keeps_a_log(
    embedded_triton: "EmbeddedTriton", published_repository: Path, tmp_path: Path
) -> None:
    given = ("--model-repository", str(published_repository), "--triton", f"127.0.0.1:1, {embedded_triton.address}")
    kept = ("--log", f"sqlite:{tmp_path / 'log.sqlite'}", "--histories", f"lmdb:{tmp_path / 'store'}")
    with _serving(*given, *kept, "--ops", "127.0.0.1:0", "--json") as (process, line):
        ready = json.loads(line)
        assert ready["triton"] == f"127.0.0.1:1,{embedded_triton.address}"
        with BlockingRankingClient(ready["address"]) as client:
            _poll(lambda: client.rank(CALL, timeout_s=5), Tier.FULL, 5)
            client.rank(replace(CALL, request_id="named"), timeout_s=5)
        with urlopen(f"http://{ready['ops']}/state") as response:
            backends = json.load(response)["workers"][0]["state"]["backends"]
        trusted = {name: said["verticals"]["feed_click"]["trusted"] for name, said in backends.items()}
        assert trusted == {"127.0.0.1:1": False, embedded_triton.address: True}
        with urlopen(f"http://{ready['ops']}/metrics") as response:
            scraped = response.read().decode()
        assert 'exfm_backend_breaker{backend="127.0.0.1:1",vertical="feed_click",worker="0"}' in scraped
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert 'exfm_log_queued{worker="0"}' in scraped
    log = SqliteLog(tmp_path / "log.sqlite")
    (row,) = [row for each in log.read(TOPIC, BEGIN, 99) for row in decode(each.payload).to_pylist()]
    log.close()
    assert (row["request_id"], row["vertical"], row["version"]) == ("named", "feed_click", 1)


@pytest.mark.parametrize("option", ["--log", "--histories"])
@pytest.mark.parametrize("value", ["", "kafka:x", "sqlite:", "lmdb:"])
def test_an_unknown_engine_is_told(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model-repository", "x", option, value])
    assert caught.value.code == 2
    role, known = (
        ("event log", "nats:..., sqlite:...") if option == "--log" else ("history store", "lmdb:..., redis:...")
    )
    assert f"argument {option}: {role}: {value!r} is none of {known}" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--log", "nats:x"), ("--histories", "redis:x")])
def test_an_engines_bad_url_is_told_before_anything_starts(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model-repository", "x", option, value])
    assert caught.value.code == 2
    assert f"argument {option}: " in capsys.readouterr().err


@pytest.mark.parametrize("value", ["", "localhost", "a:1,,b:2", "a:0", "a:b", ":8001"])
def test_an_address_that_is_none_is_told(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model-repository", "x", "--triton", value])
    assert caught.value.code == 2
    assert "is not HOST:PORT" in capsys.readouterr().err


def test_without_a_model_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model-repository", str(tmp_path)]) == 2
    assert "no published model; write one with exfm-export" in capsys.readouterr().err


def test_without_a_triton_it_gives_up_in_time(published_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--model-repository", str(published_repository), "--triton", "127.0.0.1:1", "--ready-within-s", "0.5"]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert "not ready within 0.5 s: feed_click: Triton at 127.0.0.1:1" in said
    assert "; feed_long_view: Triton at 127.0.0.1:1" in said


def test_an_address_that_is_taken_is_said(
    embedded_triton: "EmbeddedTriton", published_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = embedded_triton.address
    assert main(["--model-repository", str(published_repository), "--triton", taken, "--listen", taken]) == 1
    assert f"can't listen on {taken}" in capsys.readouterr().err


def test_keys_that_are_missing_are_told(
    published_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model-repository", str(published_repository), "--trusted-keys", str(tmp_path)]
    assert main(given) == 2
    assert capsys.readouterr().err == f"exfm-serve: trusted keys {tmp_path}: no *.pem there\n"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon"])
def test_bad_usage_is_told(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model-repository", "x", "--drain-s", value])
    assert caught.value.code == 2
    assert "--drain-s" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "share"), [("1/3", 1 / 3), ("0.25", 0.25), ("1", 1.0)])
def test_a_share_is_divided_among_the_workers(value: str, share: float, catalog: Catalog) -> None:
    asked = command._parser().parse_args(["--model-repository", "x", "--share", value])
    options = command._serve_options(asked, catalog)
    assert options.worker.share == share
    orders = settings_for(options, 2, "127.0.0.1:1", ("127.0.0.1:2",), versions={}, metrics=None, log_level="info")
    assert [each.serve.worker.share for each in orders] == [share / 2] * 2


@pytest.mark.parametrize("value", ["0", "4/3", "-1/3", "1/0", "a third", "nan", "inf"])
def test_a_share_that_is_none_is_told(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model-repository", "x", f"--share={value}"])
    assert caught.value.code == 2
    assert f"argument --share: '{value}' is no share such as 1/3 or 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["feed_click=full,best", "", "feed_click="])
def test_an_unknown_tier_is_told(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model-repository", "x", "--tiers", value])
    assert caught.value.code == 2
    assert "there are full, trimmed, lite, prior" in capsys.readouterr().err


def test_tiers_of_a_vertical_that_is_not_served_are_told(
    published_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model-repository", str(published_repository), "--tiers", "other=full"]) == 2
    assert "no vertical 'other' here" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    assert "exit codes:" in said
