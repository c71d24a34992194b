"""How Apps and installations look in answers and payloads of the GitHub simulator."""

from __future__ import annotations

from reconciler.sandbox.github import shapes
from reconciler.sandbox.github.records import StoredApp, StoredInstallation
from reconciler.sandbox.github.state import GitHubState


def app(state: GitHubState, stored: StoredApp) -> dict[str, object]:
    """Return an App as ``GET /app`` shows it."""
    count = sum(1 for row in state.records["installations"].values() if row["app_id"] == stored["id"])
    return {
        "id": stored["id"],
        "client_id": stored["client_id"],
        "slug": stored["slug"],
        "node_id": f"A_{stored['id']}",
        "owner": state.user(stored["owner"]),
        "name": stored["name"],
        "description": stored["description"],
        "external_url": stored["external_url"],
        "html_url": f"https://github.com/apps/{stored['slug']}",
        "created_at": stored["created_at"],
        "updated_at": stored["updated_at"],
        "permissions": {**stored["permissions"], "metadata": "read"},
        "events": list(stored["events"]),
        "installations_count": count,
    }


def installation(state: GitHubState, owner: StoredApp, stored: StoredInstallation) -> dict[str, object]:
    """Return an installation."""
    account = state.user(stored["account"])
    organization = account["type"] == "Organization"
    where = f"organizations/{account['login']}/settings" if organization else "settings"
    url = f"{state.base_url}/app/installations/{stored['id']}"
    suspended_by = stored["suspended_by"]
    return {
        "id": stored["id"],
        "client_id": owner["client_id"],
        "account": account,
        "repository_selection": stored["repository_selection"],
        "access_tokens_url": f"{url}/access_tokens",
        "repositories_url": f"{state.base_url}/installation/repositories",
        "html_url": f"https://github.com/{where}/installations/{stored['id']}",
        "app_id": owner["id"],
        "app_slug": owner["slug"],
        "target_id": account["id"],
        "target_type": account["type"],
        "permissions": {**stored["permissions"], "metadata": "read"},
        "events": list(stored["events"]),
        "created_at": stored["created_at"],
        "updated_at": stored["updated_at"],
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": state.user(suspended_by) if suspended_by else None,
        "suspended_at": stored["suspended_at"],
    }


def hook(stored: StoredApp) -> dict[str, object]:
    """Return an App's hook as its ping shows it."""
    own = stored["hook"]
    return {
        "type": "App",
        "id": own["id"],
        "name": "web",
        "active": own["active"],
        "events": list(stored["events"]),
        "config": shapes.config(own["config"]),
        "updated_at": own["updated_at"],
        "created_at": own["created_at"],
        "app_id": stored["id"],
        "deliveries_url": "https://api.github.com/app/hook/deliveries",
    }
