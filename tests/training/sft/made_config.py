"""Configs that fine-tune in another way."""

from vlmagent.config import Config


def with_sft(config: Config, **changes) -> Config:
    return Config.model_validate({**config.model_dump(), "sft": {**config.sft.model_dump(), **changes}})
