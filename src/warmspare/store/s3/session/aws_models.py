"""What the AWS library knows of services, read once a process: megabytes of JSON, the same for each client.

Settings, credentials, hooks and connections stay each session's own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from aiobotocore.session import AioSession
from botocore import loaders


def session_for(profile: str | None) -> AioSession:
    """A session of the AWS library. profile: where the environment is not to decide."""
    session = AioSession(profile=profile)
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Any:
    """data_path: where AWS_DATA_PATH says that there are more models."""
    return loaders.create_loader(data_path)
