"""CSV -> Kafka: `csv_source` reads the rows, `replay` says which and when, `delivery` sends them.

`progress` remembers how far a replay came, `display` shows it.
"""
