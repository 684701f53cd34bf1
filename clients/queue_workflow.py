#!/usr/bin/env python3
"""Queue a workflow in API form on a running ComfyUI, watch it, and fetch what it made.

    python clients/queue_workflow.py workflows/api/text_to_animation.json --set 7.seed=5 --set 6.batch_size=32

Needs aiohttp, which ComfyUI's own Python has. Ends with 0 when all is fetched, else with 1 and the server's words.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
import json
from pathlib import Path, PurePosixPath
import sys
from typing import Any
import uuid

import aiohttp

LOCAL = "http://127.0.0.1:8188"
FEW_SECONDS = 30  # for an answer; a workflow may take as long as it likes
QUIET_SECONDS = 120  # between two signs of life of a server, so that one whose machine has vanished is noticed

Progress = Callable[[str], None]


def load_workflow(path: Path) -> dict:
    """Raises ValueError for a file that is no workflow in API form."""
    try:
        workflow = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no workflow: it cannot be read as JSON ({error})") from error
    if not isinstance(workflow, dict) or not all(isinstance(n, dict) and "class_type" in n for n in workflow.values()):
        raise ValueError(f"{path} is not in API form. On the page: Workflow, Export (API).")
    return workflow


def with_overrides(workflow: dict, overrides: dict[str, Any]) -> dict:
    """A copy with other inputs. Keys are `node.input`: the node's number, or its title or class if no other has that.

    Raises ValueError for a node or an input that the workflow does not have.
    """
    workflow = json.loads(json.dumps(workflow))
    for key, value in overrides.items():
        name, _, field = key.rpartition(".")
        node = workflow[find_node(workflow, name)]
        if field not in node["inputs"]:
            raise ValueError(f"{node['class_type']} has no input {field!r}; it has {', '.join(node['inputs'])}")
        node["inputs"][field] = value
    return workflow


def find_node(workflow: dict, name: str) -> str:
    if name in workflow:
        return name
    called = [key for key, node in workflow.items() if name in (node["class_type"], node.get("_meta", {}).get("title"))]
    if len(called) != 1:
        known = ", ".join(f"{key} ({node['class_type']})" for key, node in workflow.items())
        raise ValueError(f"{len(called)} nodes are called {name!r}; name one of {known}")
    return called[0]


def parse_value(text: str) -> Any:
    """As JSON where it is (7, 0.5, true), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class Client:
    """One ComfyUI server. Raises RuntimeError in the server's words, OSError when it is not there (any more)."""

    def __init__(self, url: str = LOCAL):
        self.url = url.rstrip("/")

    async def render(self, workflow: dict, progress: Progress = lambda line: None) -> list[dict]:
        """Queue a workflow and wait for its end. Returns the files that it made, for `fetch`."""
        client_id = uuid.uuid4().hex
        address = f"{self.url}/ws?clientId={client_id}"
        try:
            async with (
                self._session() as session,
                session.ws_connect(address, max_msg_size=0, heartbeat=QUIET_SECONDS) as socket,
            ):
                prompt_id = await self._queue(session, {"prompt": workflow, "client_id": client_id})
                try:
                    await self._wait(socket, prompt_id, workflow, progress)
                except (asyncio.CancelledError, KeyboardInterrupt):
                    await self._cancel(prompt_id)
                    raise
                history = await self._json(session, "GET", f"/history/{prompt_id}")
        except (aiohttp.ClientError, asyncio.TimeoutError) as lost:
            raise ConnectionError(f"No answer from {self.url}: {lost or 'it took too long'}") from lost
        return made_files(history[prompt_id]["outputs"])

    async def fetch(self, made: dict) -> bytes:
        """One file's content. Raises RuntimeError for a folder of pictures, which a server does not hand out."""
        if str(made.get("format", "")).endswith("png"):
            raise RuntimeError(f"{made['fullpath']} is a folder on the server: choose a video format, or use SaveImage")
        query = {name: made[name] for name in ("filename", "subfolder", "type")}
        try:
            async with self._session() as session, session.get(f"{self.url}/view", params=query) as reply:
                reply.raise_for_status()
                return await reply.read()
        except (aiohttp.ClientError, asyncio.TimeoutError) as lost:
            raise ConnectionError(f"{made['filename']} cannot be fetched from {self.url}: {lost}") from lost

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(connect=FEW_SECONDS, total=None))

    async def _json(self, session: aiohttp.ClientSession, method: str, path: str, **content: Any) -> dict:
        timeout = aiohttp.ClientTimeout(total=FEW_SECONDS)
        async with session.request(method, self.url + path, timeout=timeout, **content) as reply:
            text = await reply.text()
        answer = json.loads(text) if text.startswith(("{", "[")) else {"error": text}
        if not reply.ok:
            raise RuntimeError(refusal(answer))
        return answer

    async def _queue(self, session: aiohttp.ClientSession, prompt: dict) -> str:
        return (await self._json(session, "POST", "/prompt", json=prompt))["prompt_id"]

    async def _cancel(self, prompt_id: str) -> None:
        """Take it out of the queue, or stop it where it runs."""
        async with self._session() as session:
            await session.post(f"{self.url}/queue", json={"delete": [prompt_id]})
            await session.post(f"{self.url}/interrupt", json={"prompt_id": prompt_id})

    async def _wait(
        self, socket: aiohttp.ClientWebSocketResponse, prompt_id: str, workflow: dict, progress: Progress
    ) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue  # pictures of previews
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "execution_error":
                raise RuntimeError("{node_type} (node {node_id}): {exception_message}".format(**data).strip())
            if kind == "execution_interrupted":
                raise RuntimeError("Somebody interrupted it.")
            if kind == "executing" and data["node"] is None:
                return
            if kind == "executing":
                progress(workflow.get(data["node"], {}).get("class_type", str(data["node"])))
            if kind == "progress":
                progress(f"  {data['value']} of {data['max']}")
        raise ConnectionError(f"{self.url} closed the connection before the workflow ended")


def refusal(answer: dict) -> str:
    """Why the server did not take a workflow, with each node's own reasons."""
    error = answer.get("error", answer)
    lines = [error["message"] if isinstance(error, dict) else str(error)]
    for number, node in (answer.get("node_errors") or {}).items():
        said = [f"{one['message']}: {one['details']}" for one in node["errors"]]
        lines.append(f"node {number} ({node['class_type']}): {'; '.join(said)}")
    return "\n".join(lines)


def made_files(outputs: dict) -> list[dict]:
    """Every file that a node says it made, once. Video Combine's own stands under gifs, beside what the page plays."""
    shown = [[output["gifs"]] if "gifs" in output else output.values() for output in outputs.values()]
    found = [
        one
        for lists in shown
        for listed in lists
        if isinstance(listed, list)
        for one in listed
        if isinstance(one, dict) and {"filename", "subfolder", "type"} <= set(one)
    ]
    return list({(one["type"], one["subfolder"], one["filename"]): one for one in found}.values())


def names_in_one_folder(made: list[dict]) -> list[str]:
    """A name for each of these files; of those called alike, in other subfolders, the later ones are numbered."""
    names: list[str] = []
    taken: set[str] = set()
    for one in made:
        plain = PurePosixPath(one["filename"])
        name, number = plain.name, 1
        while name.casefold() in taken:  # Windows takes A.png and a.png for one
            number += 1
            name = f"{plain.stem}-{number}{plain.suffix}"
        taken.add(name.casefold())
        names.append(name)
    return names


def parse_overrides(texts: list[str]) -> dict[str, Any]:
    for text in texts:
        if "=" not in text or "." not in text.split("=", 1)[0]:
            raise ValueError(f"--set {text}: write node.input=value, for example 7.seed=5")
    return {key: parse_value(value) for key, _, value in (text.partition("=") for text in texts)}


async def main(options: argparse.Namespace) -> None:
    workflow = with_overrides(load_workflow(options.workflow), parse_overrides(options.set))
    client = Client(options.server)
    options.out.mkdir(parents=True, exist_ok=True)
    made = await client.render(workflow, progress=lambda line: print(line, flush=True))
    for one, name in zip(made, names_in_one_folder(made), strict=True):
        path = options.out / name
        path.write_bytes(await client.fetch(one))
        print(f"fetched: {path}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workflow", type=Path, help="a .json file in API form, as in workflows/api")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="may be repeated")
    parser.add_argument("--server", default=LOCAL, help=f"default {LOCAL}")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the files, default results")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main(arguments()))
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(str(error))  # to stderr, with exit code 1
    except KeyboardInterrupt:
        sys.exit(130)  # the server has been told
