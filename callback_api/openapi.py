"""The OpenAPI description of the door; its routes are plain ASGI, so nothing derives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callback_api.responses import PROBLEM_TYPE, PROBLEMS, MethodNotAllowedError, TooSlowError
from callback_api.returns import RETURN_PATHS
from callback_api.routes import CALLBACK_PATHS
from shared.errors import (
    NotProvenError,
    SpoolUnavailableError,
    TooLargeError,
    UnknownProviderError,
    UnusableBodyError,
)
from shared.providers import AnyProvider
from shared.providers._base import ReturnSettings

_SCHEMAS: dict[str, Any] = {
    "Accepted": {
        "type": "object",
        "description": "Our words for a stored callback; a provider that wants others gets those.",
        "required": ["status", "id"],
        "properties": {
            "status": {"type": "string", "const": "accepted"},
            "id": {"type": "string", "format": "uuid", "description": "receipt id, a UUID version 7"},
        },
    },
    "Status": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "enum": ["alive", "ready"]}},
    },
    "Problem": {
        "type": "object",
        "description": "Problem details, RFC 9457.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "one line that says what is wrong"},
        },
    },
}


def describe(providers: Mapping[str, AnyProvider], max_body_bytes: int) -> dict[str, Any]:
    """The document that `/openapi.json` serves."""
    paths: dict[str, Any] = {}
    for path in CALLBACK_PATHS:
        place = "callback" if path == CALLBACK_PATHS[0] else "callback_prefixed"
        parameter = _provider_parameter("Who sends the callback", sorted(providers))
        paths[path] = {
            "post": _callback(place, parameter, max_body_bytes),
            "get": _handshake(f"{place}_handshake", parameter),
            "head": _handshake(f"{place}_probe", parameter, content=False),
        }
    returning = sorted(
        name for name, provider in providers.items() if isinstance(provider.settings, ReturnSettings)
    )
    for path in RETURN_PATHS if returning else ():
        place = "return" if path == RETURN_PATHS[0] else "return_prefixed"
        paths[path] = {
            "get": _return(place, returning),
            "head": _return(f"{place}_probe", returning),
        }
    paths["/healthz"] = {"get": _health("healthz", "The process lives")}
    paths["/readyz"] = {
        "get": _health("readyz", "A callback can be stored now", SpoolUnavailableError),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "signspool callback API",
            "version": "1",
            "description": "Takes the callbacks of e-signature providers; a 200 means that it is on disk.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }


def _return(operation_id: str, names: list[str]) -> dict[str, Any]:
    words = {"text/html": {"schema": {"type": "string"}}}
    page = {
        "name": "page",
        "in": "query",
        "required": False,
        "description": "Name of one of the pages that the settings list; the usual one without it.",
        "schema": {"type": "string"},
    }
    return {
        "operationId": operation_id,
        "summary": "Take a browser that comes back from the provider's pages",
        "description": "It proves nothing: the provider is asked. Further parameters are those of the "
        "provider, and your own, which are passed on to the page.",
        "parameters": [_provider_parameter("From whom the browser comes", names), page],
        "responses": {
            "200": {"description": "No page is configured: a few words", "content": words},
            "303": {
                "description": "On to the page of your application",
                "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
            },
            "503": {"description": "Cannot be stored now: a few words", "content": words},
            **_problems(UnknownProviderError),
        },
    }


def _provider_parameter(whose: str, names: list[str]) -> dict[str, Any]:
    return {
        "name": "provider",
        "in": "query",
        "required": True,
        "description": f"{whose}; the first of several counts.",
        "schema": {"type": "string", "enum": names},
    }


def _callback(operation_id: str, parameter: dict[str, Any], max_body_bytes: int) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": "Store a callback",
        "description": "The provider's settings say in which header or query parameter the secret comes.",
        "parameters": [parameter],
        "requestBody": {
            "required": True,
            "description": f"What the provider sends, up to {max_body_bytes} bytes. JSON is read "
            "whatever the Content-Type says.",
            "content": {"application/json": {"schema": {"type": "object"}}, "*/*": {"schema": {}}},
        },
        "responses": {
            "200": _success("The callback is on disk", "Accepted"),
            **_problems(
                UnknownProviderError,
                NotProvenError,
                MethodNotAllowedError,
                TooSlowError,
                TooLargeError,
                UnusableBodyError,
                SpoolUnavailableError,
            ),
        },
    }


def _handshake(operation_id: str, parameter: dict[str, Any], *, content: bool = True) -> dict[str, Any]:
    success = (
        _success("The address is right", "Status") if content else {"description": "The address is right"}
    )
    return {
        "operationId": operation_id,
        "summary": "Answer a provider's probe of the address",
        "parameters": [parameter],
        "responses": {"200": success, **_problems(UnknownProviderError, SpoolUnavailableError)},
    }


def _health(operation_id: str, summary: str, *errors: type[Exception]) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "responses": {"200": _success(summary, "Status"), **_problems(*errors)},
    }


def _success(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _problems(*errors: type[BaseException]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for problem in (PROBLEMS[error] for error in errors):
        response: dict[str, Any] = {
            "description": problem.title,
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if problem.again:
            response["headers"] = {
                "Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}
            }
        responses[str(problem.status)] = response
    return responses
