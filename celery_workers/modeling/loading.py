"""Load base models, adapters and tokenizers from local folders, and refuse what could run somebody's code.

The one place where model files are opened for training, evaluation and export. Only safetensors are read: a pickled
weight file can run code when it is loaded. No repository code runs either, and nothing is fetched from a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from celery_workers.contract.errors import ResourceError, UserInputError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def load_base(
    folder: Path, *, dtype: torch.dtype, attention: str = "sdpa", device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Return the causal language model in ``folder``, in evaluation mode, its weights in ``dtype``.

    ``attention`` is ``eager``, ``sdpa`` or a name registered with transformers' ``AttentionInterface``.

    Raises: UserInputError: no safetensors, pickled weights only, own code in the repository, weights missing, or not a causal
    language model; the message says which. ResourceError: the memory of the machine or device does not suffice.
    """
    import torch

    return load_with(folder, device=torch.device(device), dtype=dtype, attn_implementation=attention)


def load_with(folder: Path, *, device: torch.device, **options: object) -> PreTrainedModel:
    """Return the causal language model in ``folder`` on ``device``; ``options`` go to transformers' ``from_pretrained``.

    Raises: as ``load_base``.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    check_base_folder(folder)
    quiet_transformers()
    try:
        loaded: object = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **options
        )
        model, found = cast("tuple[PreTrainedModel, Mapping[str, set[str]]]", loaded)
        if "quantization_config" not in options:  # quantized weights were put in place, and may not be moved
            torch.nn.Module.to(model, device)
        model.train(mode=False)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(
            f"the base model does not fit into memory in {options.get('dtype')}: {error}", code="out_of_memory"
        ) from error
    except (ValueError, KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise UserInputError(f"the base model cannot be loaded: {error}", code="unusable_model") from error
    _check_complete(found["missing_keys"])
    return model


def _check_complete(missing: set[str]) -> None:
    """Refuse weights with holes: transformers would fill them with random numbers and only write a line about it."""
    if missing:
        shown = ", ".join(sorted(missing)[:3]) + (", …" if len(missing) > 3 else "")
        raise UserInputError(
            f"the base model's safetensors must hold every weight of its architecture; {len(missing)} are missing: {shown}",
            code="incomplete_model",
            evidence={"missing": sorted(missing)[:50]},
        )


def load_adapter(base: PreTrainedModel, folder: Path, *, is_trainable: bool = False) -> PeftModel:
    """Return ``base`` with the adapter in ``folder`` laid over it; ``base`` itself is changed.

    The adapter's weights are float32, whatever the base's type.

    Raises: UserInputError: no ``adapter_model.safetensors``, pickled weights, or an adapter for another model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    check_adapter_folder(folder)
    try:
        model = PeftModel.from_pretrained(base, folder, is_trainable=is_trainable, local_files_only=True)
    except (ValueError, KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise UserInputError(f"the adapter does not fit the base model: {error}", code="unusable_adapter") from error
    check_adapter_fits(model, folder)
    return model


def check_adapter_fits(model: PeftModel, folder: Path) -> None:
    """Check that the adapter file in ``folder`` has exactly the weights that ``model``, made for it, holds, by name and shape.

    PEFT only warns of weights that are missing or left over, as with an adapter of a model with fewer layers.

    Raises: UserInputError: they differ; the message names some.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    expected = {
        name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    lines = [
        f"{name} is {found.get(name, 'missing')} in the adapter and {expected.get(name, 'missing')} in the base model"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
    if lines:
        raise UserInputError(
            f"the adapter belongs to another base model: {len(lines)} of its weights do not fit, such as {lines[0]}",
            code="adapter_of_another_base",
            evidence={"differences": lines[:20]},
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer in ``folder``, chat template included.

    Raises: UserInputError: there is none, or it needs code of its own.
    """
    from transformers import AutoTokenizer

    quiet_transformers()
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise UserInputError(f"the tokenizer cannot be loaded: {error}", code="unusable_tokenizer") from error


def is_adapter_folder(folder: Path) -> bool:
    """Whether ``folder`` holds a PEFT adapter rather than full weights."""
    return (folder / ADAPTER_CONFIG).is_file()


def check_base_folder(folder: Path) -> None:
    """Check, without loading torch, that ``folder`` holds full weights that are safe to load.

    Raises: UserInputError: it does not; the message says what is there and what is expected.
    """
    config = _read_json(folder / "config.json", what="the base model")
    if is_adapter_folder(folder):
        raise UserInputError(
            "the base model is an adapter; give the full weights that it was trained on", code="adapter_as_base"
        )
    if "auto_map" in config:
        raise UserInputError(
            "the base model needs code of its own (auto_map in config.json), which is never run here; "
            "use an architecture that transformers knows",
            code="remote_code",
        )
    if "quantization_config" in config:
        raise UserInputError(
            "the base model's weights are quantized already (quantization_config in config.json); name the unquantized model:"
            " method qlora quantizes while it loads, and exports are merged with the unquantized weights",
            code="quantized_base",
        )
    if not any(folder.glob("*.safetensors")):
        raise _no_safetensors(folder, what="the base model", expected="model.safetensors")


def check_adapter_folder(folder: Path) -> None:
    """Check, without loading torch, that ``folder`` holds a PEFT adapter that is safe to load.

    Raises: UserInputError: it does not.
    """
    _read_json(folder / ADAPTER_CONFIG, what="the adapter")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise _no_safetensors(folder, what="the adapter", expected=ADAPTER_WEIGHTS)


def vocabulary_size_of(model: torch.nn.Module) -> int:
    """Return the number of token ids that ``model`` can read."""
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]


def quiet_transformers() -> None:
    """Keep transformers' progress bars and advice out of the run's log."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    # bitsandbytes, which peft imports where it is installed, asks for a package of compiled kernels that is not wanted here
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # peft <= 0.21 calls what transformers >= 5.24 renamed; drop when peft follows
    warnings.filterwarnings("ignore", message=r".*gradient_checkpointing.* is deprecated", category=FutureWarning)


def _read_json(path: Path, *, what: str) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserInputError(f"{what} has no {path.name}", code="unusable_model") from error
    except ValueError as error:
        raise UserInputError(f"{what} has a broken {path.name}: {error}", code="unusable_model") from error
    if not isinstance(content, dict):
        raise UserInputError(f"{what} has a {path.name} that is not a JSON object", code="unusable_model")
    return content


def _no_safetensors(folder: Path, *, what: str, expected: str) -> UserInputError:
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickled:
        return UserInputError(
            f"{what} has pickled weights only ({', '.join(pickled[:3])}); pickles can run code when they are loaded, "
            "so convert them to safetensors first",
            code="pickled_weights",
        )
    return UserInputError(f"{what} has no {expected}", code="unusable_model")
