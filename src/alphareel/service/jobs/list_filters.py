"""The filters of lists of jobs."""

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.service.jobs.models import Status

MAX_PAGE = 100


def parse_statuses(status: str | None, *, show_pending: bool) -> tuple[Status, ...] | None:
    """The statuses that a list filter selects; queued jobs match created, pending and what they are shown as."""
    if not status:
        return None
    if status not in set(Status):
        raise InvalidRequest(
            f"status must be one of {', '.join(Status)}.", details=[FieldProblem("status", "is not a job status.")]
        )
    if status in (Status.CREATED, Status.PENDING):
        return (Status.CREATED, Status.PENDING)
    if status == Status.PROCESSING and not show_pending:
        return (Status.PROCESSING, Status.PENDING)
    return (Status(status),)


def check_page(limit: int, offset: int) -> None:
    """Raises InvalidRequest unless 1 <= limit <= 100 and offset >= 0."""
    problems = []
    if not 1 <= limit <= MAX_PAGE:
        problems.append(FieldProblem("limit", f"must be between 1 and {MAX_PAGE}; got {limit}."))
    if not 0 <= offset < 2**31:
        problems.append(FieldProblem("offset", f"must be between 0 and {2**31 - 1}; got {offset}."))
    if problems:
        raise InvalidRequest(f"{problems[0].field}: {problems[0].message}", details=problems)
