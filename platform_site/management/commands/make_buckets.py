"""Make the buckets that the settings name, where they lack."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """``manage.py make_buckets``."""

    help = "Make MINIO_BUCKET and DATA_BUCKETS on the S3 server of MINIO_ENDPOINT, where they lack."
    requires_system_checks: list[str] = []

    def handle(self, **options: object) -> None:
        """Make what lacks; buckets that exist are left alone.

        Raises: CommandError: no endpoint is set, or a bucket belongs to somebody else.
        """
        environment = settings.ENV
        if not environment.minio_endpoint:
            raise CommandError("MINIO_ENDPOINT is not set: files go to a folder, which needs no bucket.")
        client = boto3.client(
            "s3",
            endpoint_url=environment.minio_endpoint,
            aws_access_key_id=environment.minio_access_key,
            aws_secret_access_key=environment.minio_secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        for bucket in dict.fromkeys([environment.minio_bucket, *environment.data_buckets]):
            try:
                client.create_bucket(Bucket=bucket)
            except client.exceptions.BucketAlreadyOwnedByYou:
                self.stdout.write(f"{bucket}: exists")
            except ClientError as error:
                if error.response["Error"]["Code"] != "BucketAlreadyExists":
                    raise CommandError(f"{bucket}: {error}") from error
                client.head_bucket(Bucket=bucket)  # fails unless we may use it
                self.stdout.write(f"{bucket}: exists")
            else:
                self.stdout.write(f"{bucket}: made")
