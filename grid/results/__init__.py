"""The results store: the SQL database that every number ends up in."""
