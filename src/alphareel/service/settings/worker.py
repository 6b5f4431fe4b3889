"""The worker process: how many jobs it runs, and the limits of each."""

from pydantic import Field

from alphareel.machine import cores
from alphareel.service.jobs.models import QUEUES
from alphareel.service.settings.group import GIB, Queues, SettingsGroup, Size


class WorkerSettings(SettingsGroup):
    """Worker."""

    jobs: int = Field(
        default=1,
        ge=0,
        le=64,
        validation_alias="WORKERS",
        description="Concurrent jobs of the worker process; 0 runs the API without a worker.",
    )
    runner_slots: int = Field(
        default=16,
        ge=0,
        le=1024,
        validation_alias="RUNNER_SLOTS",
        description="Concurrent jobs of the worker process on joined runners, in addition to its own; 0 for none.",
    )
    runners_only: bool = Field(
        default=False,
        validation_alias="RUNNERS_ONLY",
        description=(
            "Run the engines of jobs on joined runners alone: jobs wait until one joins. Only what the joined ones "
            "cannot do or failed at runs here, and what is made of a kept matte."
        ),
    )
    queues: Queues = Field(
        default=QUEUES,
        validation_alias="QUEUES",
        description=(
            "Comma-separated queues that the worker process takes from: jobs, fetches (files from and to URLs)."
        ),
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        validation_alias="JOB_THREADS",
        description="Threads per job; 0 divides the processors evenly.",
    )
    memory_bytes: Size = Field(
        default=16 * GIB,
        ge=0,
        validation_alias="JOB_MEMORY_BYTES",
        description="Address space limit of a job process; 0 for no limit (required by some GPUs).",
    )
    cpu_seconds: int = Field(
        default=0,
        ge=0,
        validation_alias="JOB_CPU_SECONDS",
        description="CPU time limit of a job process; 0 for no limit.",
    )
    wall_seconds: float = Field(
        default=12 * 3600.0,
        ge=0,
        validation_alias="JOB_WALL_SECONDS",
        description="Wall-clock limit of a job process; 0 for no limit.",
    )
    progress_seconds: float = Field(
        default=600.0,
        ge=5,
        validation_alias="JOB_PROGRESS_SECONDS",
        description="Time without progress after which a job process is stopped.",
    )
    chunk_seconds: float = Field(
        default=60.0,
        ge=0,
        validation_alias="CHUNK_SECONDS",
        description=(
            "Split clips longer than twice this into chunks of this length, so that interrupted jobs can "
            "resume. 0 disables chunking."
        ),
    )
    stop_seconds: float = Field(
        default=20.0,
        ge=0,
        validation_alias="STOP_SECONDS",
        description="Grace period for running jobs at shutdown; afterwards they return to the queue.",
    )
    hang_seconds: float = Field(
        default=15.0,
        ge=5,
        validation_alias="HANG_SECONDS",
        description="Time without a heartbeat after which the worker process is killed and restarted.",
    )
    confined: bool = Field(
        default=True,
        validation_alias="CONFINE_JOBS",
        description=(
            "Let the kernel confine job processes, as far as it can: no sockets, no programs, no files but the job's. "
            "`alphareel doctor` shows what is in force."
        ),
    )
    spare_idle_seconds: float = Field(
        default=1800.0,
        ge=0,
        validation_alias="SPARE_IDLE_SECONDS",
        description=(
            "How long job processes that were started ahead wait for a job; then they end, and the next job "
            "begins more slowly. 0 starts none ahead."
        ),
    )
    spare_max_bytes: Size = Field(
        default=1 * GIB,
        ge=0,
        validation_alias="SPARE_MAX_BYTES",
        description="Memory that a waiting job process may hold; 0 for no limit.",
    )
    #: Tries before a retryable failure is final, counted from the last chunk that was finished.
    max_tries: int = 3
    #: Tries before a job whose worker or process dies each time is given up, counted likewise.
    max_deaths: int = 6
    #: Wait before the second try; it doubles with each further one.
    retry_seconds: float = 2.0
    #: The module whose ``run`` makes results.
    pipeline: str = "alphareel.pipeline.run"

    @property
    def threads_per_job(self) -> int:
        return self.threads or max(1, cores() // max(1, self.jobs))
