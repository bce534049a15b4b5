"""A strict, recording stand-in before EC2: what moto drops or takes without a look is kept and demanded here.

Every request is decoded by AWS's own model and kept. Client tokens give the same answer again, and refuse another
request; image names are unique and images real: their snapshots must be there and completed; VM Import's tasks go
through their states; volumes know what they were made from. New things can be hidden for a while, answers lost,
requests refused, and a process killed at a request. All else goes to `behind` (the EBS stand-in, and moto behind that).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from rigs.aws import ec2query

Json = dict[str, Any]
NS = "http://ec2.amazonaws.com/doc/2016-11-15/"
_TYPES: dict[str, tuple[int, bytes]] = {}  # they are the same for ever, and moto takes its time
# By AWS's documents of volume types: least and most GiB, IOPS, IOPS a GiB.
_VOLUMES: dict[str, tuple[int, int, tuple[int, int] | tuple[()], int]] = {
    "gp3": (1, 65536, (3000, 80000), 500),
    "gp2": (1, 16384, (), 0),
    "io1": (4, 16384, (100, 64000), 50),
    "io2": (4, 65536, (100, 256000), 1000),
    "st1": (125, 16384, (), 0),
    "sc1": (125, 16384, (), 0),
    "standard": (1, 1024, (), 0),
}
READS = ("Describe", "Get", "List")
_PLAIN = {"Version": "2016-11-15"}


class Refused(Exception):
    """message: AWS's sentence."""

    def __init__(self, code: str, status: int = 400, message: str = "") -> None:
        super().__init__(code)
        self.code, self.status, self.message = code, status, message or f"the sentence of {code}"


@dataclass(frozen=True, slots=True)
class Request:
    action: str
    parameters: Json

    @property
    def changes(self) -> bool:
        return not self.action.startswith(READS)

    def tags(self, kind: str) -> dict[str, str]:
        for each in self.parameters.get("TagSpecifications", []):
            if each["ResourceType"] == kind:
                return {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        return {}


@dataclass
class Front:
    """refuse: asked before each request, a code to refuse it with. lose: asked after it was carried out, whether its
    answer is lost. hide: how many listings do not show a thing that was just made. checks: what both status checks say,
    in turn, the last from then on; without any they pass. console: what the serial port has said, in the same way.
    nitro: whether instances give the latest of it. tokens_enforced: whether the account demands IMDSv2. reason: what
    AWS says of why an instance ended. deaths: why the next instances end before they run; their volumes stay, where
    they are to outlive an instance. broken: by the name of an instance, what its serial port says; its status checks
    never pass. kill: at which request `victim` gets the signal `how`, and whether after it was carried out."""

    behind: str
    refuse: Callable[[Request], Refused | None] = lambda request: None
    lose: Callable[[Request], bool] = lambda request: False
    hide: int = 0
    checks: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    nitro: bool = True
    tokens_enforced: bool = False
    reason: str = "Client.UserInitiatedShutdown"
    deaths: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    kill: tuple[int, bool] | None = None
    how: signal.Signals = signal.SIGKILL
    import_messages: list[tuple[str, str, str]] = field(default_factory=list)  # new tasks': (status, message, progress)
    requests: list[Request] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.victim: Future[int] = Future()
        self._tokens: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.images: dict[str, Json] = {}  # by ID: what RegisterImage said
        self.protects = False  # whether new images are protected from deregistration, which of them are
        self.protected: set[str] = set()
        self.tasks: dict[str, Json] = {}
        self.instances: dict[str, Json] = {}  # by ID: what RunInstances said
        self.returns: dict[str, str] = {}  # volume → the snapshot that CreateSnapshot is to give
        self.volumes: dict[str, Json] = {}
        self._died: dict[str, str] = {}  # instances that never ran, and why
        self._ran = set[str]()  # those that were shown to run
        self._hidden: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self.count = 0

    # what tests look at

    def made(self, action: str) -> list[Request]:
        return [request for request in self.requests if request.action == action]

    def changing(self) -> list[str]:
        return [request.action for request in self.requests if request.changes]

    def forget(self) -> None:
        """No token was ever used, and nothing was asked."""
        self._tokens.clear()
        self.requests.clear()

    def conceal(self, identity: str) -> None:
        """It is not listed any more."""
        self._hidden[identity] = 1 << 30

    # serving

    def handle(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes] | None:
        """(status, body) of the answer; None if it is lost."""
        with self._lock:
            return self._handle(body, headers)

    def _handle(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes] | None:
        try:
            action, parameters = ec2query.decode(body)
        except ValueError as error:
            self.breaches.append(str(error))
            return _error(Refused("InvalidParameterValue"))
        request = Request(action, parameters)
        self.count += 1
        number, after = self.kill or (0, False)
        if self.count == number and not after and self._kill():
            return None
        try:
            if refused := self.refuse(request):
                raise refused
            self.requests.append(request)
            work = getattr(self, f"_{action}", None)
            answer = work(request, body, headers) if work else self._forward(body, headers)
        except Refused as error:
            return _error(error)
        except (http.client.HTTPException, OSError):  # cut off behind, on demand
            return None
        except Exception as error:  # a mistake of this stand-in's: said by the test, not by a client that tries on
            self.breaches.append(f"{action}: {error!r}")
            return _error(Refused("InternalError"))
        if self.count == number and after and self._kill():
            return None
        return None if self.lose(request) else answer

    def _kill(self) -> bool:
        """Whether nobody is there any more who could have the answer."""
        os.kill(self.victim.result(30), self.how)
        return self.how == signal.SIGKILL

    def _broken(self, identity: str) -> str | None:
        specifications = self.instances.get(identity, {}).get("TagSpecifications", [])
        names = {tag["Value"] for each in specifications for tag in each["Tags"] if tag["Key"] == "Name"}
        return next((said for name, said in self.broken.items() if name in names), None)

    def _forward(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        parts = urlsplit(self.behind)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        try:
            kept = {key: value for key, value in headers.items() if key.lower() not in ("host", "content-length")}
            connection.request("POST", "/", body, kept)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _ask(self, action: str, headers: dict[str, str], **fields: str) -> ElementTree.Element:
        """A request of our own to what is behind."""
        body = urlencode({"Action": action, "Version": "2016-11-15", **fields}).encode()
        status, raw = self._forward(body, headers)
        assert status == 200, raw
        return ElementTree.fromstring(raw)

    def _once(self, request: Request, make: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        """By client token: the same answer again, or a refusal of another request."""
        token = request.parameters.get("ClientToken")
        if not token or len(token) > 64:
            self.breaches.append(f"{request.action} without a client token, or too long a one")
            raise Refused("InvalidParameterValue")
        said = json.dumps(request.parameters, sort_keys=True)
        if (request.action, token) in self._tokens:
            before, answer = self._tokens[request.action, token]
            if before != said:
                raise Refused("IdempotentParameterMismatch")
            return 200, answer
        status, answer = make()
        if status == 200:
            self._tokens[request.action, token] = (said, answer)
        return status, answer

    def _new(self, identity: str) -> None:
        if self.hide:
            self._hidden[identity] = self.hide

    def _shown(self, answer: tuple[int, bytes]) -> tuple[int, bytes]:
        """Without what is too new to be listed."""
        status, raw = answer
        hidden = [identity for identity, left in self._hidden.items() if left and identity.encode() in raw]
        if status != 200 or not hidden:
            return answer
        for identity in hidden:
            self._hidden[identity] -= 1
        root = ElementTree.fromstring(raw)
        parents = {child: parent for parent in root.iter() for child in parent}
        for identity in hidden:
            for element in list(root.iter()):
                if element.text == identity and element.tag.endswith(("}imageId", "}instanceId")):
                    item = parents[element]
                    if item in parents:
                        with contextlib.suppress(ValueError):
                            parents[item].remove(item)
        return status, ElementTree.tostring(root)

    # images

    def _RegisterImage(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        said = request.parameters
        if any(image["Name"] == said["Name"] for image in self.images.values()):
            raise Refused("InvalidAMIName.Duplicate")
        devices = [each["DeviceName"] for each in said["BlockDeviceMappings"]]
        if said.get("Architecture") not in ("x86_64", "arm64") or not said.get("EnaSupport"):
            self.breaches.append("an image without its architecture, or without ENA")
        if said.get("RootDeviceName") not in devices or len(set(devices)) != len(devices):
            self.breaches.append(f"the root device is none of {devices}")
        if said.get("ImdsSupport", "v2.0") != "v2.0":
            raise Refused("InvalidParameterValue", message=f"Value ({said['ImdsSupport']}) for imdsSupport is invalid.")
        for each in said["BlockDeviceMappings"]:
            snapshot = each["Ebs"]["SnapshotId"]
            try:
                found = self._ask("DescribeSnapshots", headers, **{"SnapshotId.1": snapshot})
            except AssertionError:
                raise Refused("InvalidSnapshot.NotFound") from None
            if found.findtext(".//{*}status") != "completed":
                self.breaches.append(f"an image of {snapshot}, which is not completed")
        answer = self._ask("RegisterImage", headers, Name=said["Name"], Architecture=said["Architecture"])
        image_id = answer.findtext(".//{*}imageId")
        assert image_id
        self.images[image_id] = said
        self._new(image_id)
        if self.protects:
            self.protected.add(image_id)
        return 200, ElementTree.tostring(answer)

    def _DescribeImages(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if request.parameters.get("Owners") != ["self"]:
            self.breaches.append("images of others were asked for")
        items = ""
        for image_id, said in self.images.items():
            tags = {tag["Key"]: tag["Value"] for each in said.get("TagSpecifications", []) for tag in each["Tags"]}
            of = {"image-id": image_id, "name": said["Name"], **{f"tag:{key}": value for key, value in tags.items()}}
            if not all(of.get(each["Name"]) in each["Values"] for each in request.parameters.get("Filters", [])):
                continue
            mappings = "".join(
                f"<item><deviceName>{each['DeviceName']}</deviceName><ebs><snapshotId>{each['Ebs']['SnapshotId']}"
                "</snapshotId></ebs></item>"
                for each in said["BlockDeviceMappings"]
            )
            items += (
                f"<item><imageId>{image_id}</imageId><name>{escape(said['Name'])}</name><imageState>"
                f"{said.get('State', 'available')}"
                f"</imageState><rootDeviceName>{said.get('RootDeviceName', '/dev/sda1')}</rootDeviceName>"
                f"<blockDeviceMapping>{mappings}</blockDeviceMapping><tagSet>{_tag_set(tags)}</tagSet></item>"
            )
        return self._shown((200, _xml("DescribeImages", f"<imagesSet>{items}</imagesSet>")))

    def _DescribeInstanceTypes(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        key = json.dumps([request.action, request.parameters], sort_keys=True)
        if key not in _TYPES:
            _TYPES[key] = self._forward(body, headers)
        return _TYPES[key]

    _DescribeInstanceTypeOfferings = _DescribeInstanceTypes

    def _DeregisterImage(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        image = request.parameters["ImageId"]
        if image in self.protected:
            raise Refused("OperationNotPermitted", message=f"The image {image} is protected from deregistration.")
        if self.images.pop(image, None) is None:
            raise Refused("InvalidAMIID.Unavailable")
        return self._forward(body, headers)

    def _DisableImageDeregistrationProtection(
        self, request: Request, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        self.protected.remove(request.parameters["ImageId"])
        return 200, _xml("DisableImageDeregistrationProtection", "<return>disabled</return>")

    def _DeleteSnapshot(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        snapshot = request.parameters["SnapshotId"]
        for image, said in self.images.items():
            if any(each["Ebs"]["SnapshotId"] == snapshot for each in said["BlockDeviceMappings"]):
                message = f"The snapshot {snapshot} is currently in use by {image}"
                raise Refused("InvalidSnapshot.InUse", message=message)
        return self._forward(body, headers)

    def _CreateTags(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        return 200, _xml("CreateTags", "<return>true</return>")

    def _DeleteTags(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Of volumes, which are this stand-in's own."""
        for each in request.parameters["Resources"]:
            for tag in request.parameters["Tags"]:
                self.volumes[each]["tags"].pop(tag["Key"], None)
        return 200, _xml("DeleteTags", "<return>true</return>")

    # instances

    def _RunInstances(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        def make() -> tuple[int, bytes]:
            said = request.parameters
            image = self.images.get(said["ImageId"])
            if image is None:
                raise Refused("InvalidAMIID.NotFound")
            if (said["MinCount"], said["MaxCount"]) != (1, 1):
                self.breaches.append("more than one instance was asked for")
            self._metadata(said, request.tags("instance"))
            self._volumes(image, said)
            mapped = {each["DeviceName"] for each in image["BlockDeviceMappings"]}
            if not {each["DeviceName"] for each in said.get("BlockDeviceMappings", [])} <= mapped:
                self.breaches.append("an instance with devices that its image has not")
            # moto knows no volumes of images and wants each mapping to say more than AWS does.
            kept = [(key, value) for key, value in parse_qsl(body.decode()) if not key.startswith("BlockDeviceMapping")]
            status, raw = self._forward(urlencode(kept).encode(), headers)
            if status >= 500:  # moto's way to say that a fixed address is taken
                raise Refused("InvalidIPAddress.InUse")
            if status == 200:
                instance = ElementTree.fromstring(raw).findtext(".//{*}instanceId")
                assert instance
                self.instances[instance] = said
                self._new(instance)
                ends = {each["DeviceName"]: each["Ebs"]["DeleteOnTermination"] for each in said["BlockDeviceMappings"]}
                for number, each in enumerate(image["BlockDeviceMappings"]):
                    digest = hashlib.sha256(f"{instance} {number}".encode()).hexdigest()
                    self.volumes[f"vol-{digest[:17]}"] = {
                        **each,
                        "instance": instance,
                        "tags": request.tags("volume"),
                        "ends": ends.get(each["DeviceName"], each["Ebs"].get("DeleteOnTermination", True)),
                    }
                if self.deaths:
                    self._died[instance] = self.deaths.pop(0)
                    self._end(
                        [instance],
                        urlencode({**_PLAIN, "Action": "TerminateInstances", "InstanceId.1": instance}).encode(),
                        headers,
                    )
            return status, raw

        return self._once(request, make)

    def _volumes(self, image: Json, said: Json) -> None:
        """What AWS demands of the volumes of an instance."""
        given = {each["DeviceName"]: each["Ebs"] for each in said.get("BlockDeviceMappings", [])}
        for each in image["BlockDeviceMappings"]:
            ebs = {**each["Ebs"], **given.get(each["DeviceName"], {})}
            kind, gib = ebs.get("VolumeType", "gp2"), ebs["VolumeSize"]
            least, most, iops, ratio = _VOLUMES[kind]
            if not least <= gib <= most:
                bound = f"Maximum is {most}" if gib > most else f"Minimum is {least}"
                raise Refused("InvalidParameterValue", message=f"Invalid volume size: {gib}. {bound}")
            if kind in ("st1", "sc1") and each["DeviceName"] == image.get("RootDeviceName"):
                raise Refused("InvalidParameterValue", message=f"Volume type {kind} can't be used as a boot volume")
            asked = ebs.get("Iops")
            if asked is not None and not iops:
                message = f"The parameter iops is not supported for {kind} volumes."
                raise Refused("InvalidParameterCombination", message=message)
            if kind in ("io1", "io2") and asked is None:
                raise Refused("MissingParameter", message="The request must contain the parameter iops")
            if asked is not None and not iops[0] <= asked <= iops[1]:
                raise Refused("InvalidParameterValue", message=f"Volume iops of {asked} is too high or too low")
            if asked is not None and asked > max(ratio * gib, iops[0]):
                message = f"Iops to volume size ratio of {asked / gib:f} is too high; maximum is {ratio:f}"
                raise Refused("InvalidParameterValue", message=message)
            if (rate := ebs.get("Throughput")) is not None:
                if kind != "gp3":
                    message = f"The parameter throughput is not supported for {kind} volumes."
                    raise Refused("InvalidParameterCombination", message=message)
                per = rate / (asked or 3000)
                if not 125 <= rate <= 2000 or per > 0.25:
                    message = f"Throughput (MiBps) to iops ratio of {per:f} is too high; maximum is 0.25"
                    raise Refused("InvalidParameterValue", message=message)

    def _metadata(self, said: Json, tags: dict[str, str]) -> None:
        """What AWS demands of the metadata service, and of tags that it tells."""
        options = said.get("MetadataOptions", {})
        missing = {"HttpEndpoint", "HttpTokens", "HttpPutResponseHopLimit", "InstanceMetadataTags"} - options.keys()
        if missing:
            self.breaches.append(f"it is left to the account what {missing} of an instance is")
        tokens, told = options.get("HttpTokens"), options.get("InstanceMetadataTags")
        hops = options.get("HttpPutResponseHopLimit", 1)
        if tokens not in ("required", "optional") or told not in ("enabled", "disabled") or not 1 <= hops <= 64:
            raise Refused("InvalidParameterValue", message="Value for a metadata option is invalid.")
        if self.tokens_enforced and tokens != "required":
            raise Refused(
                "UnsupportedOperation",
                message=(
                    "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account. "
                    "Either launch the instance with httpTokens=required or contact your account owner."
                ),
            )
        for key in tags if told == "enabled" else ():
            if not re.fullmatch(r"[0-9a-zA-Z\-_+=,.@:]{1,255}", key) or key in (".", "..", "_index"):
                raise Refused(
                    "InvalidParameterValue",
                    message=(
                        f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]"
                        "{1,255}), and must not be a reserved name ('.', '..', '_index')"
                    ),
                )

    def _DescribeInstances(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        status, raw = self._forward(body, headers)
        root = ElementTree.fromstring(raw)
        for each in root.iterfind(".//{*}instancesSet/{*}item"):
            if each.findtext("{*}instanceState/{*}name") == "running":
                self._ran.add(each.findtext("{*}instanceId") or "")
            code = each.find("{*}stateReason/{*}code")
            if code is not None and code.text == "Client.UserInitiatedShutdown":
                code.text = self._died.get(each.findtext("{*}instanceId") or "", self.reason)
                message = each.find("{*}stateReason/{*}message")
                assert message is not None
                message.text = f"{code.text}: why it ended"
        return self._shown((status, ElementTree.tostring(root)))

    def _TerminateInstances(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        return self._end(request.parameters["InstanceIds"], body, headers)

    def _end(self, gone: list[str], body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        status, raw = self._forward(body, headers)
        if status == 200:
            kept = {key: each for key, each in self.volumes.items() if each["instance"] not in gone or not each["ends"]}
            self.volumes = kept
        elif set(gone) <= self.instances.keys():  # ended before: AWS says yes again, moto does not
            return 200, _xml("TerminateInstances", "<instancesSet/>")
        return status, raw

    def _DescribeInstanceStatus(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        status, raw = self._forward(body, headers)
        if self.checks:
            assert b">ok<" in raw or status != 200 or b">running<" not in raw
            now = self.checks.pop(0) if len(self.checks) > 1 else self.checks[0]
            raw = raw.replace(b">ok<", f">{now}<".encode())
        elif any(self._broken(identity) is not None for identity in request.parameters.get("InstanceIds", [])):
            raw = raw.replace(b">ok<", b">initializing<")
        return status, raw

    def _GetConsoleOutput(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        latest = request.parameters.get("Latest") is True
        if latest and not self.nitro:
            raise Refused("UnsupportedOperation")
        if not latest and self.nitro:
            self.breaches.append("output of the console was asked for that is up to an hour old")
        said = (self.console.pop(0) if len(self.console) > 1 else self.console[0]) if self.console else ""
        said = self._broken(request.parameters["InstanceId"]) or said
        inner = f"<instanceId>{request.parameters['InstanceId']}</instanceId>"
        output = base64.b64encode(said.encode()).decode()
        return 200, _xml("GetConsoleOutput", inner + (f"<output>{output}</output>" if output else ""))

    def _GetConsoleScreenshot(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        picture = base64.b64encode(b"\xff\xd8\xff a screen").decode()
        inner = f"<instanceId>{request.parameters['InstanceId']}</instanceId><imageData>{picture}</imageData>"
        return 200, _xml("GetConsoleScreenshot", inner)

    # volumes, and snapshots of them

    def _DescribeVolumes(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        wanted = {each["Name"].removeprefix("tag:"): each["Values"] for each in request.parameters.get("Filters", [])}
        items = ""
        for volume_id, each in self.volumes.items():
            if all(each["tags"].get(key) in values for key, values in wanted.items()):
                ebs = each["Ebs"]
                items += (
                    f"<item><volumeId>{volume_id}</volumeId><size>{ebs['VolumeSize']}</size>"
                    f"<snapshotId>{ebs['SnapshotId']}</snapshotId><attachmentSet><item><device>{each['DeviceName']}"
                    f"</device><instanceId>{each['instance']}</instanceId></item></attachmentSet>"
                    f"<tagSet>{_tag_set(each['tags'])}</tagSet></item>"
                )
        return 200, _xml("DescribeVolumes", f"<volumeSet>{items}</volumeSet>")

    def _DeleteVolume(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        found = self.volumes.get(request.parameters["VolumeId"])
        if found is None:
            raise Refused("InvalidVolume.NotFound")
        if found["instance"] in self._ran:
            self.breaches.append(f"a volume of {found['instance']}, which ran, was to be deleted")
            raise Refused("VolumeInUse")
        seen = self._ask("DescribeInstances", headers, **{"InstanceId.1": found["instance"]})
        if seen.findtext(".//{*}instanceState/{*}name") != "terminated":
            raise Refused("VolumeInUse")
        del self.volumes[request.parameters["VolumeId"]]
        return 200, _xml("DeleteVolume", "<return>true</return>")

    make_return: Callable[[str, Json, dict[str, str]], str] | None = None

    def _CreateSnapshot(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        volume_id = request.parameters["VolumeId"]
        if volume_id not in self.volumes:
            raise Refused("InvalidVolume.NotFound")
        assert self.make_return
        snapshot = self.make_return(volume_id, self.volumes[volume_id], request.tags("snapshot"))
        return 200, _xml("CreateSnapshot", f"<snapshotId>{snapshot}</snapshotId><status>pending</status>")

    # VM Import

    def _ImportImage(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        def make() -> tuple[int, bytes]:
            task = f"import-ami-{next(self._numbers):017x}"
            tags, messages = request.tags("import-image-task"), list(self.import_messages)
            self.tasks[task] = {**request.parameters, "tags": tags, "seen": 0, "messages": messages}
            self._new(task)
            return 200, _xml("ImportImage", f"<importTaskId>{task}</importTaskId><status>active</status>")

        return self._once(request, make)

    def _DescribeImportImageTasks(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        said = request.parameters
        items = ""
        for task_id, task in self.tasks.items():
            filters = {each["Name"].removeprefix("tag:"): each["Values"] for each in said.get("Filters", [])}
            if task_id not in said.get("ImportTaskIds", [task_id]):
                continue
            if not all(task["tags"].get(key) in values for key, values in filters.items()):
                continue
            if "ImportTaskIds" not in said and self._hidden.get(task_id):  # too new to be listed
                self._hidden[task_id] -= 1
                continue
            seen = min(task["seen"], len(task["messages"]) - 1)
            status, message, progress = task["messages"][seen]
            task["seen"] += 1 if "ImportTaskIds" in said else 0
            if status == "completed" and "image" not in task and message != "no image":
                name = f"imported {task_id}"
                answer = self._ask("RegisterImage", headers, Name=name, Architecture=task["Architecture"])
                task["image"] = answer.findtext(".//{*}imageId")
                mapping = [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-imported", "VolumeSize": 1}}]
                self.images[task["image"]] = {"Name": name, "BlockDeviceMappings": mapping}
            items += (
                f"<item><importTaskId>{task_id}</importTaskId><status>{status}</status><progress>{progress}</progress>"
                f"<statusMessage>{escape(message)}</statusMessage><imageId>{task.get('image', '')}</imageId></item>"
            )
        return 200, _xml("DescribeImportImageTasks", f"<importImageTaskSet>{items}</importImageTaskSet>")


def _xml(action: str, inner: str) -> bytes:
    return f"<{action}Response xmlns='{NS}'><requestId>1</requestId>{inner}</{action}Response>".encode()


def _tag_set(tags: dict[str, str]) -> str:
    return "".join(
        f"<item><key>{escape(key)}</key><value>{escape(value)}</value></item>" for key, value in tags.items()
    )


def _error(error: Refused) -> tuple[int, bytes]:
    said = f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
    return error.status, f"<Response><Errors><Error>{said}</Error></Errors><RequestID>1</RequestID></Response>".encode()


@contextlib.contextmanager
def serving(front: Front) -> Iterator[str]:
    """Serve in threads of this process; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = front.handle(body, dict(self.headers))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that was killed is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="ec2 front", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
