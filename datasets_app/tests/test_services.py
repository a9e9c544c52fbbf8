"""Importing beyond what one request shows: two at once, and without the heavy libraries."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from celery_workers.data.formats import FileFormat
from datasets_app.models import DatasetVersion
from datasets_app.services import import_upload


@pytest.mark.django_db(transaction=True)
def test_uploads_of_one_name_at_once_get_numbers_of_their_own(user) -> None:
    start = threading.Barrier(4)
    failures: list[Exception] = []

    def run(number: int) -> None:
        try:
            start.wait()
            upload = SimpleUploadedFile("a.csv", f"text\nrow {number % 3}\n".encode())
            import_upload(user=user, upload=upload, name="shared")
        except Exception as error:  # noqa: BLE001 (handed to the main thread)
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert sorted(DatasetVersion.objects.values_list("number", flat=True)) == [1, 2, 3]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("file_name", "content", "requested", "expected"),
    [
        ("data.txt", b"text\na\n", FileFormat.CSV, "data.txt.csv"),
        ("data.json", b'{"text": "a"}\n{"text": "b"}\n', None, "data.json"),
        ("upload", b'[{"text": "a"}]', None, "upload.json"),
        ("a\u202eb\n.csv", b"text\na\n", None, "ab.csv"),
    ],
)
def test_the_kept_name_says_what_the_file_is(
    user, file_name: str, content: bytes, requested: FileFormat | None, expected: str
) -> None:
    imported = import_upload(user=user, upload=SimpleUploadedFile(file_name, content), name="x", file_format=requested)

    assert imported.version.file_name == expected


def test_the_web_process_loads_no_heavy_library() -> None:
    code = (
        "import django, sys; django.setup(); import datasets_app.api.views, datasets_app.admin;"
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'numpy') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=settings.BASE_DIR, check=False)

    assert done.stdout.strip() == "[]", done.stderr
