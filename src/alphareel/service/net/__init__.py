"""Outbound requests behind the SSRF guard."""
