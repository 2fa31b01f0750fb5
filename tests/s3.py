"""A real S3-speaking server on loopback, which this process and its children find through the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

SECRET = "secret-test"


@contextmanager
def s3_bucket(name: str) -> Iterator[str]:
    """The URL of a new, empty bucket."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        S3FileSystem.clear_instance_cache()  # instances remember the server that they first met
        fsspec.filesystem("s3").mkdir(name)
        yield f"s3://{name}"
    S3FileSystem.clear_instance_cache()
    server.stop()
