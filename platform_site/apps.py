from django.apps import AppConfig


class PlatformSiteConfig(AppConfig):
    name = "platform_site"
    verbose_name = "People and tokens"
    default_auto_field = "django.db.models.BigAutoField"
