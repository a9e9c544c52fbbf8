"""What configs point to outside their graph: datasets, files in buckets, examples, base models.

Before a run is written, ``resolve_graph`` says whether everything exists, and what exactly it is now (a digest). When a
node runs, ``materialize`` brings that very content to a local path, or refuses because it has changed since.
"""

from pipelines.references.find import FoundReference, ReferenceKind, find_references
from pipelines.references.resolution import Resolution, UnresolvedReference
from pipelines.references.resolve import materialize, resolve, resolve_graph
from pipelines.references.tokenizers import TokenizerFolder, find_tokenizer

__all__ = [
    "FoundReference",
    "ReferenceKind",
    "Resolution",
    "TokenizerFolder",
    "UnresolvedReference",
    "find_references",
    "find_tokenizer",
    "materialize",
    "resolve",
    "resolve_graph",
]
