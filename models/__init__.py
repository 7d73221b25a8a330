"""The networks of nvc, the arithmetic they run in, and how they are trained."""
