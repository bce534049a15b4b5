"""What AWS clients are made from, read and built once a process: megabytes of JSON, hundreds of methods, the
certificates of all authorities. They are the same for each client, and a test makes several.

Settings, credentials, hooks and connections stay each client's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from aiobotocore.client import AioClientCreator
from aiobotocore.httpsession import AIOHTTPSession
from botocore.client import ClientCreator
from botocore.hooks import EVENT_ALIASES, EventAliaser
from botocore.httpsession import get_cert_path


def share(patch: pytest.MonkeyPatch) -> None:
    """For all clients from now on."""
    _share_models(patch)
    _share_classes(patch)
    _share_names(patch)
    _share_certificates(patch)


def _share_models(patch: pytest.MonkeyPatch) -> None:
    loader = botocore.loaders.create_loader()
    models: dict[tuple[str, str | None], Any] = {}
    load = ClientCreator._load_service_model

    def register(session: botocore.session.Session) -> None:
        session.register_component("data_loader", loader)

    def model(creator: Any, service: str, version: str | None = None) -> Any:
        key = (service, version)
        if key not in models:
            models[key] = load(creator, service, version)
        return models[key]

    patch.setattr(botocore.session.Session, "_register_data_loader", register)
    patch.setattr(ClientCreator, "_load_service_model", model)


def _share_classes(patch: pytest.MonkeyPatch) -> None:
    classes: dict[str, Any] = {}
    classes_async: dict[str, Any] = {}
    build, build_async = ClientCreator._create_client_class, AioClientCreator._create_client_class

    def built(creator: Any, service: str, model: Any) -> Any:
        if service not in classes:
            classes[service] = build(creator, service, model)
        return classes[service]

    async def built_async(creator: Any, service: str, model: Any) -> Any:
        if service not in classes_async:
            classes_async[service] = await build_async(creator, service, model)
        return classes_async[service]

    patch.setattr(ClientCreator, "_create_client_class", built)
    patch.setattr(AioClientCreator, "_create_client_class", built_async)


def _share_names(patch: pytest.MonkeyPatch) -> None:
    """Of the events that hooks are for: what each is called by the service's ID."""
    names: dict[str, str] = {}
    make = EventAliaser.__init__

    def made(aliaser: Any, emitter: Any, event_aliases: Any = None) -> None:
        make(aliaser, emitter, event_aliases)
        if aliaser._event_aliases == EVENT_ALIASES:
            aliaser._alias_name_cache = names

    patch.setattr(EventAliaser, "__init__", made)


def _share_certificates(patch: pytest.MonkeyPatch) -> None:
    """Of authorities, for clients that have none of their own."""
    contexts: dict[tuple[str, int, int], Any] = {}
    build = AIOHTTPSession._build_ssl_contexts

    def built(session: Any, proxy_url: str | None) -> Any:
        if not session._verify or session._cert_file or proxy_url:
            return build(session, proxy_url)
        authorities = get_cert_path(session._verify)
        stat = Path(authorities).stat() if Path(authorities).is_file() else None
        if stat is None:
            return build(session, proxy_url)
        key = (authorities, stat.st_mtime_ns, stat.st_ino)
        if key not in contexts:
            contexts[key] = build(session, proxy_url)
        return contexts[key]

    patch.setattr(AIOHTTPSession, "_build_ssl_contexts", built)
