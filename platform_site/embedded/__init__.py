"""PostgreSQL and Valkey from their wheels, for whoever has neither, and the processes around them. Imports no Django."""
