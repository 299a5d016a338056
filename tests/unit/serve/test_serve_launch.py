"""What is refused before anything is started, and how a service is put together."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from reasoning.errors import ConfigError, InputError, PortInUseError
from reasoning.search.config import SearchConfig
from reasoning.stages import Stage
from serve.app import cpus_needed, engine_pools
from serve.config import PoolConfig, ServeConfig, Topology
from serve.launch import base_url, run_serving

MODEL = Path("model")


def test_port_in_use_is_said_with_the_port_and_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(PortInUseError, match=f"Port {port} .* set another port"),
            run_serving(ServeConfig(model=MODEL, port=port)),
        ):
            pass


def test_missing_model_is_said_before_ray_is_started(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json is missing"), run_serving(ServeConfig(model=tmp_path)):
        pass


def test_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match="host"), run_serving(ServeConfig(model=MODEL, host="no.such.invalid")):
        pass


def test_address_for_clients() -> None:
    assert base_url(ServeConfig(model=MODEL, host="0.0.0.0", port=8000)) == "http://127.0.0.1:8000/v1"
    assert base_url(ServeConfig(model=MODEL, host="::1", port=8000)) == "http://[::1]:8000/v1"


def test_per_stage_has_eight_engine_pools_and_shared_one() -> None:
    own = PoolConfig(replicas=2, num_cpus=0.2)
    config = ServeConfig(model=MODEL, generators={Stage.REASONING: own})
    pools = dict(engine_pools(config))
    assert list(pools)[:2] == ["generate-summary", "generate-caption"]
    assert (len(pools), pools["generate-reasoning"]) == (8, own)
    assert [name for name, _ in engine_pools(ServeConfig(model=MODEL, topology=Topology.SHARED))] == ["engines"]


def test_default_service_fits_two_cores() -> None:
    assert cpus_needed(ServeConfig(model=MODEL)) <= 2


def test_config_refuses_what_cannot_be() -> None:
    with pytest.raises(ValidationError, match="modle"):
        ServeConfig(modle=MODEL)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="per_stage"):
        ServeConfig(model=MODEL, topology=Topology.SHARED, judges={Stage.SUMMARY: PoolConfig()})
    with pytest.raises(ConfigError, match=r"limits\.samples"):
        ServeConfig(model=MODEL, search=SearchConfig(samples=100))


def test_config_survives_the_way_to_a_worker() -> None:
    config = ServeConfig(model=MODEL)
    assert pickle.loads(pickle.dumps(config)) == config
