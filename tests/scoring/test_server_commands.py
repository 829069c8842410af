"""The commands of the reward servers: arguments that cannot be used are one line on stderr, and status 2."""

import socket
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from drift_pl.scoring import example_server, geneval_server, vote_server

GENEVAL = ("--detector", "D", "--colours", "C")
COMMANDS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "example_server": (example_server.main, ()),
    "geneval_server": (geneval_server.main, GENEVAL),
    "vote_server": (vote_server.main, ()),
}


@pytest.fixture(autouse=True)
def _in_a_folder_without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*arguments: Any) -> None:
        raise AssertionError("models are loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(geneval_server, "examiner_of", loaded)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", lambda server: None)


@pytest.fixture
def taken() -> Iterator[str]:
    """A port on which somebody listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield str(other.getsockname()[1])


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command with these arguments says before it ends."""

    def run(command: str, *arguments: str) -> str:
        main, needed = COMMANDS[command]
        monkeypatch.setattr("sys.argv", [command, *needed, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert said.count("\n") == 1, said
        return said.removeprefix(f"{command}: error: ").rstrip("\n")

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_port_in_use_is_one_line(command: str, refusal: Callable[..., str], taken: str) -> None:
    """Catches in scoring/example_server.py: a traceback; status 1.

    Catches in scoring/geneval_server.py: models loaded for a port in use.
    """
    expected = f"--host 127.0.0.1 --port {taken}: cannot listen there (Address already in use); use --port 0"
    assert refusal(command, "--port", taken).startswith(expected)


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "8001.5", "0000099999", "", "\u0663"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_port_is_one_line(command: str, port: str, refusal: Callable[..., str]) -> None:
    """Catches in scoring/example_server.py: a number that no port has, for which sockets raise an OverflowError."""
    assert refusal(command, f"--port={port}") == (
        f"argument --port: {port} is no port; give 1 to 65535, or 0 for a free one"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 64, "a..b"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_host_that_is_not_this_machine_is_one_line(command: str, host: str, refusal: Callable[..., str]) -> None:
    """Catches in scoring/example_server.py: a UnicodeError of a name that is too long, or has an empty part."""
    said = refusal(command, "--host", host, "--port", "0")
    assert said.startswith(f"--host {host} --port 0: cannot listen there (")
    assert said.endswith("); use --host 127.0.0.1, which is this machine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--voters", "0"), "--voters=0: somebody must vote on each group; give 1 or more"),
        (("--voters", "-2"), "--voters=-2: somebody must vote on each group; give 1 or more"),
        (("--votes", "file/votes.jsonl"), "--votes=file/votes.jsonl: it cannot be read and written ("),
        (("--votes", "."), "--votes=.: it cannot be read and written ("),
        (("--votes", "file"), "--votes=file, line 1: it is no vote; mend or remove it"),
    ],
)
def test_votes_that_cannot_be_kept_are_one_line(
    arguments: tuple[str, ...], said: str, refusal: Callable[..., str]
) -> None:
    """Catches in scoring/vote_server.py: a traceback; no voters, which ends every request with a KeyError."""
    Path("file").write_text("nonsense\n")
    found = refusal("vote_server", "--port", "0", *arguments)
    assert found.startswith(said)
    assert "cannot" not in said or found.endswith("; give a file in a folder of yours, such as votes.jsonl")


def test_models_that_cannot_be_loaded_leave_the_port(refusal: Callable[..., str]) -> None:
    """Catches in scoring/geneval_server.py: a traceback for a device or a package that torch does not have."""
    assert refusal("geneval_server", "--port", "0") == "--detector D --colours C: models are loaded"


@pytest.mark.parametrize(
    ("command", "printed"), [("example_server", "scoring on http"), ("vote_server", "vote at http")]
)
def test_arguments_that_can_be_used_serve(
    command: str, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, needed = COMMANDS[command]
    monkeypatch.setattr("sys.argv", [command, *needed, "--port", "0"])
    main()
    assert capsys.readouterr().out.startswith(f"{printed}://127.0.0.1:")


def test_the_geneval_server_answers_with_what_was_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in scoring/geneval_server.py: a server that was bound first and scores by brightness."""
    monkeypatch.setattr(geneval_server, "examiner_of", lambda *arguments: lambda *asked: [arguments, asked])
    monkeypatch.setattr("sys.argv", ["geneval_server", *GENEVAL, "--port", "0", "--strict"])
    found: list[Any] = []

    def ask(server: Any) -> None:
        found.extend(server.RequestHandlerClass.score(["image"], ["a"], [None]))

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", ask)
    geneval_server.main()
    assert found == [("D", "C", "cpu", True), (["image"], ["a"], [None])]
    assert capsys.readouterr().out.startswith("scoring on http://127.0.0.1:")
