"""A run's configuration: what it may say (``model``, ``sections``) and how it is read and written (``files``).

Everybody outside this folder imports from here; plug-ins derive their options from ``Section``.
"""

from vlmagent.config.files import (
    available_configs,
    dump_config,
    find_config,
    load_config,
    merge,
    parse_overrides,
    read_yaml,
)
from vlmagent.config.model import CnnConfig, LoraConfig, ModelConfig, Section, TinyModelConfig
from vlmagent.config.sections import (
    CheckpointConfig,
    Config,
    DistributedConfig,
    EvalConfig,
    PpoConfig,
    RolloutConfig,
    SftConfig,
    StoreConfig,
)

__all__ = [
    "CheckpointConfig",
    "CnnConfig",
    "Config",
    "DistributedConfig",
    "EvalConfig",
    "LoraConfig",
    "ModelConfig",
    "PpoConfig",
    "RolloutConfig",
    "Section",
    "SftConfig",
    "StoreConfig",
    "TinyModelConfig",
    "available_configs",
    "dump_config",
    "find_config",
    "load_config",
    "merge",
    "parse_overrides",
    "read_yaml",
]
