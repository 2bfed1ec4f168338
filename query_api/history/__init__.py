"""The history in ClickHouse: its tables, what writes them, what reads them."""
