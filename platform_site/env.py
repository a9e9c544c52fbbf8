"""Settings from the environment and ``.env``: the one list of them, with types, ranges, defaults and units.

A bad value stops the start with one line that names it. ``.env.example`` is made from this class, and a test compares them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic.functional_validators import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent
ENV_FILE = os.environ.get("TRUETUNE_ENV_FILE", str(ROOT / ".env"))  # tests point it at nothing


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]


def _prices(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.rpartition("=") for part in value.split(",") if part.strip()]
    if any(not name.strip() or not price.strip() for name, _, price in pairs):
        raise ValueError("prices must be name=price, by comma")
    return {name.strip(): price for name, _, price in pairs}


Prices = Annotated[dict[str, Annotated[float, Field(ge=0)]], NoDecode, BeforeValidator(_prices)]


class Environment(BaseSettings):
    """Every variable that the platform reads. Empty text counts as not set."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True)

    api_host: str = Field("127.0.0.1", description="Address that the web server listens on.")
    api_port: int = Field(8000, ge=1, le=65535, description="Port of the web server.")
    database_url: str = Field(
        "", pattern=r"^(postgres(ql)?://.+)?$", description="PostgreSQL. Empty: an embedded one starts under VAR_DIR."
    )
    redis_url: str = Field("", pattern=r"^(rediss?://.+)?$", description="Redis or Valkey. Empty: an embedded one starts.")
    minio_endpoint: str = Field(
        "", pattern=r"^(https?://.+)?$", description="S3 endpoint with scheme. Empty: files go to VAR_DIR/storage."
    )
    minio_access_key: str = Field("", description="S3 access key.")
    minio_secret_key: str = Field("", description="S3 secret key.")
    minio_bucket: str = Field("platform", description="Bucket of the platform's own files.")
    data_buckets: Names = Field(["datasets"], description="Further buckets that s3:// references may read, by comma.")
    gpu_enabled: bool = Field(True, description="Use GPUs where found; false runs the gpu queue on the CPU.")
    cuda_visible_devices: str = Field("", description="Devices of this machine's gpu worker, as CUDA reads it.")
    default_lora_r: int = Field(16, ge=1, le=1024, description="LoRA rank when a config names none.")
    default_lora_alpha: int = Field(32, ge=1, le=4096, description="LoRA alpha when a config names none.")
    default_lora_dropout: float = Field(0.05, ge=0, lt=1, description="LoRA dropout when a config names none, 0 to 1.")
    default_target_modules: Names = Field(
        ["q_proj", "v_proj"], description="Modules that LoRA adapts when a config names none, by comma, or all-linear."
    )
    default_batch_size: int = Field(4, ge=1, le=4096, description="Rows per micro-batch when a config names none.")
    max_upload_bytes: int = Field(2_147_483_648, ge=1, description="Largest upload in bytes.")
    max_import_bytes: int = Field(
        8_589_934_592, ge=1, description="Largest import from the Hub or a bucket in bytes, as it is stored there."
    )
    model_roots: Names = Field([], description="Folders whose subfolders are usable as local:<name>, by comma.")
    hf_token: str = Field("", description="Token for the Hugging Face Hub. Never reaches an agent process.")
    hf_endpoint: str = Field(
        "", pattern=r"^(https?://.+)?$", description="Address of the Hub or of a mirror of it. Empty: https://huggingface.co."
    )
    mlflow_tracking_uri: str = Field(
        "", pattern=r"^(https?://.+)?$", description="MLflow server that every training is told to. Empty: none."
    )
    secret_key: str = Field("", description="Django's secret. Required in production; made and kept in VAR_DIR otherwise.")
    allowed_hosts: Names = Field(["127.0.0.1", "localhost", "[::1]"], description="Host names served, by comma.")
    var_dir: Path = Field(ROOT / "var", description="Folder of everything the platform writes on this machine.")
    device_hour_prices: Prices = Field(
        {}, description="Prices of an hour by device name or its beginning: NVIDIA H100=2.5,cpu=0.1. Empty: no costs are shown."
    )
    price_currency: str = Field("EUR", min_length=1, max_length=3, description="Currency of the prices, as its ISO code.")
    lease_seconds: float = Field(20.0, ge=2, le=600, description="Seconds after which a silent worker loses its node.")
    reconcile_seconds: float = Field(3.0, ge=0.2, le=60, description="Seconds between two looks of the reconciler.")
    cancel_grace_seconds: float = Field(20.0, ge=0, le=600, description="Seconds a node may take to stop before it is killed.")
    max_attempts: int = Field(4, ge=1, le=20, description="Attempts of a node before a retryable failure is final.")
    retry_base_seconds: float = Field(2.0, ge=0, le=600, description="First delay of a retry; doubles, with jitter.")
    cpu_slots: int = Field(2, ge=1, le=64, description="Nodes that one cpu worker runs at once.")


def read_environment() -> Environment:
    """Read and check every variable, and publish the agents' defaults to ``os.environ``.

    Raises: SystemExit: with one line per bad variable that names it, its rule and its value.
    """
    try:
        environment = Environment()
    except ValidationError as error:
        lines = [
            f"{'_'.join(map(str, item['loc'][:1])).upper()}: {item['msg']}, got {item['input']!r}" for item in error.errors()
        ]
        sys.exit("\n".join(lines))
    for name in ("default_lora_r", "default_lora_alpha", "default_lora_dropout", "default_batch_size"):
        os.environ[name.upper()] = str(getattr(environment, name))
    os.environ["DEFAULT_TARGET_MODULES"] = ",".join(environment.default_target_modules)
    return environment
