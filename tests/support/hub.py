"""A hub of data sets on this machine, which speaks what huggingface_hub asks when it makes a repository and pushes to it.

Large files go the way of Git LFS, as on the real hub: a batch request, an upload, and a pointer in the commit.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

TOKEN = "hf_a_token_of_the_tests"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """Owns its repositories. `url` is set while it serves; `status` refuses everything with this status."""

    url: str = ""
    status: int | None = None
    repositories: dict[str, Repository] = field(default_factory=dict)
    _large: dict[str, bytes] = field(default_factory=dict)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded], client_max_size=1 << 26)
        add = app.router.add_route
        add("POST", "/api/validate-yaml", self._validate)
        add("POST", "/api/repos/create", self._create)
        add("GET", "/api/datasets/{owner}/{name}/tree/main", self._tree)
        add("POST", "/api/datasets/{owner}/{name}/preupload/main", self._preupload)
        add("POST", "/api/datasets/{owner}/{name}/commit/main", self._commit)
        add("POST", "/datasets/{owner}/{name}.git/info/lfs/objects/batch", self._batch)
        add("PUT", "/large/{oid}", self._upload)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler) -> web.StreamResponse:
        if self.status is not None:
            return web.json_response({"error": "not today"}, status=self.status)
        is_upload = request.path.startswith("/large/")  # its address is the permission
        if not is_upload and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "Invalid username or password."}, status=401)
        return await handler(request)

    async def _validate(self, request: web.Request) -> web.Response:
        document = await request.json()
        license_name = document["content"].partition("license:")[2].split("\n")[0].strip()
        errors = [{"message": '"license" must be one of [cc-by-4.0, other]'}] if license_name == "odd" else []
        return web.json_response({"errors": errors, "warnings": []}, status=400 if errors else 200)

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = f"{body['organization']}/{body['name']}"
        url = {"url": f"{self.url}/datasets/{name}"}
        if body["type"] != "dataset" or name in self.repositories:
            return web.json_response({"error": "You already created this dataset repo", **url}, status=409)
        self.repositories[name] = Repository(private=body["visibility"] == "private")
        return web.json_response(url)

    def _repository(self, request: web.Request) -> Repository:
        return self.repositories[f"{request.match_info['owner']}/{request.match_info['name']}"]

    async def _tree(self, request: web.Request) -> web.Response:
        files = self._repository(request).files
        return web.json_response(
            [{"type": "file", "path": path, "size": len(body), "oid": "0" * 40} for path, body in files.items()]
        )

    async def _preupload(self, request: web.Request) -> web.Response:
        paths = [file["path"] for file in (await request.json())["files"]]
        modes = {path: "lfs" if path.endswith(".parquet") else "regular" for path in paths}
        return web.json_response(
            {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
        )

    async def _batch(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        objects = [
            {"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": f"{self.url}/large/{one['oid']}"}}}
            for one in body["objects"]
        ]
        answer = {"transfer": "basic", "objects": objects}
        return web.Response(body=orjson.dumps(answer), content_type="application/vnd.git-lfs+json")

    async def _upload(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert hashlib.sha256(body).hexdigest() == request.match_info["oid"]
        self._large[request.match_info["oid"]] = body
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        for line in (await request.read()).splitlines():
            entry = orjson.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    repository.commits.append(value["summary"])
                case "file":
                    repository.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    repository.files[value["path"]] = self._large[value["oid"]]
                case "deletedFile":
                    del repository.files[value["path"]]
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        commit = {"commitUrl": f"{self.url}/datasets/{name}/commit/{'1' * 40}", "commitOid": "1" * 40, "success": True}
        return web.json_response(commit)


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub in a thread of its own, for a client that waits for it in this process."""
    hub, loop = Hub(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = web.AppRunner(hub.application(), access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result()
        yield hub
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
