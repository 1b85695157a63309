"""Reads columns of a Parquet file: the one door to pyarrow."""

from __future__ import annotations

from fastpipe.errors import DataError, MissingExtraError
from fastpipe.storage.lists.table import Table, Wanted, cannot_read, check_columns


def read_parquet(file: str, wanted: Wanted) -> Table:
    """The wanted columns. Raises MissingExtraError without pyarrow, ArgumentError and DataError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", f"reading {file!r}") from error
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            names = list(opened.schema_arrow.names)
            check_columns(file, wanted, names)
            table = opened.read(columns=list(wanted))
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{file!r} is not a Parquet file: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise cannot_read(file, error) from error
    columns = {name: table.column(name).to_pylist() for name in wanted}
    numbers = range(1, table.num_rows + 1)
    return Table(file=file, names=names, columns=columns, numbers=numbers, typed=True, unit="row")
