"""Writes the tables that the readers of CSV and Parquet are tested by: one table in many forms, and what is refused.

python make.py, with pyarrow 26.0.1
"""

import datetime
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
rows = range(40)
colours = ["red", "green", "blue"]
table = pa.table(
    {
        "width": pa.array([(7 * n % 40) / 8 - 1 for n in rows], pa.float64()),
        "grade": pa.array([n % 3 + 1 for n in rows], pa.int64()),
        "colour": pa.array([colours[n * n % 3] for n in rows], pa.string()),
        "ripe": pa.array([n % 4 == 0 for n in rows], pa.bool_()),
        "small": pa.array([n % 5 - 2 for n in rows], pa.int32()),
        "large": pa.array([2**31 + n for n in rows], pa.uint32()),
        "single": pa.array([n / 4 for n in rows], pa.float32()),
        "kind": pa.array([["iris", "rose"][n % 7 < 3] for n in rows], pa.string()),
    },
    schema=None,
)
fixed = pa.schema([field.with_nullable(False) for field in table.schema])


def write(name, table=table, **options):
    pq.write_table(table, here / f"{name}.parquet", store_schema=False, write_statistics=False, **options)


text = [",".join(table.column_names)]
for row in table.to_pylist():
    text.append(",".join(str(value).lower() if isinstance(value, bool) else str(value) for value in row.values()))
(here / "table.csv").write_text("\n".join(text) + "\n")

write("plain", table.cast(fixed), use_dictionary=False, compression="none")
write("dictionary", compression="snappy")
write("gzip", compression="gzip", use_dictionary=False)
write("zstd", compression="zstd")
write("pages_v2", compression="snappy", data_page_version="2.0", use_dictionary=["colour"])
write("groups", compression="snappy", row_group_size=7, data_page_size=16)

width = table["width"].to_pylist()
width[33] = None
write("nulls", table.set_column(0, "width", [width]), row_group_size=16)
width[2], width[33] = float("nan"), 0.0
write("nan", table.set_column(0, "width", [width]))
write("nested", pa.table({"x": [1, 2], "list": [[1], [2, 3]]}))
write("times", pa.table({"x": [1, 2], "day": [datetime.date(2020, 1, 1)] * 2}))
write(
    "delta",
    pa.table({"width": pa.array(range(40), pa.int64())}),
    use_dictionary=False,
    column_encoding={"width": "DELTA_BINARY_PACKED"},
)
write("lz4", compression="lz4")
