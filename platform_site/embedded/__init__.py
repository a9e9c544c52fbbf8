"""PostgreSQL and Valkey from their wheels, for whoever has neither. Imports no Django."""
