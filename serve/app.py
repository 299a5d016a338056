"""The deployments of a service and how they hang together.

ingress ── orchestrator ──┬── per_stage: generate-summary … judge-conclusion
                          └── shared: engines
"""

from __future__ import annotations

from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from reasoning.stages import STAGES, Stage
from serve.config import PoolConfig, ServeConfig, Topology
from serve.replicas import EngineReplica, Ingress, SearchReplica

# Neither holds a model: one spends its time waiting, the other reading and writing JSON.
FRONT_CPUS = 0.1
# Each question holds one call for as long as its search takes.
FRONT_ONGOING = 256
_QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


def build_app(config: ServeConfig, engine: type[EngineReplica] = EngineReplica) -> Application:
    """The application for ``serve.run``; ``engine`` is what engine replicas are made of."""
    orchestrator = (
        serve.deployment(SearchReplica)
        .options(
            name="orchestrator",
            num_replicas=config.orchestrator_replicas,
            ray_actor_options={"num_cpus": FRONT_CPUS},
            max_ongoing_requests=FRONT_ONGOING,
            graceful_shutdown_wait_loop_s=0.2,
            logging_config=_QUIET,
        )
        .bind(*_engines(config, engine))
    )
    return (
        serve.deployment(serve.ingress()(Ingress))
        .options(
            name="ingress",
            num_replicas=config.ingress_replicas,
            ray_actor_options={"num_cpus": FRONT_CPUS},
            max_ongoing_requests=FRONT_ONGOING,
            graceful_shutdown_wait_loop_s=0.2,
            logging_config=_QUIET,
        )
        .bind(config, orchestrator)
    )


def cpus_needed(config: ServeConfig) -> float:
    """Cores that all replicas together reserve."""
    engines = sum(pool.replicas * pool.num_cpus for _, pool in engine_pools(config))
    return engines + FRONT_CPUS * (config.orchestrator_replicas + config.ingress_replicas)


def engine_pools(config: ServeConfig) -> list[tuple[str, PoolConfig]]:
    """Every engine deployment by name; generators in writing order, then judges."""
    if config.topology is Topology.SHARED:
        return [("engines", config.pool)]
    roles = (("generate", config.generators), ("judge", config.judges))
    return [(_name(role, stage), own.get(stage, config.pool)) for role, own in roles for stage in STAGES]


def _name(role: str, stage: Stage) -> str:
    return f"{role}-{stage.lower()}"


def _engines(config: ServeConfig, engine: type[EngineReplica]) -> tuple[list[Application], list[Application]]:
    """Generators and judges as ``SearchReplica`` takes them."""
    pools = [_deployment(name, config, pool, engine) for name, pool in engine_pools(config)]
    if config.topology is Topology.SHARED:
        return pools, pools
    return pools[: len(STAGES)], pools[len(STAGES) :]


def _deployment(name: str, config: ServeConfig, pool: PoolConfig, engine: type[EngineReplica]) -> Application:
    return (
        serve.deployment(engine)
        .options(
            name=name,
            num_replicas=pool.replicas,
            ray_actor_options={"num_cpus": pool.num_cpus, "num_gpus": pool.num_gpus},
            max_ongoing_requests=pool.max_ongoing_requests,
            logging_config=_QUIET,
            # Killed replicas are noticed at once by their callers; this is for those that hang.
            health_check_period_s=5,
            # A model that cannot be loaded will not be loaded the tenth time either.
            max_constructor_retry_count=1,
            graceful_shutdown_wait_loop_s=0.2,
        )
        .bind(config, pool)
    )
