"""A client of a served ComfyUI that asks as any program would: /prompt, /ws and /history."""

import asyncio
from collections.abc import Callable, Coroutine
import json
from typing import Any
import uuid

import aiohttp

REPLY_SECONDS = 30
MESSAGE_SECONDS = 1800  # a large model's first step on a processor takes its time

Watch = Callable[[dict], None]


class ApiClient:
    """Its methods wait for their result, so that tests and scripts read from top to bottom."""

    def __init__(self, url: str):
        self.url = url
        self.client_id = uuid.uuid4().hex

    def get(self, path: str) -> dict:
        return json.loads(self.request("GET", path))

    def post(self, path: str, content: dict) -> dict:
        return json.loads(self.request("POST", path, json=content) or "{}")

    def request(self, method: str, path: str, **content) -> bytes:
        """The body of the reply. content: as aiohttp takes it, `json` or `data`."""
        return self._run(self._request(method, path, **content))

    def render(self, workflow: dict, watch: Watch | None = None, extra_data: dict | None = None) -> dict:
        """Queue a workflow and wait for its end. Returns its history; raises RuntimeError with the node's own words.

        watch: is shown every message of the server, in a thread, so that it may use this client meanwhile.
        """
        prompt = {"prompt": workflow, "client_id": self.client_id, "extra_data": extra_data or {}}
        prompt_id = self._run(self._render(prompt, watch))
        return self.get(f"/history/{prompt_id}")[prompt_id]

    def _run(self, work: Coroutine) -> Any:
        try:
            return asyncio.run(work)
        except (aiohttp.ClientError, asyncio.TimeoutError) as lost:
            raise ConnectionError(f"no answer from {self.url}: {str(lost) or 'it took too long'}") from lost

    def _session(self) -> aiohttp.ClientSession:
        """The server is on this machine, whatever proxy the environment names for others."""
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REPLY_SECONDS), trust_env=False)

    async def _request(self, method: str, path: str, **content) -> bytes:
        async with self._session() as session, session.request(method, self.url + path, **content) as reply:
            body = await reply.read()
        if not reply.ok:
            raise RuntimeError(f"{path} was refused ({reply.status}): {body.decode('utf-8', 'replace')}")
        return body

    async def _render(self, prompt: dict, watch: Watch | None) -> str:
        """The id of the prompt, once it has ended. Listening begins before it is queued, so that nothing is missed."""
        address = f"{self.url}/ws?clientId={self.client_id}"
        async with self._session() as session, session.ws_connect(address, max_msg_size=0) as socket:
            prompt_id = json.loads(await self._request("POST", "/prompt", json=prompt))["prompt_id"]
            while True:
                message = await next_message(socket)
                if watch:
                    await asyncio.to_thread(watch, message)
                if message["data"].get("prompt_id") == prompt_id:
                    raise_failure(message)
                    if message["type"] == "executing" and message["data"]["node"] is None:
                        return prompt_id  # its history is written by now


async def next_message(socket: aiohttp.ClientWebSocketResponse) -> dict:
    """The next one in JSON; pictures of previews are passed over."""
    while True:
        message = await socket.receive(MESSAGE_SECONDS)
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionError("ComfyUI closed the connection before the workflow ended")


def raise_failure(message: dict) -> None:
    if message["type"] == "execution_error":
        raise RuntimeError("{node_type}: {exception_message}".format(**message["data"]).strip())
    if message["type"] == "execution_interrupted":
        raise RuntimeError("the prompt was interrupted")
