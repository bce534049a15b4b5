"""One call over HTTP: owns the connections to a vCenter's SOAP API and the version of it that both sides speak; what an
answer means is `answers`' business, and trying again the session's."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import weakref
from http.cookies import CookieError, SimpleCookie
from typing import Any

from pyVmomi import SoapStubAdapter, VmomiSupport, vmodl

from warmspare.version import __version__
from warmspare.vsphere.api import garbled, soap
from warmspare.vsphere.api.garbled import GarbledError
from warmspare.vsphere.api.oddities import NotUnderstoodError

OLDEST = "vim.version.version11"  # 6.5: every server from it on speaks it, and it has all that is used here
VERSIONS = "/sdk/vimServiceVersions.xml"
_SESSION = "vmware_soap_session"
_NAMESPACE = re.compile(rb"<namespace>\s*<name>\s*urn:vim25\s*</name>")
_VERSION = re.compile(rb"<version>\s*([\w.]{1,40})\s*</version>")


class Stub(SoapStubAdapter):  # type: ignore[misc]
    """pyVmomi's adapter with answers read by `answers`; it knows the connections in use, so that they can be cut.

    connect_s, call_s, answer_s: for a connection, for an answer or more of it, and for all of it. assumed: whether the
    server has not said which versions of the API it speaks, so that the oldest is taken; see `negotiate`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        *,
        connect_s: float,
        call_s: float,
        answer_s: float,
        pool: int,
    ) -> None:
        super().__init__(host, port, version=OLDEST, sslContext=context, httpConnectionTimeout=connect_s, poolSize=pool)
        self.assumed = True
        self._call_s, self._answer_s = call_s, answer_s
        self._in_use: weakref.WeakSet[Any] = weakref.WeakSet()

    def negotiate(self) -> None:
        """Speak the newest version of the API that the server and pyVmomi know. Raises as a call does.

        A server tells a client of an older version only what that one knew: a newer device is its nearest relative
        then.
        """
        connection = self.GetConnection()
        try:
            connection.request("GET", VERSIONS, headers={"User-Agent": f"warmspare/{__version__}"})
            with garbled.within(connection, self._answer_s):
                response = connection.getresponse()
                body = garbled.whole(response)
            if response.status not in (200, 401, 403, 404):
                raise garbled.refused(response, body)
            if response.status == 200 and (b"<namespaces" not in body[:1024] or b"</namespaces>" not in body):
                raise garbled.instead(response.status, body)
        except (OSError, http.client.HTTPException, GarbledError):
            connection.close()
            raise
        self.ReturnConnection(connection)
        spoken = spoken_in(body)
        known = VmomiSupport.GetServiceVersions("vim25")  # newest first
        if version := next((one for one in known if VmomiSupport.versionIdMap[one] in spoken), ""):
            self.ComputeVersionInfo(version)
            self.assumed = False

    def InvokeMethod(self, mo: Any, info: Any, args: Any, outerStub: Any = None) -> Any:
        """The call's result, its fault raised. GarbledError where the answer was lost, OSError and HTTPException."""
        headers = {
            "Cookie": self.cookie,
            "SOAPAction": self.versionId,
            "Content-Type": "text/xml; charset=utf-8",
            "User-Agent": f"warmspare/{__version__}",
            "Accept-Encoding": "gzip, deflate",
        }
        request = self.SerializeRequest(mo, info, args)
        secrets = (self.cookie.partition("=")[2].strip('"'), *(args[1:2] if info.wsdlName == "Login" else ()))
        connection = self.GetConnection()
        try:
            connection.request("POST", self.path, request, headers)
            with garbled.within(connection, self._answer_s):
                response = connection.getresponse()
                body = garbled.whole(response)
            if response.status not in (200, 500):
                raise garbled.refused(response, body, secrets)
            try:
                result = soap.read(body, response.status, info, self, secrets)
            except (vmodl.MethodFault, NotUnderstoodError):
                self.ReturnConnection(connection)
                raise
        except (OSError, http.client.HTTPException, GarbledError):
            connection.close()  # whatever else comes on it answers nothing
            self.DropConnections()
            raise
        self._keep_session(response)
        self.ReturnConnection(connection)
        return result

    def _keep_session(self, response: http.client.HTTPResponse) -> None:
        """vCenter's own cookie; those of whoever stands between are not ours to mix up with it."""
        for header in response.headers.get_all("Set-Cookie") or ():
            with contextlib.suppress(CookieError):
                if found := SimpleCookie(header).get(_SESSION):
                    self.cookie = f"{_SESSION}={found.coded_value}"

    def GetConnection(self) -> Any:
        connection = super().GetConnection()
        connection.sock.settimeout(self._call_s)
        self._in_use.add(connection)
        return connection

    def ReturnConnection(self, connection: Any) -> None:
        self._in_use.discard(connection)
        if connection.sock is not None:  # as it is where the server, or a proxy, keeps none
            super().ReturnConnection(connection)

    def cut(self) -> None:
        """End every connection, whatever a thread waits for on it."""
        for connection in list(self._in_use):
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        self.DropConnections()


def spoken_in(body: bytes) -> set[str]:
    """The versions of its API that a server lists."""
    return {
        version.decode()
        for of in body.split(b"</namespace>")
        if (begins := _NAMESPACE.search(of))
        for version in _VERSION.findall(of, begins.end())
    }
