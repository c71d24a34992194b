"""Providers: dumb leaves. No diffing, no retry loops, no state, no engine."""
