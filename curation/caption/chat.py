"""One chat completion in OpenAI's format: a request as JSON, and an answer's JSON as a reply.

`curation.caption.with_openai` sends the one and receives the other. Answers are untrusted.
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image

from curation.caption.backend import Reply, Request
from curation.text import without_halves

JPEG_QUALITY = 95
PNG_PIXELS = 256 * 256
"""Images of up to this many pixels are sent as they are: PNG is small there, and JPEG would smear them."""
_MOST_TOKENS = 10_000_000
"""A larger count is no count."""


def request_body(model: str, request: Request) -> bytes:
    """The JSON that asks `model` for `request`, with the image in it."""
    content: Any = request.prompt
    if request.image is not None:
        content = [
            {"type": "image_url", "image_url": {"url": data_url(request.image)}},
            {"type": "text", "text": request.prompt},
        ]
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.temperature:
        body["seed"] = request.seed
    return json.dumps(body).encode()


def data_url(image: Image.Image) -> str:
    """An RGB image as a `data:` URL."""
    file = io.BytesIO()
    small = image.width * image.height <= PNG_PIXELS
    if small:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def read_reply(body: bytes) -> Reply:
    """The reply that a chat completion's JSON holds. Raises ValueError, in words for people, where it holds none."""
    answer = _json(body)
    try:
        choice = answer["choices"][0]
        text, ended = choice["message"]["content"], choice["finish_reason"]
    except (LookupError, TypeError):
        raise ValueError("the answer is no chat completion") from None
    if not isinstance(ended, str):
        raise ValueError("the answer does not say why it ended (finish_reason)")
    if not isinstance(text, str):
        raise ValueError(f"the answer holds no text (finish_reason: {ended[:40]})")
    usage = answer.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(tokens, int) or not 0 <= tokens <= _MOST_TOKENS:
        tokens = 0
    return Reply(without_halves(text).strip(), tokens=tokens, cut_off=ended == "length")


def read_fault(body: bytes) -> str:
    """What a server says about an error, in one line; empty where it says nothing that can be read."""
    try:
        answer = _json(body)
    except ValueError:
        said: Any = body.decode("utf-8", "replace")
    else:
        said = answer
        for _ in range(2):  # {"error": {"message": …}} at OpenAI and SGLang, {"message": …} at vLLM, {"detail": …}
            if isinstance(said, dict):
                said = next((said[key] for key in ("error", "message", "detail") if said.get(key)), "")
    return " ".join(without_halves(said if isinstance(said, str) else json.dumps(said)).split())


def model_names(body: bytes) -> list[str]:
    """Names in a list of models; empty where it is none."""
    try:
        listed = _json(body)["data"]
        return [str(model["id"]) for model in listed]
    except (ValueError, LookupError, TypeError):
        return []


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the answer is not JSON") from None
