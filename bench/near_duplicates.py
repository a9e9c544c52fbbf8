"""Compare the search for near duplicates with datasketch on the same rows, at the same threshold, in one run.

    python -m bench.near_duplicates --rows 100000

A tenth of the rows are edited copies of others: some words are exchanged, dropped or doubled. What counts as a near
duplicate is settled exactly (Jaccard of all shingles), and recall is the share of those copies that a contestant finds.
Both begin with texts and end with pairs; both take the same shingles. One thread each; a busy
machine stretches the seconds, not the processor's time. Needs bench/requirements.txt.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

from celery_workers.data.near_dedup import SHINGLE_BYTES, NearDuplicateFinder, similarity

PLANTED_SHARE = 0.1
WORDS_IN_ROW = (40, 90)
DATASKETCH_PERMUTATIONS = 128  # its default
_BATCH_ROWS = 1000


def make_rows(count: int, *, seed: int = 0) -> tuple[list[str], dict[int, int]]:
    """Return texts, and for each planted copy its position and that of its original."""
    chance = random.Random(seed)
    letters = "etaoinshrdlucmfw"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(30_000)]
    planted = int(count * PLANTED_SHARE)
    texts = [" ".join(chance.choices(words, k=chance.randint(*WORDS_IN_ROW))) for _ in range(count - planted)]
    originals = chance.sample(range(len(texts)), planted)
    texts += [_edited(texts[original], words, chance) for original in originals]
    order = list(range(count))
    chance.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    return [texts[old] for old in order], {place[count - planted + i]: place[old] for i, old in enumerate(originals)}


def _edited(text: str, words: list[str], chance: random.Random) -> str:
    parts = text.split(" ")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(parts))
        parts[at : at + 1] = chance.choice([[], [parts[at], parts[at]], [chance.choice(words)]])
    return " ".join(parts)


def run_ours(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    """Return the pairs that the platform's own search reports; each was verified."""
    with tempfile.TemporaryDirectory() as folder:
        finder = NearDuplicateFinder(Path(folder) / "texts", threshold=threshold)
        for start in range(0, len(texts), _BATCH_ROWS):
            finder.add(texts[start : start + _BATCH_ROWS])
        result = finder.find(after_each=lambda: None)
        finder.close()
    return {(min(pair.position, pair.other), max(pair.position, pair.other)) for pair in result.repeats.values()}


def run_datasketch(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    """Return the pairs that datasketch proposes, as its manual does it; it does not verify them."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=DATASKETCH_PERMUTATIONS)
    pairs = set()
    for position, text in enumerate(texts):
        data = " ".join(text.lower().split()).encode() + bytes(SHINGLE_BYTES - 1)
        signature = MinHash(num_perm=DATASKETCH_PERMUTATIONS)
        signature.update_batch({data[start : start + SHINGLE_BYTES] for start in range(len(data) - SHINGLE_BYTES + 1)})
        pairs.update((other, position) for other in index.query(signature))
        index.insert(position, signature, check_duplication=False)
    return pairs


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows in all (default 100000)")
    parser.add_argument("--threshold", type=float, default=0.8, help="least similarity of a near duplicate (default 0.8)")
    parser.add_argument("--only-ours", action="store_true", help="leave the peer out")
    arguments = parser.parse_args()
    texts, planted = make_rows(arguments.rows)
    expected = {
        (min(pair), max(pair)) for pair in planted.items() if similarity(texts[pair[0]], texts[pair[1]]) >= arguments.threshold
    }
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}; load before {os.getloadavg()[0]:.1f}")
    mean = sum(map(len, texts)) / len(texts)
    print(f"{len(texts)} rows of {mean:.0f} characters; {len(planted)} edited copies, {len(expected)} of them near duplicates")
    contestants: dict[str, Callable[[list[str], float], set[tuple[int, int]]]] = {"ours": run_ours}
    if not arguments.only_ours:
        contestants["datasketch"] = run_datasketch
    print(f"{'':12} {'seconds':>8} {'CPU':>7} {'rows/CPU s':>10} {'recall':>7} {'wrong pairs':>12}")
    used = {}
    for run in contestants.values():
        run(texts[:100], arguments.threshold)  # imports are not timed
    for name, run in contestants.items():
        start, cpu = time.perf_counter(), time.process_time()
        pairs = run(texts, arguments.threshold)
        seconds, used[name] = time.perf_counter() - start, time.process_time() - cpu
        recall = len(expected & pairs) / len(expected)
        wrong = sum(similarity(texts[left], texts[right]) < arguments.threshold for left, right in pairs)
        print(f"{name:12} {seconds:8.2f} {used[name]:7.2f} {len(texts) / used[name]:10.0f} {recall:7.4f} {wrong:12}")
    if "datasketch" in used:
        print(f"in processor time, ours is {used['datasketch'] / used['ours']:.0f} times as fast")


if __name__ == "__main__":
    main()
