"""The page where a web interface would be, and versions in paths. Source: admin.md 1, 2."""

import re

import pytest

from tests.admin.world import AdminWorld, run_admin

BROWSER = {"user-agent": "Mozilla/5.0", "accept": "text/html"}


@pytest.mark.parametrize("path", ["/ui/", "/ui/invocations/inv_1", "/ui/index.html", "/v4/ui/"])
def test_the_page_answers_at_every_path_of_a_web_interface(path: str) -> None:
    """2: links of the official tools lead there."""

    async def body(world: AdminWorld) -> None:
        answer = await world.client.get(path, headers=BROWSER)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "no web interface here" in answer.text
        assert (await world.client.post(path)).headers["allow"] == "GET,HEAD"

    run_admin(body)


def test_the_page_has_no_dead_link() -> None:
    """Every address that it names answers."""

    async def body(world: AdminWorld) -> None:
        page = await world.client.get("/ui/", headers=BROWSER)
        links = re.findall(r'href="([^"]+)"', page.text)
        assert len(links) == 8
        answers = [await world.client.get(link, headers=BROWSER) for link in links]
        assert {answer.status_code for answer in answers} == {200}

    run_admin(body)


@pytest.mark.parametrize("path", ["/", "/ui", "/v2", "/v3", "/v4", "/v4/ui"])
def test_browsers_are_sent_to_the_page(path: str) -> None:
    """2: 308, with the query."""

    async def body(world: AdminWorld) -> None:
        answer = await world.client.get(f"{path}?a=b")
        assert (answer.status_code, answer.headers["location"]) == (308, "/ui/?a=b")

    run_admin(body)


@pytest.mark.parametrize("path", ["/v1", "/v1/deployments", "/v1/nope/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE", "BREW"])
def test_version_1_is_refused_whatever_is_asked(path: str, method: str) -> None:
    """1: 400, with the versions that there are."""

    async def body(world: AdminWorld) -> None:
        answer = await world.client.request(method, path)
        assert answer.status_code == 400
        assert answer.text.endswith("This server supports versions between V2 and V4.")

    run_admin(body)


@pytest.mark.parametrize("path", ["/v2/", "/v4/", "/v5/version", "/v0/version", "/services/", "/x"])
def test_other_paths_are_unknown(path: str) -> None:
    """1: 404, empty, also for trailing slashes."""

    async def body(world: AdminWorld) -> None:
        answer = await world.client.get(path)
        assert (answer.status_code, answer.content) == (404, b"")

    run_admin(body)
