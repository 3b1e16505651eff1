"""The model-based test: any sequence of operations, cancelled anywhere, against a model of two byte queues."""
