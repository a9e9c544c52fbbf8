"""Blocks as Arrow tables, and back: the columns of a ``dataset`` artifact."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from celery_workers.data.blocks import Block, Conversations, Texts
from celery_workers.data.canonical import PROBLEMS, ROW_NUMBER
from celery_workers.data.message_reading import TEXT_KEYS, Message
from celery_workers.data.row_formats import Shape
from celery_workers.data.rows import RowProblem

_MESSAGE = pa.struct([*((name, pa.string()) for name in TEXT_KEYS), ("train", pa.bool_())])
_PROBLEM_KEYS = ("field", "code", "message", "fix")
_PROBLEMS = pa.list_(pa.struct([(name, pa.string()) for name in _PROBLEM_KEYS]))


def schema_of(shape: Shape, extras: Sequence[str], *, has_problems: bool) -> pa.Schema:
    """Return the columns of rows of ``shape`` with ``extras``, all kept as text."""
    fields = [(ROW_NUMBER, pa.int64()), *((column, _type(shape, column)) for column in shape.columns)]
    fields += [(name, pa.string()) for name in extras]
    return pa.schema([*fields, (PROBLEMS, _PROBLEMS)] if has_problems else fields)


def table_of(block: Block, schema: pa.Schema) -> pa.Table:
    """Return ``block`` with the columns of ``schema``; extra columns that it does not have are null."""
    return pa.Table.from_arrays([_array(block, field) for field in schema], schema=schema)


def block_from(table: pa.Table, shape: Shape, *, extras: Sequence[str] = ()) -> Block:
    """Return the rows of ``table``, which has the columns of ``schema_of`` for ``shape``, with those of ``extras``."""
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    absent: Texts = [None] * table.num_rows
    texts: dict[str, Texts] = {name: columns[name].to_pylist() if name in columns else absent for name in _text_columns(shape)}
    return Block(
        shape=shape,
        numbers=columns[ROW_NUMBER].to_pylist(),
        texts=texts,
        conversations={name: _conversations(columns[name]) for name in shape.conversations},
        flags={name: columns[name].to_pylist() for name in shape.flags},
        extras={name: columns[name].to_pylist() for name in extras if name in columns},
        problems=_problems(columns[PROBLEMS], columns[ROW_NUMBER]) if PROBLEMS in columns else {},
    )


def _type(shape: Shape, column: str) -> pa.DataType:
    if column in shape.conversations:
        return pa.list_(_MESSAGE)
    return pa.bool_() if column in shape.flags else pa.string()


def _text_columns(shape: Shape) -> list[str]:
    return [name for name in shape.columns if name not in shape.conversations and name not in shape.flags]


def _array(block: Block, field: pa.Field) -> pa.Array:
    name = field.name
    if name in block.conversations:
        return _messages_array(block.conversations[name])
    if name == PROBLEMS and field.type == _PROBLEMS:
        return _problems_array(block)
    if name == ROW_NUMBER:
        return pa.array(block.numbers, field.type)
    values = block.texts.get(name) or block.flags.get(name) or block.extras.get(name)
    return pa.nulls(len(block), field.type) if values is None else pa.array(values, field.type)


def _messages_array(conversation: Conversations) -> pa.Array:
    count = len(conversation.roles)
    arrays = [pa.array(conversation.roles, pa.string()), pa.array(conversation.contents, pa.string())]
    for field in list(_MESSAGE)[len(arrays) :]:
        values: list[object] = [None] * count
        for place, message in conversation.further.items():
            values[place] = message.get(field.name)
        arrays.append(pa.array(values, field.type) if conversation.further else pa.nulls(count, field.type))
    messages = pa.StructArray.from_arrays(arrays, fields=list(_MESSAGE))
    is_missing = None
    if conversation.missing:
        is_missing = pa.array([position in conversation.missing for position in range(len(conversation.counts))])
    return pa.ListArray.from_arrays(pa.array(conversation.offsets, pa.int32()), messages, mask=is_missing)


def _problems_array(block: Block) -> pa.Array:
    found: list[list[dict[str, str]]] = [[]] * len(block)
    for position, problems in block.problems.items():
        found[position] = [{key: getattr(problem, key) for key in _PROBLEM_KEYS} for problem in problems]
    return pa.array(found, _PROBLEMS)


def _conversations(column: pa.ListArray) -> Conversations:
    messages = column.flatten()
    roles, contents = (pc.struct_field(messages, name).to_pylist() for name in ("role", "content"))
    others = [pc.struct_field(messages, field.name) for field in list(_MESSAGE)[2:]]
    further: dict[int, Message] = {}
    if any(other.null_count < len(other) for other in others):
        says_more = others[0].is_valid()
        for other in others[1:]:
            says_more = pc.or_(says_more, other.is_valid())
        places = pc.indices_nonzero(says_more)
        for place, message in zip(places.to_pylist(), messages.take(places).to_pylist(), strict=True):
            further[place] = {key: value for key, value in message.items() if value is not None or key in ("role", "content")}
    return Conversations(
        counts=column.value_lengths().fill_null(0).to_pylist(),
        roles=roles,
        contents=contents,
        missing=set(pc.indices_nonzero(column.is_null()).to_pylist()),
        further=further,
    )


def _problems(column: pa.ListArray, numbers: pa.Int64Array) -> dict[int, list[RowProblem]]:
    places = pc.indices_nonzero(pc.greater(column.value_lengths(), 0))
    rows = zip(places.to_pylist(), numbers.take(places).to_pylist(), column.take(places).to_pylist(), strict=True)
    return {place: [RowProblem(row_number=number, **problem) for problem in problems] for place, number, problems in rows}
