"""Traces for OpenTelemetry: what is recorded is exported by OTLP over HTTP. `otlp` alone imports the libraries of OpenTelemetry."""
