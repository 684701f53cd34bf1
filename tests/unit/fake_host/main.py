"""A stand-in for ComfyUI's main.py that answers what the tests' client asks.

A workflow is what it shall do: {"messages": [[type, data], ...], "then": "close" or "die", unless the client leaves}.
"""

import argparse
import asyncio
import os

from aiohttp import web

latest = {}  # the socket, the prompt and its run


async def system_stats(request):
    return web.json_response({})


async def websocket(request):
    latest["socket"] = socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        pass  # until the client closes it
    return socket


async def prompt(request):
    latest["prompt"] = content = await request.json()
    if not content["prompt"]:
        return web.Response(text="prompt_no_outputs", status=400)
    latest["run"] = asyncio.create_task(run(latest["socket"], content["prompt"]))
    return web.json_response({"prompt_id": "id"})


async def run(socket, workflow):
    await socket.send_bytes(b"a preview")
    for kind, data in workflow["messages"]:
        await socket.send_json({"type": kind, "data": {"prompt_id": "id", **data}})
    if workflow.get("then") == "close":
        await socket.close()
    if workflow.get("then") == "die":
        print("out of memory", flush=True)
        os._exit(1)


async def history(request):
    return web.json_response({"id": {"outputs": latest["prompt"]["extra_data"]}})


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--broken", action="store_true")
options, _ = parser.parse_known_args()
if options.broken:
    raise SystemExit("a package is missing")
app = web.Application()
routes = {"/system_stats": system_stats, "/ws": websocket, "/history/id": history}
app.add_routes([web.get(path, answer) for path, answer in routes.items()] + [web.post("/prompt", prompt)])
web.run_app(app, host="127.0.0.1", port=options.port)
