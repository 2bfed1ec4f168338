"""Answers questions: REST, live results, the live page, and the history in ClickHouse."""
