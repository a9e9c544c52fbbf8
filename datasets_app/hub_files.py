"""Which files of a dataset repository are a split of a subset: by its card, else by the names of its files.

Pure: what the Hub lists goes in, files come out. Only data files are ever chosen; a loading script is not even looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from celery_workers.data.rows import COMPRESSED_ENDINGS
from platform_site.common.errors import InvalidInput, Problem

DATA_ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".txt", ".text", ".md", ".markdown")
CONVERTED_REVISION = "refs/convert/parquet"
"""Where the Hub keeps Parquet that it made itself of a dataset: ``subset/split/0000.parquet``."""
MAX_FILES = 1000
_MAX_NAMED = 20
_MAX_PATTERN = 500
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NO_DATA = ("readme", "license", "licence", "dataset_infos", "dataset_info", "changelog", "contributing")


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file as the Hub lists it. ``sha256`` is known of large files, ``blob_id`` (git's digest) of all."""

    path: str
    size_bytes: int
    blob_id: str
    sha256: str = ""

    @property
    def is_data(self) -> bool:
        """Whether rows can be read from it, by its name; documents about the data are none."""
        name = PurePosixPath(self.path).name.lower()
        for ending in COMPRESSED_ENDINGS:
            name = name.removesuffix(ending)
        return name.endswith(DATA_ENDINGS) and not name.startswith((*_NO_DATA, "."))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The files that make up a split; ``subset`` and ``split`` are empty where a file was named."""

    files: list[HubFile]
    subset: str = ""
    split: str = ""


@dataclass(frozen=True)
class _Subset:
    splits: dict[str, list[HubFile]] = field(default_factory=dict)
    is_default: bool = False


def choose_file(files: Sequence[HubFile], path: str) -> Choice:
    """Return the file at ``path``.

    Raises: InvalidInput: it is no data file, or there is none.
    """
    found = next((file for file in files if file.path == path), None)
    if found is None:
        names = [file.path for file in files if file.is_data]
        raise _refusal("file", f"file must be one of the repository ({_listed(names)}), got {path!r}", "unknown_file")
    if not found.is_data:
        message = f"file must be a data file ({', '.join(DATA_ENDINGS)}, also .gz or .zst), got {path!r}; scripts are never run"
        raise _refusal("file", message, "no_data_file")
    return Choice(files=[found])


def choose_split(files: Sequence[HubFile], card: Mapping[str, object], *, subset: str, split: str) -> Choice:
    """Return the files of ``split`` of ``subset``; each may be empty where there is only one, or one is the default.

    Raises: InvalidInput: there is no such subset or split, several are there and none is named, or the files of the split are
    of different kinds. The message names what can be chosen.
    """
    data = [file for file in files if file.is_data]
    subsets = _by_card(data, card) or {"default": _Subset(_by_names(data))}
    return _chosen(subsets, subset, split)


def choose_converted(files: Sequence[HubFile], *, subset: str, split: str) -> Choice:
    """Return the files of ``split`` as the Hub converted it.

    Raises: InvalidInput: as ``choose_split``.
    """
    subsets: dict[str, _Subset] = {}
    for file in files:
        parts = file.path.split("/")
        if len(parts) == 3 and file.path.endswith(".parquet"):
            found = subsets.setdefault(parts[0], _Subset())
            found.splits.setdefault(parts[1].removeprefix("partial-"), []).append(file)
    return _chosen(subsets, subset, split)


def _chosen(subsets: Mapping[str, _Subset], subset: str, split: str) -> Choice:
    default = next((name for name, found in subsets.items() if found.is_default), "default" if "default" in subsets else "")
    name = _pick("subset", subset, list(subsets), default=default)
    splits = {found: parts for found, parts in subsets[name].splits.items() if parts}
    if not splits:
        raise _refusal("repository", f"subset {name!r} has no data file that can be read", "no_data_file")
    chosen = _pick("split", split, list(splits))
    files = sorted(splits[chosen], key=lambda file: file.path)
    kinds = {(str(PurePosixPath(file.path).parent), _kind(file.path)) for file in files}
    if len(kinds) > 1 or len(files) > MAX_FILES:
        what = f"{len(files)} files" if len(kinds) == 1 else f"{len(files)} files in different folders or formats"
        names = _listed([file.path for file in files])
        raise _refusal("file", f"split {chosen!r} has {what}; name one with file: {names}", "choose_file")
    return Choice(files=files, subset=name, split=chosen)


def _pick(what: str, asked: str, names: Sequence[str], *, default: str = "") -> str:
    if asked:
        if asked not in names:
            raise _refusal(what, f"{what} must be one of {_listed(names)}, got {asked!r}", f"unknown_{what}")
        return asked
    if len(names) == 1 or default:
        return default or names[0]
    if not names:
        raise _refusal("repository", "the repository has no data file that can be read", "no_data_file")
    raise _refusal(what, f"{what} must be named, as there are several: {_listed(names)}", f"choose_{what}")


def _by_card(files: Sequence[HubFile], card: Mapping[str, object]) -> dict[str, _Subset]:
    """Read ``configs`` of the card, which a stranger wrote: whatever has another shape is passed over."""
    subsets: dict[str, _Subset] = {}
    configs = card.get("configs")
    for config in configs[:MAX_FILES] if isinstance(configs, list) else []:
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            continue
        folder = config.get("data_dir") if isinstance(config.get("data_dir"), str) else ""
        splits: dict[str, list[HubFile]] = {}
        for split, pattern in _patterns(config.get("data_files")):
            expression = _glob(f"{folder.rstrip('/')}/{pattern}" if folder else pattern)
            known = splits.setdefault(split, [])
            known += [file for file in files if file not in known and expression.fullmatch(file.path)]
        if not splits and folder:
            splits = _by_names([file for file in files if file.path.startswith(f"{folder.rstrip('/')}/")])
        if splits:
            subsets[config["config_name"]] = _Subset(splits, config.get("default") is True)
    return subsets


def _patterns(data_files: object) -> Iterator[tuple[str, str]]:
    """Yield (split, pattern) of one of the three spellings: a pattern, a list of them, or of splits with patterns."""
    for item in data_files if isinstance(data_files, list) else [data_files]:
        if isinstance(item, str):
            yield "train", item[:_MAX_PATTERN]
        elif isinstance(item, dict) and isinstance(item.get("split"), str):
            paths = item.get("path")
            for path in paths[:MAX_FILES] if isinstance(paths, list) else [paths]:
                if isinstance(path, str):
                    yield item["split"], path[:_MAX_PATTERN]


def _glob(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern: ``*`` stays in its folder, ``**`` does not.

    A star takes the first place where what follows it stands, and is done, so that no pattern makes the search run away.
    """
    first, *rest = re.split(r"(\*\*/?|\*)", pattern)
    signs, literals = rest[::2], [re.escape(piece).replace(r"\?", "[^/]") for piece in rest[1::2]]
    if sum(sign != "*" for sign in signs) > 2:
        return re.compile(re.escape(pattern))
    expression = re.escape(first).replace(r"\?", "[^/]")
    for place, (sign, literal) in enumerate(zip(signs, literals, strict=True)):
        if sign == "*":
            expression += f"[^/]*{literal}" if place == len(signs) - 1 else f"(?>[^/]*?{literal})"
        else:
            expression += ("(?:.*/)?" if sign == "**/" else ".*") + literal
    return re.compile(expression)


def _by_names(files: Sequence[HubFile]) -> dict[str, list[HubFile]]:
    """Group files by the word for a split in their path; without any such word all are ``train``."""
    splits: dict[str, list[HubFile]] = {}
    for file in files:
        words = set(re.split(r"[^a-z]+", file.path.lower()))
        split = next((name for name, spellings in _SPLITS.items() if words & set(spellings)), "")
        if split:
            splits.setdefault(split, []).append(file)
    return splits or ({"train": list(files)} if files else {})


def _kind(path: str) -> str:
    suffixes = PurePosixPath(path.lower()).suffixes
    return "".join(suffixes[-2:] if path.lower().endswith(COMPRESSED_ENDINGS) else suffixes[-1:])


def _listed(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more if names else "none"


def _refusal(what: str, message: str, code: str) -> InvalidInput:
    return InvalidInput(message, errors=[Problem(message=message, code=code, field=what)], code=code)
