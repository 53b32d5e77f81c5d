"""The ``api_server:`` part of a deployment: the process in front of the engine core."""

from pydantic import BaseModel, ConfigDict, Field


class ApiServerConfig(BaseModel):
    """Service time of the API server, which takes requests in order of arrival.

    processes       parallel API server processes
    base_s          time for each request [s]
    prompt_token_s  time for each prompt token, tokenisation above all [s]

    Both times are 0 unless given: they depend on the host's CPU and have to be measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int = Field(default=1, ge=1, le=1024)
    base_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    prompt_token_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
