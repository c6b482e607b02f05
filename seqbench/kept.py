"""What every stored record has in common: how it is written, read, validated, and keyed by its content. No torch."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from seqbench.errors import UserError

__all__ = ["DONE", "FINE", "Environment", "Hash", "Kept", "Name", "Status", "Strict", "hash_of"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Status = Literal["ok", "diverged", "oom", "timeout", "error", "not_applicable"]

DONE = ("ok", "not_applicable", "diverged")  # what would come out the same again; other failures are tried again
FINE = ("ok", "not_applicable")


class Strict(BaseModel):
    """Unknown keys, NaN and infinity are refused; nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Environment(Strict):
    """Where it ran. `git_commit` is of seqbench's own checkout, where there is one."""

    device: str
    device_name: str
    threads: int
    python: str
    torch: str
    cuda: str | None
    seqbench: str
    git_commit: str | None
    git_dirty: bool | None


class Kept(Strict):
    """A record: one JSON object whose key is that of its content."""

    NEWEST: ClassVar[int]

    schema_version: int
    key: Hash
    status: Status
    reason: str | None

    @property
    def headline(self) -> str:
        """The result in a few words, or why there is none."""
        return self.reason or ""

    def content_key(self) -> str:
        """The key that this record's content says it should have."""
        raise TypeError(f"{type(self).__name__} must define content_key()")

    def to_json(self) -> str:
        """Indented JSON with a last newline; refuses NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "record") -> Self:
        """Parse and validate.

        Raises:
            UserError: not JSON, not a record, from a newer version, or its key is not that of its content.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name} is not valid JSON: {error}.") from None
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > cls.NEWEST:
            raise UserError(f"{name} has schema version {version}; this seqbench reads up to {cls.NEWEST}: update it.")
        try:
            record = cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top level"
            raise UserError(f"{name} is not a valid record: {where}: {first['msg']}.") from None
        if record.key != record.content_key():
            raise UserError(f"{name} has been altered: its key is not that of its content.")
        return record


def hash_of(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
