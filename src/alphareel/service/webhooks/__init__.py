"""Webhooks: events, signing, dispatch and delivery log."""
