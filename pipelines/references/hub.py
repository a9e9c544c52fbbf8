"""Models of the Hugging Face Hub: pinned to a commit, safetensors only, remote code never."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from celery_workers.contract.errors import InfrastructureError, UserInputError
from pipelines.references.resolution import Resolution, UnresolvedReference

FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja", "LICENSE*", "README.md"]
TOKENIZER_FILES = [pattern for pattern in FILES if ".safetensors" not in pattern]
TIMEOUT_SECONDS = 10.0


def endpoint() -> str:
    """Return the address of the Hub."""
    from huggingface_hub import constants

    return settings.ENV.hf_endpoint.rstrip("/") or str(constants.ENDPOINT)


def is_offline() -> bool:
    """Whether the server was told to leave the Hub alone, by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def resolve_hub(value: str) -> Resolution:
    """Find ``owner/name`` or ``owner/name@revision`` and pin it to a commit; without network, to the one downloaded before.

    Raises: UnresolvedReference: unknown, gated, without safetensors, or unreachable and never downloaded.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    repository, _, revision = value.partition("@")
    if is_offline():
        return _downloaded(value, repository, revision, reason="the server works offline (HF_HUB_OFFLINE)")
    api = HfApi(endpoint=endpoint(), token=settings.ENV.hf_token or False)
    try:
        found = api.model_info(repository, revision=revision or None, timeout=TIMEOUT_SECONDS)
        if found.gated:
            api.auth_check(repository)  # the card of a gated model is public, its files are not
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise _refusal(value, error) from error
    except outages() as error:
        return _downloaded(value, repository, revision, reason=f"the Hub cannot be reached ({type(error).__name__})")
    names = {item.rfilename for item in found.siblings or []}
    if "config.json" not in names or not any(name.endswith(".safetensors") and "/" not in name for name in names):
        raise UnresolvedReference(f"{value} has no config.json with *.safetensors; other weights (pickle) are never loaded")
    if not found.sha:
        raise UnresolvedReference(f"the Hub names no commit for {value}")
    return _pinned(repository, found.sha)


def download(repository: str, commit: str) -> Path:
    """Return the local folder of a commit, downloading what is not there yet.

    Raises: InfrastructureError: the Hub cannot be reached. UserInputError: the Hub refuses.
    """
    return _snapshot(repository, commit, patterns=FILES, cache=_cache())


def download_tokenizer(repository: str, commit: str) -> Path:
    """Return a local folder with a commit's small files: that of the whole model if it has been downloaded.

    They have a cache of their own: a snapshot without weights must not pass for a downloaded model.

    Raises: as ``download``.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=commit, cache_dir=_cache(), local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return _snapshot(repository, commit, patterns=TOKENIZER_FILES, cache=_cache().with_name("hub-tokenizers"))


def _snapshot(repository: str, commit: str, *, patterns: list[str], cache: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    outage: tuple[type[Exception], ...] = (LocalEntryNotFoundError, *outages())
    try:
        path = snapshot_download(
            repository,
            revision=commit,
            cache_dir=cache,
            endpoint=endpoint(),
            token=settings.ENV.hf_token or False,
            allow_patterns=patterns,
            etag_timeout=TIMEOUT_SECONDS,
        )
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise UserInputError(f"the Hub refuses {repository}: {type(error).__name__}", code="model_refused") from error
    except outage as error:
        raise InfrastructureError(f"{repository} cannot be downloaded: {error}", code="hub_unavailable") from error
    return Path(path)


def _refusal(value: str, error: Exception) -> UnresolvedReference:
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError

    repository, _, revision = value.partition("@")
    if isinstance(error, HFValidationError):
        return UnresolvedReference(f"{value} is not an id of the Hub: {error}")
    if isinstance(error, GatedRepoError):
        return UnresolvedReference(f"{value} is gated: accept its terms on the Hub and set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return UnresolvedReference(f"{repository} has no revision {revision!r}")
    return UnresolvedReference(f"the Hub has no model {repository!r}, or it is private and HF_TOKEN may not see it")


def _downloaded(value: str, repository: str, revision: str, *, reason: str) -> Resolution:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = snapshot_download(repository, revision=revision or None, cache_dir=_cache(), local_files_only=True)
    except (LocalEntryNotFoundError, OSError) as error:
        message = f"{value} is not on this server, and {reason}; use bundled:smollm2-135m-instruct or local:<name> instead"
        raise UnresolvedReference(message, code="hub_unavailable") from error
    return _pinned(repository, Path(path).name)


def outages() -> tuple[type[Exception], ...]:
    """Return what a Hub that cannot be reached raises."""
    from huggingface_hub import errors

    # HTTPError is that of the Hub's HTTP library: refused connections and timeouts are no OSError there.
    return (errors.HTTPError, OSError)  # type: ignore[attr-defined]


def _pinned(repository: str, commit: str) -> Resolution:
    return Resolution(
        kind="base_model",
        digest=f"hub:{repository}@{commit}",
        source={"type": "hub", "repository": repository, "revision": commit},
    )


def _cache() -> Path:
    return Path(settings.VAR_DIR) / "models" / "hub"
