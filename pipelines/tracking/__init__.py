"""Tell a tracking server of every training, from what PostgreSQL knows; no training waits for it."""
