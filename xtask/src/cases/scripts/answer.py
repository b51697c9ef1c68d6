"""Answers SQL: one query on each line of a file, one JSON list of rows for each."""

import json
import sys

import duckdb

# What is tested must not depend on what is left in somebody's home, nor fetch anything.
database = duckdb.connect(config={
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
})
for query in open(sys.argv[1], encoding="utf-8"):
    rows = database.execute(query).fetchall()
    print(json.dumps(rows, default=str))
