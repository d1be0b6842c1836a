"""The signing page of Rest PKI Core, for people and browsers: what can be done there, and the way back."""

from __future__ import annotations

from html import escape

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from simulator.peer import PeerError, StoredFile
from simulator.restpki import RestPki, Session, SessionStatus

_PAGE = """<!doctype html><html lang="pt-BR"><meta charset="utf-8"><title>Rest PKI Core (simulado)</title>
<h1>Assinatura de documentos</h1>
{body}
</html>
"""


class Pages:
    """One page for each session, under an address that only its user knows."""

    def __init__(self, restpki: RestPki) -> None:
        self._restpki = restpki

    async def show(self, request: Request) -> Response:
        """The documents, and what the user can do."""
        session = self._session(request)
        if self._restpki.status_of(session) is not SessionStatus.PENDING:
            return self._back(session)
        names = [
            self._restpki.documents[document_id].files["original-file"].name
            for document_id in session.document_ids
        ]
        items = "".join(f"<li>{escape(name)}</li>" for name in names)
        upload = '<input type="file" name="file">' if session.by_user and not names else ""
        buttons = "".join(
            f'<button id="{action}" name="action" value="{action}">{word}</button>'
            for action, word in (("sign", "Assinar"), ("cancel", "Cancelar"), ("fail", "Assinar, com erro"))
        )
        form = f'<form method="post" enctype="multipart/form-data">{upload}{buttons}</form>'
        return HTMLResponse(_PAGE.format(body=f"<ul>{items}</ul>{form}"))

    async def act(self, request: Request) -> Response:
        """What the user has chosen; then the way back to the application."""
        session = self._session(request)
        async with request.form() as form:
            action = form.get("action")
            file = form.get("file")
            if action not in ("sign", "cancel", "fail"):
                raise PeerError(400, "the action must be sign, cancel or fail")
            if action == "sign" and isinstance(file, UploadFile) and file.filename:
                media_type = file.content_type or "application/pdf"
                uploaded = StoredFile(file.filename, media_type, await file.read())
                self._restpki.upload_by_user(session, uploaded)
        self._restpki.happen(session.id, str(action))
        return self._back(session)

    def _session(self, request: Request) -> Session:
        return self._restpki.session_of_page(request.path_params["token"])

    def _back(self, session: Session) -> Response:
        address = self._restpki.return_address(session)
        if address is None:
            return HTMLResponse(_PAGE.format(body="<p>Pode fechar esta janela.</p><script>close()</script>"))
        return RedirectResponse(address, status_code=302)
