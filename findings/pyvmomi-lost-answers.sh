#!/bin/sh
# pyVmomi 9.1.1.0: what a stub makes of HTTP answers that are not the call's.
#   - a web page: the call gives None, where the API promises an object
#   - the answer to another call, as after a mix-up by something between: taken for this one's; RemoveSnapshot's task for
#     CreateSnapshot's
#   - a SOAP fault with status 200: returned as the call's value, not raised
#   - a page with a Set-Cookie: its cookie takes the place of vCenter's session
#   - a stub made without a version (it is 5.5's then): a VirtualNVMEController is given as a plain VirtualController, a
#     VirtualTPM as a VirtualDevice, without a word; one with the library's newest version gives what they are
#   - an unknown value of an enumeration, in a list of VMs: AttributeError for the whole list; one that is named as a
#     method of Python's texts ("title"): TypeError
#   - a required field that is not there: 0 or "", as if it had been told
#
# Seen on 2026-11-30 with pyvmomi 9.1.1.0 and Python 3.11.7:
#   page: NoneType; another call's: task-7; fault with 200: NotFound
#   cookie after the page: theirs=1
#   without a version: VirtualController VirtualDevice; newest: VirtualNVMEController VirtualTPM
#   unknown value: AttributeError; 'title': TypeError; length that is not there: 0
#
# Needs Python with venv and pip; a server of its own answers on loopback. Exits with 0 if it is still so, with 1 if not.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check pyvmomi==9.1.1.0
"$here/venv/bin/python" - <<'PYTHON'
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from pyVmomi import SoapStubAdapter, vim
from pyVmomi.VmomiSupport import GetServiceVersions

body, headers = b"", {}


class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Answers)
threading.Thread(target=server.serve_forever, daemon=True).start()


def soap(inner):
    return (
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>' + inner + "</soapenv:Body></soapenv:Envelope>"
    ).encode()


def content(stub):
    return vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()


def ask(answer, call=None, version="newest", **more):
    """What a call gives: an answer or what it raised. The stub that was used."""
    global body, headers
    body, headers = answer, more
    known = {"version": GetServiceVersions("vim25")[0]} if version else {}
    stub = SoapStubAdapter("127.0.0.1", -server.server_port, **known)
    try:
        return (call or content)(stub), stub
    except Exception as error:
        return error, stub


def kind(value):
    return type(value).__name__.rpartition(".")[2]


def create(stub):
    return vim.VirtualMachine("vm-1", stub).CreateSnapshot_Task(name="s", memory=False, quiesce=False)


page, stub = ask(b"<html><head><title>Bad Gateway</title></head></html>", **{"Set-Cookie": "theirs=1"})
other = ask(soap(
    '<RemoveSnapshot_TaskResponse xmlns="urn:vim25"><returnval type="Task">task-7</returnval></RemoveSnapshot_TaskResponse>'
), create)[0]._GetMoId()
fault, _ = ask(soap(
    "<soapenv:Fault><faultcode>f</faultcode><faultstring>no</faultstring><detail>"
    '<NotFoundFault xmlns="urn:vim25" xsi:type="NotFound"/></detail></soapenv:Fault>'
))
found = [kind(page), other, kind(fault), stub.cookie]
print(f"page: {kind(page)}; another call's: {other}; fault with 200: {kind(fault)}")
print(f"cookie after the page: {stub.cookie}")


def devices(stub):
    return vim.VirtualMachine("vm-1", stub).config.hardware.device


def powers(stub):
    return vim.VirtualMachine("vm-1", stub).runtime.powerState


def areas(stub):
    snapshot = vim.vm.Snapshot("s-1", stub)
    return vim.VirtualMachine("vm-1", stub).QueryChangedDiskAreas(snapshot, 2000, 0, "*").length


config = soap(
    '<FetchResponse xmlns="urn:vim25"><returnval xsi:type="VirtualMachineConfigInfo"><hardware><device '
    'xsi:type="VirtualNVMEController"><key>31000</key><busNumber>0</busNumber></device><device xsi:type="VirtualTPM">'
    "<key>11000</key></device></hardware></returnval></FetchResponse>"
)
bare, full = ask(config, devices, version="")[0], ask(config, devices)[0]
found += [kind(one) for one in (*bare, *full)]
print(f"without a version: {' '.join(map(kind, bare))}; newest: {' '.join(map(kind, full))}")
runtime = (
    '<FetchResponse xmlns="urn:vim25"><returnval xsi:type="VirtualMachineRuntimeInfo"><powerState>{}</powerState>'
    "</returnval></FetchResponse>"
)
unknown, title = ask(soap(runtime.format("hibernating")), powers)[0], ask(soap(runtime.format("title")), powers)[0]
length = ask(soap(
    '<QueryChangedDiskAreasResponse xmlns="urn:vim25"><returnval><startOffset>0</startOffset></returnval>'
    "</QueryChangedDiskAreasResponse>"
), areas)[0]
found += [kind(unknown), kind(title), length]
print(f"unknown value: {kind(unknown)}; 'title': {kind(title)}; length that is not there: {length}")
sys.exit(found != [
    "NoneType", "task-7", "NotFound", "theirs=1", "VirtualController", "VirtualDevice",
    "VirtualNVMEController", "VirtualTPM", "AttributeError", "TypeError", 0,
])
PYTHON
