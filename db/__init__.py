"""PostgreSQL: models, queries, audit chain, migrations; a hospital's own store."""
