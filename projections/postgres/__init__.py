"""The read models in Postgres, and the Postgres that comes with Tape."""
