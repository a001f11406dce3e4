"""The binary form of COPY, as far as it is made by hand.

It is exact about types: a column that becomes another one (`bigint` for `integer`, say) needs other rows. Tests write
and read back what is made here.
"""

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
"""Before the first row, with no flags and no extension (PostgreSQL's manual, COPY)."""
TRAILER = b"\xff\xff"
"""Behind the last row."""
