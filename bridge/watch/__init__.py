"""The house seen from outside: metrics, logs, HTTP. Changes nothing."""
