#!/bin/sh
# s3rver 3.7.1 takes conditional writes and ignores them: a PUT with If-None-Match: * onto an object that is there, and
# one with If-Match and another ETag than the object's, are both answered with 200, and the object is overwritten. S3
# answers 412. A server that doesn't know conditional writes would have to answer 501, as S3's own did for years.
# (Of 100 bytes asked for from the end, Range: bytes=-100, it gives the first 101.)
#
# Seen on 2026-11-30 with s3rver 3.7.1 on Node.js 20 and botocore 1.43, on Debian 12:
#   put: 200, put with If-None-Match: 200, put with another If-Match: 200, then there: third
#   range bytes=-100 of 1024: 101 bytes, the first: True
#
# Needs Node.js with npm, and Python with venv and pip. Exits with 0 if it is still so, with 1 if not.
set -eu
here=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$here"' EXIT
server=0
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check botocore
(cd "$here" && npm install --silent --no-audit --no-fund s3rver@3.7.1)
mkdir "$here/data"
"$here/node_modules/.bin/s3rver" -d "$here/data" -a 127.0.0.1 -p 14568 -s >"$here/log" 2>&1 &
server=$!
"$here/venv/bin/python" - <<'PYTHON'
import sys, time

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

s3 = get_session().create_client(
    "s3", endpoint_url="http://127.0.0.1:14568", region_name="us-east-1",
    aws_access_key_id="S3RVER", aws_secret_access_key="S3RVER",
    config=Config(
        retries={"total_max_attempts": 1}, s3={"addressing_style": "path"},
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    ),
)
for left in range(300, -1, -1):  # until it is up
    try:
        s3.create_bucket(Bucket="conditions")
        break
    except (BotoCoreError, ClientError):
        if not left:
            raise
        time.sleep(0.2)


def put(data, **condition):
    try:
        answer = s3.put_object(Bucket="conditions", Key="a", Body=data, **condition)
    except ClientError as error:
        answer = error.response
    return answer["ResponseMetadata"]["HTTPStatusCode"]


def get(**more):
    return s3.get_object(Bucket="conditions", Key="a", **more)["Body"].read()


statuses = put(b"first"), put(b"second", IfNoneMatch="*"), put(b"third", IfMatch='"0123456789abcdef0123456789abcdef"')
there = get().decode()
print("put: {}, put with If-None-Match: {}, put with another If-Match: {}, then there: {}".format(*statuses, there))
data = bytes(range(256)) * 4
put(data)
last = get(Range="bytes=-100")
print(f"range bytes=-100 of {len(data)}: {len(last)} bytes, the first: {last == data[:len(last)]}")
sys.exit((*statuses, there, last) != (200, 200, 200, "third", data[:101]))
PYTHON
