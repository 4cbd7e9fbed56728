"""What a run loads at its first request and its first ledger, and a sandbox, loaded before they are forked."""

from __future__ import annotations

import alembic.command
import alembic.config
import dotenv.main
import httpx
import langchain_openai
import openai.resources.embeddings
import uvicorn.lifespan.on
import uvicorn.loops.uvloop
import uvicorn.protocols.http.httptools_impl

import kai.sandbox.app
import kai.sandbox.cluster.server
import kai.sandbox.sample
import migration.cli.exits
import migration.cli.run
import migration.operations.backup
import migration.operations.history
import migration.operations.migrate
import migration.operations.reports.run_page
import migration.operations.rollback
import migration.reporting.render

__all__ = ["alembic", "dotenv", "httpx", "kai", "langchain_openai", "migration", "openai", "uvicorn"]

migration.reporting.render.template()
# Their transports are imported when the first client is made.
httpx.Client().close()
openai.OpenAI(api_key="none").close()
