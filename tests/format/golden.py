"""Stored objects of format version 1, byte for byte; owns what every later release must still read.

Made once with `struct`, xxhash and zstd from the tables of docs/format.md and not with the package, so a
mistake in an encoder can't hide in them. Payloads of zstd are kept as they were stored: another release of zstd
may compress otherwise but must decompress these.
"""

from __future__ import annotations

import msgspec

from warmspare.format import repofile
from warmspare.format.index_shard import IndexEntry, IndexShard
from warmspare.format.mark import LossMark
from warmspare.format.restore_point import Checkpoint, Disk, ObjectRef, RestorePoint, Unprotected
from warmspare.format.retained.hold import Hold
from warmspare.format.retained.retention import Fold, FoldedDisk, Retention
from warmspare.model.ids import PointId, VmId

RUN = bytes(range(16))
MANIFEST_CAPACITY = (2 << 20) + 4097  # 33 blocks, the last of two pages
TABLE_CAPACITY = (20 << 20) + 1  # 321 blocks, two leaves
ZSTD_PAGES = (b"warmspare\n" * 1300)[: 3 * 4096]

FRAME_RAW = bytes.fromhex(
    """
    57534652000001000f0000000f000000775e5fcc814fc2410b73686f7274206c6173742070616765
    """
)
FRAME_ZSTD = bytes.fromhex(
    """
    57534652010004001c00000000300000b3cca56262182fb507d0040228b52ffd60002f950000507761726d7370617265
    0a0100f3af7c4102
    """
)
PACK = bytes.fromhex(
    """
    57535041434b0d0a0100400000000000000102030405060708090a0b0c0d0e0f070000000200100c0000000000000000
    00000000000000000347b296a0ddcf5b57534652000001000f0000000f000000775e5fcc814fc2410b73686f7274206c
    617374207061676557534652010004001c00000000300000b3cca56262182fb507d0040228b52ffd60002f9500005077
    61726d73706172650a0100f3af7c4102
    """
)
MANIFEST = bytes.fromhex(
    """
    57534d414e49460a01004500000000000110200000000000000102030405060708090a0b0c0d0e0f100c010500000000
    000000000000000000000000000000006469736b3057534d43000000007500000075000000020000000f0000004db45d
    22c86805de020000000300000003000000010000000000000001000000400000004000000028000000c8000000000002
    00000100ffff03001000000000800000f000a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2
    a2a2a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4080000000800000057534d43000000003300000033000000200000002000
    000029d525fb3291f41a0100000001000000010000000000000000000000680000003800000000000003000000b2b2b2
    b2b2b2b2b2b2b2b2b2b2b2b2b257534d430100000080000000800000000000000000000000d7666c9121d21456000102
    030405060708090a0b0c0d0e0f0700000004030201a000000000000000ca978112ca1bbdcafac231b39a23dc4da786ef
    f8147c4e72b9807785afee48bb000102030405060708090a0b0c0d0e0f08000000fcfdfeff70110100000000003e23e8
    160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d57534d43020000002800000028000000000000
    00000000004e3edc964559b5800400000000000000050000000000000005000000000000000800000000000000030000
    0000000000
    """
)
END_ZSTD = bytes.fromhex(
    """
    57534d4302010000220000002800000000000000000000007004aa36f17864af28b52ffd2028cd000068040005000803
    00000000000000040020cb0a0160e0016001
    """
)
CHECKPOINT = bytes.fromhex(
    """
    57535441424c450a010020000000000001004001000000000000000000000000010000001e00000001000000e00ed349
    e767ea5228b52ffd60040fa500004001000000c100c200041000ecf3a53bf615ebde000000000000000000000000f0a4
    c269918f99c4
    """
)

POINT = b"""{
 "format": 1,
 "flags": 0,
 "vm_id": "web 01/\xc3\xbc",
 "vm_name": "web 01/\xc3\xbc",
 "sequence": 12,
 "parent": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
 "run": "000102030405060708090a0b0c0d0e0f",
 "created": "2026-01-02T03:04:05Z",
 "software": "warmspare 0.1.0",
 "disks": [
  {
   "id": "disk0",
   "name": "disk0.raw",
   "capacity_bytes": 2101249,
   "root": "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
   "manifest": {
    "key": "vms/web=2001/manifests/000102030405060708090a0b0c0d0e0f/000.manifest",
    "bytes": 533,
    "sha256": "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6",
    "crc32c": 4294967295
   },
   "changed_blocks": 11,
   "change_id": "52 8b/7",
   "checkpoint": {
    "sequence": 9,
    "table": {
     "key": "vms/web=2001/tables/00ff/000.table",
     "bytes": 150,
     "sha256": "18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4",
     "crc32c": 0
    }
   },
   "manifest_bytes_since_checkpoint": 1234,
   "attributes": {
    "datastore": "ds1"
   },
   "reason": "the VM was reverted to a snapshot"
  }
 ],
 "bytes_read": 1048576,
 "bytes_changed": 40960,
 "bytes_sent": 5000,
 "unprotected": [
  {
   "name": "rdm",
   "reason": "a physical RDM"
  }
 ],
 "hardware": {
  "firmware": "efi",
  "cpus": 2
 }
}
"""
POINT_SHA256 = "f608c59c8e18fd8a8691734dfba1ef898818362ad9d6bda6674c9175be792413"
POINT_OF_REQUEST = POINT.replace(
    b'"cpus": 2\n', b'"cpus": 2,\n  "request_id": "scheduled__2026-01-02T03:00:00+00:00"\n'
)
POINT_OF_REQUEST_SHA256 = "a45ca84dc4e4df7fe8871fa4bbbb4ffcded3615287acaf15548ac04ea3a3c86e"
REQUEST = "scheduled__2026-01-02T03:00:00+00:00"
POINT_VALUE = RestorePoint(
    1,
    0,
    "web 01/\u00fc",
    "web 01/\u00fc",
    12,
    "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
    "000102030405060708090a0b0c0d0e0f",
    "2026-01-02T03:04:05Z",
    "warmspare 0.1.0",
    [
        Disk(
            "disk0",
            "disk0.raw",
            2101249,
            "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
            ObjectRef(
                "vms/web=2001/manifests/000102030405060708090a0b0c0d0e0f/000.manifest",
                533,
                "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6",
                0xFFFFFFFF,
            ),
            11,
            "52 8b/7",
            Checkpoint(
                9,
                ObjectRef(
                    "vms/web=2001/tables/00ff/000.table",
                    150,
                    "18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4",
                    0,
                ),
            ),
            1234,
            {"datastore": "ds1"},
            "the VM was reverted to a snapshot",
        )
    ],
    1048576,
    40960,
    5000,
    [Unprotected("rdm", "a physical RDM")],
    {"firmware": "efi", "cpus": 2},
)

REPOSITORY = b"""{
 "format": 1,
 "flags": 0,
 "id": "0123456789abcdef0123456789abcdef",
 "created": "2026-01-02T03:04:05Z"
}
"""
REPOSITORY_VALUE = repofile.RepositoryRecord(1, 0, "0123456789abcdef0123456789abcdef", "2026-01-02T03:04:05Z")
MARK = b"""{
 "format": 1,
 "flags": 0,
 "vm_id": "web1",
 "sequence": 12,
 "sha256": "5555555555555555555555555555555555555555555555555555555555555555",
 "created": "2026-01-02T03:04:05Z",
 "software": "warmspare 0.1.0",
 "disks": {
  "disk": [
   [
    0,
    3
   ],
   [
    7,
    1
   ]
  ]
 }
}
"""
MARK_VALUE = LossMark(1, 0, "web1", 12, "5" * 64, "2026-01-02T03:04:05Z", "warmspare 0.1.0", {"disk": [(0, 3), (7, 1)]})
HOLD = b"""{
 "format": 1,
 "flags": 0,
 "vm_id": "web1",
 "sequence": 12,
 "sha256": "5555555555555555555555555555555555555555555555555555555555555555",
 "reason": "before the migration",
 "created": "2026-01-02T03:04:05Z",
 "until": "2026-07-01T00:00:00Z",
 "host": "sender",
 "software": "warmspare 0.1.0"
}
"""
HOLD_VALUE = Hold(
    1,
    0,
    "web1",
    12,
    "5" * 64,
    "before the migration",
    "2026-01-02T03:04:05Z",
    "2026-07-01T00:00:00Z",
    "sender",
    "warmspare 0.1.0",
)
RETENTION = b"""{
 "format": 1,
 "flags": 4,
 "vm_id": "web1",
 "generation": 2,
 "previous": "6666666666666666666666666666666666666666666666666666666666666666",
 "created": "2026-01-02T03:04:05Z",
 "software": "warmspare 0.1.0",
 "folds": [
  {
   "target": {
    "sequence": 11,
    "sha256": "1111111111111111111111111111111111111111111111111111111111111111"
   },
   "base": {
    "sequence": 7,
    "sha256": "7777777777777777777777777777777777777777777777777777777777777777"
   },
   "dropped": 3,
   "run": "000102030405060708090a0b0c0d0e0f",
   "since": "2026-01-02T03:04:00Z",
   "disks": [
    {
     "id": "disk",
     "manifest": {
      "key": "vms/web1/folds/000102030405060708090a0b0c0d0e0f/0000000011-000.manifest",
      "bytes": 700,
      "sha256": "2222222222222222222222222222222222222222222222222222222222222222",
      "crc32c": 305419896
     },
     "from_nothing": false,
     "changed_blocks": 12
    }
   ],
   "descent": [
    {
     "key": "vms/web1/folds/000102030405060708090a0b0c0d0e0f/0000000011-00000.descent",
     "bytes": 150,
     "sha256": "3333333333333333333333333333333333333333333333333333333333333333",
     "crc32c": 1
    }
   ]
  }
 ]
}
"""
_FOLDS = "vms/web1/folds/000102030405060708090a0b0c0d0e0f/0000000011"
RETENTION_VALUE = Retention(
    1,
    4,
    "web1",
    2,
    "6" * 64,
    "2026-01-02T03:04:05Z",
    "warmspare 0.1.0",
    [
        Fold(
            PointId(11, "1" * 64),
            PointId(7, "7" * 64),
            3,
            RUN.hex(),
            "2026-01-02T03:04:00Z",
            [FoldedDisk("disk", ObjectRef(f"{_FOLDS}-000.manifest", 700, "2" * 64, 0x12345678), False, 12)],
            [ObjectRef(f"{_FOLDS}-00000.descent", 150, "3" * 64, 1)],
        )
    ],
)
DESCENT = bytes.fromhex(
    """
    5753444553430d0a010028000400000008000000000000000300000078000000427b39db802b44e628b52ffd20781d02
    00a2030d1290cf01523e2e2c82c0ff4c33db9c487786a0f7ea9cde6ebdf368adbe620840f7ea9c4e5fcb05cfe3707ab3
    d735f6bc05008810040047711820081036e32932
    """
)
DESCENT_FIRST, DESCENT_BEFORE = 8, "7" * 64
DESCENT_RECORDS = [
    b'{"sequence": 8, "parent": "7777777777777777777777777777777777777777777777777777777777777777"}',
    b'{"sequence": 9, "parent": "e5a3226787e1a67bd308294f97f944a0e07e8364be673bddee0d42a921e4184f"}',
    b'{"sequence": 10, "parent": null, "name": "^"}',
]
INDEX = (
    b'{"format":1,"flags":0,"repository":"0123456789abcdef0123456789abcdef","whole":true,"vms":['
    b'{"id":"50120000-0000-4000-8000-00000000000a","name":"web 01/\xc3\xbc","sequence":12,'
    b'"sha256":"5555555555555555555555555555555555555555555555555555555555555555","created":"2026-01-02T03:04:05Z",'
    b'"disks":2,"disk_bytes":5368709120,"unprotected":1}]}\n'
)
INDEX_SHARD = 0x71
INDEX_VALUE = IndexShard(
    1,
    0,
    "0123456789abcdef0123456789abcdef",
    True,
    [
        IndexEntry(
            VmId("50120000-0000-4000-8000-00000000000a"),
            "web 01/ü",
            12,
            "5" * 64,
            "2026-01-02T03:04:05Z",
            2,
            5 << 30,
            1,
        )
    ],
)
INDEX_WHOLE = b'{"format":1,"flags":0,"repository":"0123456789abcdef0123456789abcdef"}\n'


def point_with(**fields: object) -> bytes:
    """The golden point's JSON with top-level fields set."""
    loose = msgspec.json.decode(POINT)
    loose.update(fields)
    return msgspec.json.encode(loose)


def point_with_disk(**fields: object) -> bytes:
    """The golden point's JSON with fields of its disk set."""
    loose = msgspec.json.decode(POINT)
    loose["disks"][0].update(fields)
    return msgspec.json.encode(loose)
