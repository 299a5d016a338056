"""The deployments of a service and how they hang together.

ingress ── orchestrator ──┬── per_stage: generate-summary … judge-conclusion
                          ├── shared: engines, and judges where they have a model of their own
                          └── reward, where a reward model is configured
"""

from __future__ import annotations

from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from reasoning.stages import STAGES, Stage
from serve.config import PoolConfig, ServeConfig, Topology
from serve.replicas import EngineReplica, Ingress, RewardReplica, SearchReplica

# Neither holds a model: one spends its time waiting, the other reading and writing JSON.
FRONT_CPUS = 0.1
REWARD = "reward"
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
        .bind(*_engines(config, engine), _reward(config))
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
    models = sum(pool.replicas * pool.num_cpus for _, pool in model_pools(config))
    return models + FRONT_CPUS * (config.orchestrator_replicas + config.ingress_replicas)


def model_pools(config: ServeConfig) -> list[tuple[str, PoolConfig]]:
    """Every deployment that holds a model, by name."""
    return engine_pools(config) + ([] if config.reward is None else [(REWARD, config.reward_pool)])


def engine_pools(config: ServeConfig) -> list[tuple[str, PoolConfig]]:
    """Every engine deployment by name; generators in writing order, then judges."""
    if config.topology is Topology.SHARED:
        judges = config.pool.model_copy(update={"model": config.judge_model})
        return [("engines", config.pool)] + ([] if config.judge_model is None else [("judges", judges)])
    generators = [(_name("generate", stage), config.generators.get(stage, config.pool)) for stage in STAGES]
    judging = [(_name("judge", stage), config.judges.get(stage, config.pool)) for stage in STAGES]
    if config.judge_model is None:
        return generators + judging
    own = {"model": config.judge_model}
    return generators + [(name, pool if pool.model else pool.model_copy(update=own)) for name, pool in judging]


def _name(role: str, stage: Stage) -> str:
    return f"{role}-{stage.lower()}"


def _engines(config: ServeConfig, engine: type[EngineReplica]) -> tuple[list[Application], list[Application]]:
    """Generators and judges as ``SearchReplica`` takes them."""
    pools = [_deployment(name, config, pool, engine) for name, pool in engine_pools(config)]
    if config.topology is Topology.SHARED:
        return pools[:1], pools[-1:]
    return pools[: len(STAGES)], pools[len(STAGES) :]


def _reward(config: ServeConfig) -> Application | None:
    return None if config.reward is None else _deployment(REWARD, config, config.reward_pool, RewardReplica)


def _deployment(
    name: str, config: ServeConfig, pool: PoolConfig, replica: type[EngineReplica] | type[RewardReplica]
) -> Application:
    return (
        serve.deployment(replica)
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
