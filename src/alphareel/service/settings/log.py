"""What is logged."""

from pydantic import Field, field_validator

from alphareel.service.settings.group import SettingsGroup


class LogSettings(SettingsGroup):
    """Logs."""

    level: str = Field(default="info", validation_alias="LOG_LEVEL", description="debug, info, warning or error.")

    @field_validator("level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()
