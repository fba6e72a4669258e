"""Three real nodes, and the leader killed under load: the claim that the JetStream log exists for."""

from pathlib import Path

import pytest

from bench.scale.servers import ServerMissingError, nats_binary


def test_a_leader_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    pytest.importorskip("nats", reason="nats-py is not installed: pip install 'exfm-serving[scale]'")
    try:
        nats_binary()
    except ServerMissingError as error:
        pytest.skip(str(error))
    from bench.scale.failover import measure

    report = measure(tmp_path, kills=1, steady_s=0.3, per_s=50)
    assert (report["acked_lost"], report["duplicates"]) == (0, 0)
    assert report["acked_batches"] > 50
    assert report["failed_tries"] > 0  # the kill was felt
    assert 0 < report["gap_s"] < 30
