"""Engines that run jobs durably, behind the ``JobEngine`` port."""
