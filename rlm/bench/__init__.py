"""Measuring: tasks, cells, records, statistics, reports, and the pytest plugin."""
