"""Which failed jobs a command is about: the same options for all of them, read once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from darkroom.ledger import DeadLetterFilter, Ledger

TIME = "A time, or how long ago: 2h, 1d, 2030-01-01T12:00:00+01:00."

UserOption = Annotated[str | None, typer.Option(help="Of this user (a name or an id); for operators.")]
KindOption = Annotated[str | None, typer.Option(help="Of this kind, e.g. generate-image.")]
ClassOption = Annotated[
    str | None, typer.Option("--class", help="That failed this way: retry, park, permanent, needs_human.")
]
CodeOption = Annotated[str | None, typer.Option(help="With this code, e.g. content_policy_violation.")]
EndpointOption = Annotated[str | None, typer.Option(help="Whose failed call was of this endpoint.")]
SinceOption = Annotated[str | None, typer.Option("--failed-since", metavar="TIME", help=TIME)]
BeforeOption = Annotated[str | None, typer.Option("--failed-before", metavar="TIME", help=TIME)]
DiscardedOption = Annotated[bool, typer.Option("--discarded", help="Those that were discarded, not the others.")]


@dataclass(frozen=True, kw_only=True)
class Which:
    """Failed jobs as the options name them. Times are read; the user is as it was typed."""

    user: str | None = None
    kind: str | None = None
    error_class: str | None = None
    code: str | None = None
    endpoint: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    discarded: bool = False

    @property
    def is_given(self) -> bool:
        """Tell whether any option was given."""
        return self != Which()

    def in_ledger(self, ledger: Ledger, job_ids: list[str] | None = None) -> DeadLetterFilter:
        """Return the filter of a dry run, which asks the ledger itself."""
        from darkroom.ledger import DeadLetterFilter

        given = asdict(self)
        user = given.pop("user")
        # Who names a job means it, also where it was discarded: a replay takes that back.
        return DeadLetterFilter(
            **given | {"discarded": None if job_ids and not self.discarded else self.discarded},
            job_ids=tuple(job_ids) if job_ids else None,
            user_id=None if user is None else ledger.users.find(user).id,
        )

    def over_http(self) -> dict[str, Any]:
        """Return them as the API takes them."""
        names = {"error_class": "class", "since": "failed_since", "until": "failed_before"}
        given = {k: v for k, v in asdict(self).items() if v is not None and v is not False}
        return {names.get(k, k): v.isoformat() if isinstance(v, datetime) else v for k, v in given.items()}


def which(
    user: str | None,
    kind: str | None,
    error_class: str | None,
    code: str | None,
    endpoint: str | None,
    failed_since: str | None,
    failed_before: str | None,
    discarded: bool,
) -> Which:
    return Which(
        user=user,
        kind=kind,
        error_class=error_class,
        code=code,
        endpoint=endpoint,
        since=moment(failed_since, "--failed-since"),
        until=moment(failed_before, "--failed-before"),
        discarded=discarded,
    )


def moment(text: str | None, field: str) -> datetime | None:
    """Read a time, or how long ago it is. Raise BadInput for anything else.

    A time without a zone is this machine's.
    """
    if text is None:
        return None
    from darkroom.clock import utc_now
    from darkroom.durations import duration
    from darkroom.errors import BadInput

    try:
        # How long ago ends in its unit; a time ends in a digit, or in the Z of UTC.
        if text[-1:].isalpha() and text[-1:] != "Z":
            return utc_now() - duration(text)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:  # the latter before the year 1, and behind 9999
        raise BadInput(
            f"'{text}' is neither a time nor how long ago: write it like 2h, 1d or 2030-01-01T12:00:00+01:00.",
            field=field,
        ) from error
