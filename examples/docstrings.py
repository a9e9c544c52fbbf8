"""Make instruction rows from the documentation strings of the installed Python's own library.

Real text, different with every Python version, so it is made where it is used rather than committed:

    python -m examples.docstrings --rows 500 > docstrings.csv
"""

from __future__ import annotations

import argparse
import csv
import importlib
import inspect
import random
import sys
from collections.abc import Iterator

MODULES = (
    "argparse", "array", "asyncio", "base64", "bisect", "calendar", "codecs", "collections", "configparser", "contextlib",
    "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "email.message", "enum", "fileinput", "fractions",
    "functools", "glob", "gzip", "hashlib", "heapq", "hmac", "html", "http.client", "inspect", "io", "ipaddress", "itertools",
    "json", "logging", "math", "mimetypes", "operator", "os", "os.path", "pathlib", "pickle", "platform", "pprint", "queue",
    "random", "re", "sched", "secrets", "shlex", "shutil", "signal", "socket", "sqlite3", "ssl", "statistics", "string",
    "struct", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "time", "timeit", "tokenize", "traceback",
    "types", "typing", "unittest", "urllib.parse", "urllib.request", "uuid", "warnings", "weakref", "xml.etree.ElementTree",
    "zipfile", "zlib",
)  # fmt: skip
COLUMNS = ("instruction", "input", "output")
SEED = 7


def docstring_rows() -> Iterator[dict[str, str]]:
    """Yield one alpaca row per documented public function, class and method, each object once."""
    seen: set[int] = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name, member in _documented(module):
            if id(member) not in seen:
                seen.add(id(member))
                yield _row(f"{module_name}.{name}", member)
            if inspect.isclass(member):
                for method_name, method in _documented(member):
                    if id(method) not in seen:
                        seen.add(id(method))
                        yield _row(f"{module_name}.{name}.{method_name}", method)


def _documented(owner: object) -> Iterator[tuple[str, object]]:
    for name in sorted(vars(owner)):
        member = getattr(owner, name, None)
        own_text = isinstance(getattr(member, "__doc__", None), str) and len(inspect.getdoc(member) or "") >= 40
        if not name.startswith("_") and callable(member) and own_text:
            yield name, member


def _row(name: str, member: object) -> dict[str, str]:
    return {
        "instruction": f"What does Python's {name} do?",
        "input": _signature(name, member),
        "output": (inspect.getdoc(member) or "").split("\n\n")[0].strip(),
    }


def _signature(name: str, member: object) -> str:
    try:
        return f"{name.rpartition('.')[2]}{inspect.signature(member)}"  # type: ignore[arg-type]
    except (TypeError, ValueError):  # many built-ins have none
        return ""


def main() -> None:
    """Write a seeded sample of the rows as CSV to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500, help="how many rows to write (default 500)")
    arguments = parser.parse_args()
    rows = list(docstring_rows())
    random.Random(SEED).shuffle(rows)
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    writer.writeheader()
    writer.writerows(rows[: arguments.rows])


if __name__ == "__main__":
    main()
