#!/usr/bin/env python3
"""Writes answers.txt: what DuckDB answers to queries.sql over TPC-H's rows (pip install duckdb tpchgen-cli).

Each query is followed by its rows, sorted; numbers have three digits behind the point.
"""

import decimal
import pathlib
import subprocess
import tempfile

import duckdb

TABLES = "part supplier partsupp customer orders lineitem nation region".split()
HERE = pathlib.Path(__file__).parent


def text(value):
    if value is None:
        return "null"
    if isinstance(value, (int, float, decimal.Decimal)):
        return f"{float(value):.3f}"
    return str(value)


def main():
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tpchgen-cli", "parquet", "-s", "0.01", "--output-dir", folder], check=True)
        database = duckdb.connect()
        for table in TABLES:
            database.execute(f"CREATE VIEW {table} AS SELECT * FROM '{folder}/{table}.parquet'")
        for part in (HERE / "queries.sql").read_text().split("-- q")[1:]:
            number, query = part.split("\n", 1)
            rows = sorted("|".join(map(text, row)) for row in database.execute(query).fetchall())
            answers.append("".join(f"{line}\n" for line in [f"## q{number}", *rows]))
    (HERE / "answers.txt").write_text("".join(answers))


main()
