"""A cache behind S3's own protocol, spoken by s3fs to a server in another process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

import lift
from lift.errors import StorageError

pytestmark = pytest.mark.cluster


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """Return the URL of an empty bucket on a server of our own."""
    for package in ("boto3", "moto", "s3fs"):
        pytest.importorskip(package)
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    values = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL": url}
    values |= {"AWS_DEFAULT_REGION": "us-east-1", "FSSPEC_S3_ENDPOINT_URL": url}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    finally:
        server.kill()
        server.wait()


def test_parts_on_s3_are_the_cache_of_a_folder(tmp_path, bucket):
    texts = [f"a photo of {i} birds over house {i % 9}" for i in range(2_000)]
    (tmp_path / "c.txt").write_text("".join(f"{text}\n" for text in texts))
    data, out = [str(tmp_path / "c.txt")], f"{bucket}/captions"
    options = {"encoder": "hashing:dimensions=32", "codec": "int8", "progress": False}
    for part in ("2/2", "1/2"):
        lift.embed(data, out=out, part=part, rows_per_shard=300, **options)
    again = lift.embed(data, out=out, **options)
    assert again.embedded == 0 and again.rows == 2_000
    lift.embed(data, out=tmp_path / "c", **options)
    there, here = (
        lift.EmbeddingCache.open(out, verify=True),
        lift.EmbeddingCache.open(tmp_path / "c"),
    )
    np.testing.assert_array_equal(there.take(there.require(texts)), here.take(here.require(texts)))
    child = os.fork()  # as a loader's workers are
    if child == 0:
        same = (there.take(there.require(texts[:50])) == here.take(here.require(texts[:50]))).all()
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert lift.audit(out, data=data).ok


def test_a_store_that_refuses_is_one_sentence(tmp_path, bucket, monkeypatch):
    (tmp_path / "c.txt").write_text("a\n")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match=f"Can't read {bucket}/c"):
        lift.embed([str(tmp_path / "c.txt")], out=f"{bucket}/c", encoder="hashing", progress=False)
