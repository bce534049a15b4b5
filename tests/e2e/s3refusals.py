"""An S3 that refuses what it is told to, in front of whatever a test's client talks to; counts all requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiobotocore.client import AioBaseClient
from botocore.exceptions import ClientError

DELETES = ("DeleteObjects", "DeleteObject")  # a client may try the one for the other


class Refusals:
    """By operation: what is refused, with code and status; or, of DeleteObjects, which keys are."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._refused: dict[str, tuple[str, int, Callable[[str], bool]]] = {}

    def refuse(
        self,
        *operations: str,
        code: str = "AccessDenied",
        status: int = 403,
        keys: Callable[[str], bool] = lambda key: True,
    ) -> None:
        for operation in operations:
            self._refused[operation] = (code, status, keys)

    def allow(self) -> None:
        self._refused.clear()

    def answer(self, operation: str, said: dict[str, Any]) -> list[dict[str, str]]:
        """Errors of single keys; ClientError where all of it is refused."""
        self.asked[operation] += 1
        code, status, keys = self._refused.get(operation, ("", 0, lambda key: False))
        if operation == "DeleteObjects" and status == 200:
            names = [each["Key"] for each in said["Delete"]["Objects"] if keys(each["Key"])]
            said["Delete"] = {
                **said["Delete"],
                "Objects": [each for each in said["Delete"]["Objects"] if each["Key"] not in names],
            }
            return [{"Key": name, "Code": code, "Message": code} for name in names]
        if code and keys(str(said.get("Key", ""))):
            answer: Any = {
                "Error": {"Code": code, "Message": "not here"},
                "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
            }
            raise ClientError(answer, operation)
        return []


def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """From now on, in this process; nothing is refused yet."""
    refusals, send = Refusals(), AioBaseClient._make_api_call

    async def sending(self: Any, operation: str, said: dict[str, Any]) -> Any:
        if self.meta.service_model.service_name != "s3":
            return await send(self, operation, said)
        errors = refusals.answer(operation, said)
        if errors and not said["Delete"]["Objects"]:
            return {"Errors": errors, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}
        answer = await send(self, operation, said)
        return {**answer, "Errors": [*answer.get("Errors", []), *errors]} if errors else answer

    monkeypatch.setattr(AioBaseClient, "_make_api_call", sending)
    return refusals
