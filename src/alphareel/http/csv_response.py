"""Rows as CSV, for spreadsheets and for those who bill."""

import csv
import io
from collections.abc import Sequence

from fastapi import Response
from pydantic import BaseModel

from alphareel.http.openapi import Responses

OR_CSV: Responses = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
"""For a route that answers with either."""


def csv_answer(row: type[BaseModel], items: Sequence[BaseModel]) -> Response:
    """A table with one column for each field of ``row``."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(row.model_fields))
    table.writeheader()
    table.writerows(item.model_dump(mode="json") for item in items)
    return Response(text.getvalue(), media_type="text/csv", headers={"Content-Disposition": "attachment"})
