"""What browsers are told about the page, whether the server sends it or an export holds it."""

from __future__ import annotations


def content_policy(scripts: str = "") -> str:
    """Return what the page may load, as a content security policy.

    Args:
        scripts: what scripts may do besides being files of the page.
    """
    own = f"script-src 'self' {scripts}; " if scripts else ""
    return (
        f"default-src 'self'; img-src 'self' data: blob:; {own}object-src 'none'; base-uri 'none'; form-action 'none'"
    )


def page_headers(policy: str) -> dict[str, str]:
    """Return the headers of every file of the page, given its policy. None of them lets another site's page read it."""
    return {
        # Not in the policy itself, because a page that states its own cannot say this (CSP level 3, section 3.3).
        "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
