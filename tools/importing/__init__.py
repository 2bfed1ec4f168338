"""``litmus import``: history from files, each row once however often it is interrupted."""
