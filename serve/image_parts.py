"""The image of a request: from a data URL, or from a host that the service allows.

No other scheme is read: a client must not reach files or inner addresses through the service.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from reasoning.records import ImageRef
from serve.api_errors import ApiError
from serve.config import RequestLimits

PARAM = "messages"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An allowed host must not send us to one that is not."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def read_image_url(url: str, limits: RequestLimits) -> ImageRef:
    """The image behind ``url``, its bytes not decoded yet; blocks while it is fetched.

    Raises ApiError 400 (broken data URL), 413 (too large) or 422 (a URL that is not allowed or
    does not answer).
    """
    if url[:5].lower() == "data:":
        return _from_data_url(url, limits)
    parts = urllib.parse.urlsplit(url)
    shown = url if len(url) <= 80 else url[:77] + "..."
    if parts.scheme not in ("http", "https"):
        raise ApiError(f"Image URL {shown!r} is neither a data URL nor http(s).", 400, PARAM, "invalid_image_url")
    if parts.hostname not in limits.image_hosts:
        raise ApiError(
            f"This service does not fetch images from {parts.hostname!r}; send the image itself as a data URL "
            "(data:image/png;base64,...) or add the host to limits.image_hosts.",
            422,
            PARAM,
            "image_url_not_allowed",
        )
    return _fetch(url, shown, limits)


def _from_data_url(url: str, limits: RequestLimits) -> ImageRef:
    header, comma, payload = url.partition(",")
    media_type, _, encoding = header[5:].partition(";")
    if not comma or encoding.strip().lower() != "base64" or not media_type.startswith("image/"):
        raise ApiError("An image data URL reads data:image/<type>;base64,<data>.", 400, PARAM, "invalid_image_url")
    _check_size(len(payload) * 3 // 4, limits)
    try:
        data = base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        raise ApiError(f"The image's base64 is broken: {error}.", 400, PARAM, "invalid_image_url") from error
    if not data:
        raise ApiError("The image is empty.", 400, PARAM, "invalid_image")
    return ImageRef(data=data, media_type=media_type)


def _fetch(url: str, shown: str, limits: RequestLimits) -> ImageRef:
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=limits.fetch_timeout_s) as reply:
            data = reply.read(limits.image_bytes + 1)
            media_type = reply.headers.get_content_type()
    except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
        raise ApiError(f"Image {shown!r} could not be fetched: {error}.", 422, PARAM, "image_not_fetched") from error
    _check_size(len(data), limits)
    return ImageRef(data=data, media_type=media_type)


def _check_size(size: int, limits: RequestLimits) -> None:
    if size > limits.image_bytes:
        raise ApiError(
            f"The image has about {size:,} bytes; at most {limits.image_bytes:,} are taken.", 413, PARAM, "too_large"
        )
