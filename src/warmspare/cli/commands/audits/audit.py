"""`warmspare audit`: the group of audits; owns their names, each has a file of its own."""

from __future__ import annotations

import typer

from warmspare.cli.commands.audits import audit_replica, audit_repository, audit_source, audit_verify

app = typer.Typer(
    help="Prove that what is stored is what was protected; repair what is not.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("replica")(audit_replica.replica)
app.command("repository")(audit_repository.repository)
app.command("source")(audit_source.source)
app.command("verify-report")(audit_verify.verify_report)
