"""The settings of a training, read by the web server too: no torch here."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from celery_workers.contract.config import BaseModelRef, environment_default
from celery_workers.training.objective_config import ObjectiveConfig, WatchingConfig

ALL_LINEAR = "all-linear"
GROUPS = ("Method", "Objective", "LoRA", "Optimization", "Duration", "Batches", "Watching", "Machine")
"""The groups of the form, in its order."""


def _names_of(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _split_names(value: object) -> object:
    return _names_of(value) if isinstance(value, str) else value


def _group(name: str, unit: str = "") -> JsonDict:
    return {"group": name, "unit": unit} if unit else {"group": name}


def _in_order_of_groups(schema: JsonDict) -> None:
    """Put the fields in the order of GROUPS; they come from several classes."""
    properties = cast("dict[str, JsonDict]", schema["properties"])
    ordered = sorted(properties.items(), key=lambda item: GROUPS.index(str(item[1]["group"])))
    schema["properties"] = dict(ordered)


ModuleNames = Annotated[list[str], BeforeValidator(_split_names)]
Method = Literal["lora", "qlora", "full"]
OptimizerName = Literal["adamw", "adamw_8bit", "adafactor", "sgd"]


class TrainingConfig(ObjectiveConfig, WatchingConfig):
    """Settings of the training step."""

    model_config = ConfigDict(json_schema_extra=_in_order_of_groups)

    method: Method = Field(
        "lora",
        description="Which weights change: lora (float32 adapters over the frozen base), qlora (the same over a base in 4 bits:"
        " nf4, double quantization), full (the base's own weights, in float32).",
        json_schema_extra=_group("Method"),
    )
    base_model: BaseModelRef | None = Field(
        None,
        description="Model to tune. Empty: the one that the examples were tokenized for.",
        json_schema_extra={"reference": "base_model", "group": "Method"},
    )

    lora_r: int = Field(
        environment_default("DEFAULT_LORA_R", 16),
        ge=1,
        le=1024,
        description="LoRA rank: width of the added matrices.",
        json_schema_extra=_group("LoRA"),
    )
    lora_alpha: int = Field(
        environment_default("DEFAULT_LORA_ALPHA", 32),
        ge=1,
        le=4096,
        description="LoRA alpha: the update is scaled by alpha / rank.",
        json_schema_extra=_group("LoRA"),
    )
    lora_dropout: float = Field(
        environment_default("DEFAULT_LORA_DROPOUT", 0.05),
        ge=0,
        lt=1,
        description="Share of the adapters' inputs dropped while training, 0 to 1.",
        json_schema_extra=_group("LoRA"),
    )
    target_modules: ModuleNames = Field(
        _names_of(environment_default("DEFAULT_TARGET_MODULES", "q_proj,v_proj")),
        min_length=1,
        description="Linear layers to adapt, by comma: last parts of their names (q_proj), longer ends"
        " (layers.0.self_attn.q_proj), or all-linear for every one but the head.",
        json_schema_extra=_group("LoRA"),
    )
    use_dora: bool = Field(
        False,
        description="DoRA: learn the length of each weight column apart from its direction. Slower, better at low ranks.",
        json_schema_extra=_group("LoRA"),
    )
    use_rslora: bool = Field(
        False,
        description="rsLoRA: scale the update by alpha / sqrt(rank) instead of alpha / rank; steadier at high ranks.",
        json_schema_extra=_group("LoRA"),
    )
    modules_to_save: ModuleNames = Field(
        [],
        description="Modules to train whole beside the adapters and store with them, by comma, such as embed_tokens, lm_head.",
        json_schema_extra=_group("LoRA"),
    )
    train_modules: ModuleNames = Field(
        [],
        description="With method full, the modules to train, by comma, such as layers.29, lm_head. Empty: all.",
        json_schema_extra=_group("Method"),
    )

    learning_rate: float = Field(
        2e-4, gt=0, le=1, description="Highest learning rate.", json_schema_extra=_group("Optimization")
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Course of the learning rate after the warm-up.", json_schema_extra=_group("Optimization")
    )
    warmup_fraction: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="Share of the steps in which the rate rises, 0 to 1.",
        json_schema_extra=_group("Optimization"),
    )
    optimizer: OptimizerName = Field(
        "adamw",
        description="adamw (8 bytes a trained weight for its state), adamw_8bit (2 bytes), adafactor (near none) or sgd (none,"
        " without momentum).",
        json_schema_extra=_group("Optimization"),
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of each weight taken off per step and learning rate.",
        json_schema_extra=_group("Optimization"),
    )
    max_grad_norm: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Longest gradient; a longer one is shortened to it.",
        json_schema_extra=_group("Optimization"),
    )

    epochs: int = Field(
        1, ge=1, le=1000, description="Passes over the examples.", json_schema_extra=_group("Duration", "epochs")
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        description="Stop after this many steps, if the epochs have not ended.",
        json_schema_extra=_group("Duration", "steps"),
    )
    batch_size: int = Field(
        environment_default("DEFAULT_BATCH_SIZE", 4),
        ge=1,
        le=4096,
        description="Rows joined into one micro-batch. Not used where tokens_per_batch is set.",
        json_schema_extra=_group("Batches", "rows"),
    )
    tokens_per_batch: int | None = Field(
        None,
        ge=16,
        le=1_048_576,
        description="Join rows up to this many tokens into one micro-batch, instead of batch_size rows.",
        json_schema_extra=_group("Batches", "tokens"),
    )
    gradient_accumulation: int = Field(
        1, ge=1, le=4096, description="Micro-batches per step.", json_schema_extra=_group("Batches", "micro-batches")
    )

    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Number type of the computation; auto measures which is faster. Trained weights stay float32.",
        json_schema_extra=_group("Machine"),
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice to need less memory.", json_schema_extra=_group("Machine")
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share each step, one per device; on the CPU they share its threads. The effective batch and"
        " the result stay the same.",
        json_schema_extra=_group("Machine", "processes"),
    )
    checkpoint_every_seconds: float = Field(
        30, gt=0, le=86_400, description="Longest time between two checkpoints.", json_schema_extra=_group("Machine", "seconds")
    )
    checkpoint_every_steps: int | None = Field(
        None, ge=1, description="Also save after every so many steps.", json_schema_extra=_group("Machine", "steps")
    )
    eval_every_steps: int | None = Field(
        None,
        ge=1,
        description="Measure the loss on the evaluation examples every so many steps. Empty: after each epoch.",
        json_schema_extra=_group("Duration", "steps"),
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**32 - 1,
        description="Seed of order, weights and dropout. Empty: the node's own, the same at every attempt.",
        json_schema_extra=_group("Machine"),
    )

    @model_validator(mode="after")
    def _all_linear_stands_alone(self) -> TrainingConfig:
        if ALL_LINEAR in self.target_modules and len(self.target_modules) > 1:
            raise ValueError(f"target_modules must be names or {ALL_LINEAR}, not both, got {self.target_modules}")
        return self

    @model_validator(mode="after")
    def _options_belong_to_the_method(self) -> TrainingConfig:
        if self.method == "full":
            unused = [name for name in ("use_dora", "use_rslora", "modules_to_save") if getattr(self, name)]
            if unused:
                raise ValueError(f"{unused[0]} belongs to methods lora and qlora, got method full; leave it out")
        elif self.train_modules:
            raise ValueError(
                f"train_modules belongs to method full, got method {self.method}; name modules_to_save to train modules whole"
                " beside the adapters"
            )
        return self
