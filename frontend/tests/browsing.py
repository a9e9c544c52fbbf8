"""The site as a browser sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page

from frontend.tests.proxy import CuttableProxy
from platform_site.models import User


@dataclass
class Site:
    """The site in a browser, behind a proxy that can cut its connections."""

    browser: Browser
    proxy: CuttableProxy
    pages: list[Page] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://{self.proxy.host}"

    def visit(
        self, path: str, *, user: User | None = None, scheme: str = "light", width: int = 1280, height: int = 800
    ) -> Page:
        """Open ``path`` in a browser of its own, signed in as ``user``."""
        context = self.browser.new_context(
            base_url=self.address,
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(10_000)
        if user is not None:
            client = Client()
            client.force_login(user)
            name = settings.SESSION_COOKIE_NAME
            context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": self.address}])
        page = context.new_page()
        self.pages.append(page)
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.goto(path)
        return page

    def _listen(self, message: ConsoleMessage) -> None:
        """Keep what a page complains of: script errors and everything that the content security policy refused."""
        if message.type == "error" or "Content Security Policy" in message.text:
            self.complaints.append(f"{message.text} at {message.location.get('url', '')}")
