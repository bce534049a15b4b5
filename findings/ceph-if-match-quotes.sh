#!/bin/sh
# Ceph 16.2.15's S3 gateway: a PUT with If-Match and the object's own ETag, in quotes as the gateway itself names it and
# as HTTP demands, is answered with 412. Without the quotes it is taken; a wrong tag without quotes gets 412, so the
# condition itself is looked at. No client that sends back the ETag it was given can replace an object.
#
# Seen on 2026-11-30 with Debian 12's packages ceph-mon, ceph-osd, radosgw 16.2.15+ds-0+deb12u2 and botocore 1.43:
#   put: 200, its ETag: "8b04d5e3775d298e78455efc5ca404d5"
#   put with If-Match in quotes: 412, without: 200, with the tag before that without: 412
#
# Needs a Debian 12 on which ceph-mon, ceph-osd, radosgw and ceph-common are installed, Python with venv and pip. A
# monitor, an OSD in memory and a gateway of their own run on loopback. Exits with 0 if it is still so, with 1 if not.
set -eu
here=$(mktemp -d)
pids=
trap 'kill -9 $pids 2>/dev/null || true; rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check botocore
radosgw --version
fsid=$(cat /proc/sys/kernel/random/uuid)
osd=$(cat /proc/sys/kernel/random/uuid)
cat >"$here/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:13300/0]
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms mon client mode = crc
mon allow pool size one = true
mon data = $here/mon
mon data avail crit = 0
osd data = $here/osd
osd objectstore = memstore
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
rgw frontends = beast endpoint=127.0.0.1:17480
admin socket = $here/\$name.asok
log file = $here/\$name.log
crash dir = $here
run dir = $here
pid file =
CONF
mkdir "$here/mon" "$here/osd"
with="-c $here/ceph.conf"
# shellcheck disable=SC2086 (an option and its value)
{
    monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:13300]" "$here/map" $with >/dev/null
    ceph-mon --mkfs -i a --monmap "$here/map" $with
    ceph-mon -i a -f $with >"$here/out" 2>&1 & pids="$pids $!"
    ceph osd new "$osd" $with >/dev/null
    ceph-osd -i 0 --mkfs --osd-uuid "$osd" $with >"$here/out" 2>&1
    ceph-osd -i 0 -f $with >"$here/out" 2>&1 & pids="$pids $!"
    radosgw-admin user create --uid=test --display-name=test --access-key=test --secret=secret $with >/dev/null 2>&1
    radosgw -n client.admin -f $with >"$here/out" 2>&1 & pids="$pids $!"
}
"$here/venv/bin/python" - <<'PYTHON'
import sys, time

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

s3 = get_session().create_client(
    "s3", endpoint_url="http://127.0.0.1:17480", region_name="us-east-1",
    aws_access_key_id="test", aws_secret_access_key="secret",
    config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
)
for left in range(300, -1, -1):  # until it is up
    try:
        s3.create_bucket(Bucket="tags")
        break
    except (BotoCoreError, ClientError):
        if not left:
            raise
        time.sleep(0.2)


def put(data, **condition):
    try:
        answer = s3.put_object(Bucket="tags", Key="a", Body=data, **condition)
    except ClientError as error:
        answer = error.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer.get("ETag", "")


first, tag = put(b"first")
print(f"put: {first}, its ETag: {tag}")
quoted = put(b"second", IfMatch=tag)[0]
bare = put(b"third", IfMatch=tag.strip('"'))[0]
stale = put(b"fourth", IfMatch=tag.strip('"'))[0]
print(f"put with If-Match in quotes: {quoted}, without: {bare}, with the tag before that without: {stale}")
sys.exit((first, quoted, bare, stale) != (200, 412, 200, 412))
PYTHON
