"""Request and response bodies, one module per subject; FastAPI makes the OpenAPI document of them.

Bodies of jobs, estimates, exports and proofs are in ``service/<subject>/requests.py``.
"""
