"""The OpenAPI document read again, as rows for people: what ``page`` and ``manual`` write down. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_METHODS: Final = ("get", "post", "patch", "delete", "put")


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter or a member: its name, its type, whether it has to be there, what it is."""

    name: str
    type: str
    required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One status of an operation. ``codes`` are those of errors, ``example`` is JSON."""

    status: str
    text: str
    codes: tuple[str, ...]
    rows: tuple[Row, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    operation_id: str
    tag: str
    method: str
    path: str
    title: str
    text: str
    token: str
    parameters: tuple[Row, ...]
    body: tuple[Row, ...]
    body_example: str
    outcomes: tuple[Outcome, ...]


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation, in the order of the document."""
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield _operation(document, path, method, methods[method])


def _operation(document: Mapping[str, Any], path: str, method: str, found: Mapping[str, Any]) -> Operation:
    body = _json_schema(document, found.get("requestBody", {}))
    schemes = [name for choice in found.get("security", ()) for name in choice]
    return Operation(
        operation_id=found["operationId"],
        tag=found["tags"][0],
        method=method.upper(),
        path=path,
        title=found["summary"],
        text=found.get("description", ""),
        token=schemes[0] if schemes else "",
        parameters=tuple(_parameter(document, one) for one in found.get("parameters", ())),
        body=tuple(rows_of(document, body)),
        body_example=_pretty(body["examples"][0]) if body.get("examples") else "",
        outcomes=tuple(
            _outcome(document, status, response) for status, response in found["responses"].items()
        ),
    )


def _parameter(document: Mapping[str, Any], found: Mapping[str, Any]) -> Row:
    place = found["in"]
    kind = type_of(document, found["schema"])
    return Row(found["name"], f"{kind}, {place}", found.get("required", False), found.get("description", ""))


def _outcome(document: Mapping[str, Any], status: str, response: Mapping[str, Any]) -> Outcome:
    content = response.get("content", {}).get("application/json", {})
    codes = tuple(content.get("examples", ()))
    schema = _json_schema(document, response)
    if codes:
        return Outcome(status, response["description"], codes, (), "")
    rows = tuple(rows_of(document, schema))
    return Outcome(status, response["description"], (), rows, _pretty(example_of(document, schema)))


def rows_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Row]:
    """The members of an object."""
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        yield Row(name, type_of(document, member), name in required, member.get("description", ""))


def type_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A type in a word or two."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        names = dict.fromkeys(type_of(document, choice) for choice in schema["anyOf"])
        return " or ".join(names)
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {type_of(document, schema['items'])}s"
    if "minimum" in schema and "maximum" in schema:
        return f"{kind} {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        return f"{kind} of at most {schema['maxLength']}"
    return kind


def example_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """An example, from those of its members."""
    schema = _resolved(document, schema)
    if schema.get("examples"):
        return schema["examples"][0]
    if "properties" in schema:
        return {name: example_of(document, member) for name, member in schema["properties"].items()}
    if schema.get("type") == "array":
        return [example_of(document, schema["items"])]
    return None


def _json_schema(document: Mapping[str, Any], holder: Mapping[str, Any]) -> Mapping[str, Any]:
    content = holder.get("content", {}).get("application/json", {})
    return _resolved(document, content.get("schema", {}))


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rpartition("/")[2]
    found: Mapping[str, Any] = document["components"]["schemas"][name]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2)
