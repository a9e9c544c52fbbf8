"""Settings of what is learned and of how a training is watched; read by the web server too: no torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from celery_workers.contract.config import AgentConfig

ObjectiveName = Literal["sft", "pretraining", "dpo", "orpo", "kto"]
PREFERENCE_OBJECTIVES = ("dpo", "orpo", "kto")


class ObjectiveConfig(AgentConfig):
    """What is learned."""

    objective: ObjectiveName = Field(
        "sft",
        description="What is learned: sft (the supervised tokens), pretraining (every token), dpo or orpo (the chosen"
        " completion of a pair over the rejected one), kto (desirable completions over undesirable ones).",
        json_schema_extra={"group": "Method"},
    )
    beta: float = Field(
        0.1,
        gt=0,
        le=100,
        description="How strongly dpo and kto hold the model to where it began: higher stays nearer.",
        json_schema_extra={"group": "Objective"},
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Share of pairs that dpo takes to be the wrong way round, 0 to 0.5.",
        json_schema_extra={"group": "Objective"},
    )
    orpo_lambda: float = Field(
        0.1,
        gt=0,
        le=100,
        description="Weight of orpo's odds ratio beside the loss of the chosen completion.",
        json_schema_extra={"group": "Objective"},
    )
    desirable_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Weight of kto's desirable rows; raise it where they are few.",
        json_schema_extra={"group": "Objective"},
    )
    undesirable_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Weight of kto's undesirable rows; raise it where they are few.",
        json_schema_extra={"group": "Objective"},
    )


class WatchingConfig(AgentConfig):
    """When a training stops by itself, and which checkpoints are kept."""

    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many evaluations in a row without a lower loss. Empty: never.",
        json_schema_extra={"group": "Watching", "unit": "evaluations"},
    )
    early_stopping_min_delta: float = Field(
        0.0,
        ge=0,
        description="By how much an evaluation loss must be lower to count as lower.",
        json_schema_extra={"group": "Watching"},
    )
    load_best_at_end: bool = Field(
        False,
        description="Result: the weights with the lowest evaluation loss, instead of the last ones.",
        json_schema_extra={"group": "Watching"},
    )
    divergence_factor: float | None = Field(
        None,
        gt=1,
        le=1e6,
        description="Stop when the loss stays above this many times its running median. Empty: never.",
        json_schema_extra={"group": "Watching"},
    )
    divergence_steps: int = Field(
        5,
        ge=1,
        le=1000,
        description="Steps in a row above divergence_factor that count as diverging.",
        json_schema_extra={"group": "Watching", "unit": "steps"},
    )
    keep_checkpoints: int = Field(
        2,
        ge=1,
        le=100,
        description="Newest checkpoints to keep while the training runs; the best weights are kept besides.",
        json_schema_extra={"group": "Watching", "unit": "checkpoints"},
    )

    @model_validator(mode="after")
    def _delta_needs_patience(self) -> WatchingConfig:
        if self.early_stopping_min_delta and self.early_stopping_patience is None:
            raise ValueError("early_stopping_min_delta needs early_stopping_patience, which is empty")
        return self
