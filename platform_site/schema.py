"""What the OpenAPI schema says beyond the views: how to sign in, and the one shape of errors."""

from __future__ import annotations

from drf_spectacular.extensions import OpenApiAuthenticationExtension

Schema = dict[str, object]
_METHODS = ("get", "post", "put", "patch", "delete")
_TEXT_OR_NULL = {"type": "string", "nullable": True}
_ERROR = {
    "type": "object",
    "description": "What every error answers.",
    "required": ["code", "detail", "errors"],
    "properties": {
        "code": {"type": "string", "description": "A stable name for programs."},
        "detail": {"type": "string", "description": "One sentence for people."},
        "errors": {
            "type": "array",
            "description": "Every problem with its place, where there are places.",
            "items": {
                "type": "object",
                "required": ["message", "code", "node", "field"],
                "properties": {
                    "message": {"type": "string"},
                    "code": {"type": "string"},
                    "node": _TEXT_OR_NULL,
                    "field": _TEXT_OR_NULL,
                },
            },
        },
    },
}


class TokenScheme(OpenApiAuthenticationExtension):
    """The header of scripts."""

    target_class = "platform_site.common.authentication.ApiTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: object) -> Schema:  # noqa: ARG002 (the framework's signature)
        """Describe the header."""
        text = "`Authorization: Token <key>`; make a key at POST /api/v1/auth/tokens or on the settings page."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": text}


class SessionScheme(OpenApiAuthenticationExtension):
    """The cookie of browsers."""

    target_class = "platform_site.common.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: object) -> Schema:  # noqa: ARG002 (the framework's signature)
        """Describe the cookie."""
        text = "The session of a browser; methods that change something also need the header X-CSRFToken."
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": text}


class PasswordScheme(OpenApiAuthenticationExtension):
    """Name and password, where the first token is made."""

    target_class = "platform_site.common.authentication.PasswordAuthentication"
    name = "password"

    def get_security_definition(self, auto_schema: object) -> Schema:  # noqa: ARG002 (the framework's signature)
        """Describe basic authentication."""
        return {"type": "http", "scheme": "basic"}


def describe_errors(result: Schema, **_options: object) -> Schema:
    """Give every operation the answer for whatever is no success. Named in SPECTACULAR_SETTINGS."""
    result["components"]["schemas"]["Error"] = _ERROR  # type: ignore[index]
    answer = {"description": "An error.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for methods in result["paths"].values():  # type: ignore[attr-defined]
        for name, operation in methods.items():
            if name in _METHODS:
                operation["responses"]["default"] = answer
    return result
