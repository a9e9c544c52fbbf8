"""Base class of the admin pages for rows that are history: they can be looked at and acted on, never edited."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that nobody adds, changes or deletes by hand. Actions are for those who may change the model."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 (the framework's signature)
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Say whether the user may use the actions: the model's change permission, which opens no form here."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")


def link_to(row: Model | None) -> SafeString | None:
    """Link to the admin page of ``row``; None for none."""
    if row is None:
        return None
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', url, row)


def status_of(row: Model) -> SafeString:
    """Show a status as word and mark."""
    return format_html('<span class="row-status" data-status="{0}">{0}</span>', row.status)


def as_json(value: object) -> SafeString:
    """Show JSON with its lines."""
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=str))


def as_bytes(count: int) -> str:
    """Write a size as kB, MB or GB (powers of 1,000)."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
