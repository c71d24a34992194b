"""The typed columns of every table: what a query returns has the declared Python types, on both databases."""

import re
from inspect import get_annotations
from types import NoneType
from typing import get_args

from sqlalchemy import Table, TypedColumns, insert, select

from reconciler.state import Store, tables

DECLARED = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Columns")).lower(): cls for cls in TypedColumns.__subclasses__()
}
SAMPLES = {str: "text", int: 7, float: 1, bytes: b"\x00\xff", bool: True}
"""A value of each type as it is written: a whole number for a float, which must come back as a float."""


def types_of(table: Table) -> dict[str, tuple[type, ...]]:
    """Return the declared Python types by column."""
    hints = get_annotations(DECLARED[table.name], eval_str=True)
    return {name: get_args(get_args(hint)[0]) or get_args(hint) for name, hint in hints.items()}


def test_every_table_declares_its_columns_with_their_types() -> None:
    assert DECLARED.keys() == tables.metadata.tables.keys()
    for table in tables.metadata.tables.values():
        declared = types_of(table)
        assert list(declared) == [column.name for column in table.columns], table.name
        for column in table.columns:
            assert column.type.python_type in declared[column.name], column
            assert column.nullable == (NoneType in declared[column.name]), column


def test_a_row_has_the_declared_types(store: Store) -> None:
    for table in tables.metadata.tables.values():
        declared = {name: types[0] for name, types in types_of(table).items()}
        with store._write() as connection:
            connection.execute(insert(table), {name: SAMPLES[kind] for name, kind in declared.items()})
            keys = (key == SAMPLES[declared[key.name]] for key in table.primary_key)
            row = connection.execute(select(table).where(*keys)).one()
        assert {name: type(value) for name, value in row._mapping.items()} == declared, table.name
