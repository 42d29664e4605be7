"""Evaluations without a model: of predictions and judgements that files hold."""
