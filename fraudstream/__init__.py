"""fraudstream: CSV -> Kafka -> PySpark Structured Streaming -> MySQL, with mail alerts and a dashboard."""
