"""Responses as CSV, for spreadsheets and billing systems."""

import csv
import io
from collections.abc import Sequence

from fastapi import Response
from pydantic import BaseModel

from alphareel.http.openapi import Responses

OR_CSV: Responses = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
"""``responses`` of a route that returns JSON or CSV."""


def csv_response(row: type[BaseModel], items: Sequence[BaseModel]) -> Response:
    """A table with one column for each field of ``row``."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(row.model_fields))
    table.writeheader()
    table.writerows(item.model_dump(mode="json") for item in items)
    return Response(text.getvalue(), media_type="text/csv", headers={"Content-Disposition": "attachment"})
