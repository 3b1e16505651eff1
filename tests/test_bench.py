"""The benchmark: what it measures is what it says, its figures are made right, and it ends well whatever happens."""

from __future__ import annotations

import gc
import importlib.util
import json
import socket
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from trio_tls.bench.chart import MARKS, NARROW, WIDE, Layout, drawn
from trio_tls.bench.measurement import SUITE, Measurement, UnfairError
from trio_tls.bench.peers import BASE, PEERS, missing
from trio_tls.bench.peers.base import check
from trio_tls.bench.processes import PeakMemory, processor_time, resident_memory
from trio_tls.bench.report import as_rst, as_text
from trio_tls.bench.results import NotResults, Quartiles, Results, sections
from trio_tls.bench.runner import Client, Server, WorkerFailed, measure_all, settings_in
from trio_tls.bench.wire import Relay
from trio_tls.bench.workloads import IDLE, SEND, WORKLOADS, Kind, Request
from trio_tls.cli import main
from trio_tls.cli.problem import ExitStatus

DOCS = Path(__file__).parent.parent / "docs" / "performance"


def measured(count: int, seconds: float, cpu: float = 1.0) -> Measurement:
    return Measurement(count, seconds, cpu, 2 * cpu)


@pytest.fixture
def results() -> Results:
    """Two rounds, in which our machine is twice as fast as trio.SSLStream, then four times."""
    return Results(
        {"date": "2026-01-02", "machine": "a <machine> & its core", "python": "CPython 3.11"},
        {
            "upload-64k": {
                "trio": [measured(100, 1.0), measured(100, 2.0)],
                "own": [measured(200, 1.0), measured(400, 2.0, cpu=1.0)],
                "tcp": [measured(100, 0.25), measured(100, 0.25)],
            },
            "full-1": {"trio": [measured(10, 1.0)], "own": [measured(5, 1.0)], "own-hybrid": [measured(10, 1.0)]},
            SEND: {
                "own": [Measurement(1, 1.0, extra_rss=2 << 20, stall=0.003, stall_cpu=0.002)],
                "blocking": [Measurement(1, 1.0, extra_rss=1 << 20)],
            },
            IDLE: {"own": [Measurement(200, 1.0, client_rss=6 * 1024, server_rss=11.5 * 1024)]},
            "wire": {"own": [Measurement(1, 0.1, sent=3, received=2, round_trips=2)]},
        },
    )


# -- what is made of the measurements ------------------------------------------------------------------------


def test_a_ratio_is_made_within_a_round_before_the_median_is_taken(results: Results) -> None:
    speed = sections(results)[0]
    upload = speed.rows[0]
    assert upload.title == "upload, 64 KiB writes"
    assert upload.cells["own"] == Quartiles(2.5, 3.0, 3.5)
    assert upload.cells["trio"].median == 1
    assert upload.base == "4.92 MB/s"  # the median of 6.55 and 3.28


def test_processor_time_is_told_for_each_end_and_by_the_byte(results: Results) -> None:
    processor = next(section for section in sections(results) if section.name == "processor")
    assert [row.title for row in processor.rows] == ["upload, 64 KiB writes: client", "upload, 64 KiB writes: server"]
    assert processor.rows[0].cells["own"] == Quartiles(0.3125, 0.375, 0.4375)


def test_memory_and_wire_are_told_as_they_are(results: Results) -> None:
    figures = {
        row.title: {peer: (cell.median, row.unit) for peer, cell in row.cells.items()}
        for section in sections(results)[2:]
        for row in section.rows
    }
    assert figures["an idle connection: server"] == {"own": (11.5, "KiB")}
    assert figures["one send of 200 MB: extra memory"] == {"own": (2, "MiB"), "blocking": (1, "MiB")}
    assert figures["one send of 200 MB: longest stall"] == {"own": (3, "ms")}
    assert figures["segments with data from the client"] == {"own": (3, "")}


def test_without_the_base_the_figures_themselves_are_told(results: Results) -> None:
    alone = Results({}, {"full-1": {"own": [measured(5, 1.0)]}})
    (row,) = sections(alone)[0].rows
    assert (row.cells["own"].median, row.unit, row.base) == (5, "1/s", "")
    assert "full handshakes, 1/s" in "\n".join(as_text(alone, 80))


def test_results_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(results.to_json())
    assert Results.load(path) == results


@pytest.mark.parametrize(
    "content", ["", "[]", '{"about": {}, "measurements": {"full-1": {"trio": [{"speed": 1}]}}}', '{"about": 1}', "\xff"]
)
def test_what_are_no_results_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(NotResults, match="does not have the results"):
        Results.load(path)


@pytest.mark.parametrize("strange", ['{"swimming": {}}', '{"full-1": {"somebody": []}}'])
def test_results_of_another_version_are_refused(strange: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(f'{{"about": {{}}, "measurements": {strange}}}')
    with pytest.raises(NotResults, match="another version"):
        Results.load(path)


# -- how it is shown -----------------------------------------------------------------------------------------


def test_a_narrow_terminal_gets_the_peers_below_each_other(results: Results) -> None:
    wide, narrow = (list(as_text(results, width)) for width in (200, 80))
    assert max(map(len, narrow)) <= 81
    assert len(narrow) > len(wide)
    assert "".join(wide).count("3.00 [2.50-3.50]") == "".join(narrow).count("3.00 [2.50-3.50]") == 1


def test_a_table_of_the_manual_has_a_column_for_every_peer(results: Results) -> None:
    table = as_rst(results, "speed")
    assert "   * -\n     - trio.SSLStream\n     - TLSStream: our machine\n     - TCP\n" in table
    assert "   * - full handshakes\n     - 10 1/s\n     - 0.50\n     - n/a\n     - 1.00\n" in table
    with pytest.raises(LookupError):
        as_rst(results, "height")


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_the_chart_is_a_picture_of_its_own_with_a_mark_for_every_peer(results: Results, layout: Layout) -> None:
    picture = drawn(results, layout)
    root = ElementTree.fromstring(picture)
    told = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "TLSStream on our machine: 3.00, quartiles 2.50 and 3.50" in told
    assert "our machine, X25519MLKEM768: 1.00" in told
    assert "prefers-color-scheme: dark" in picture
    assert "href" not in picture
    assert "a &lt;machine&gt; &amp; its core" in picture


def test_every_peer_but_the_base_has_a_mark() -> None:
    assert set(MARKS) == set(PEERS) - {BASE}
    assert len({(shape, light) for shape, light, _ in MARKS.values()}) == len(MARKS)


def test_a_chart_needs_something_to_compare() -> None:
    with pytest.raises(LookupError, match="speeds"):
        drawn(Results({}, {"full-1": {"own": [measured(5, 1.0)]}}))


# -- the parts that measure ----------------------------------------------------------------------------------


def test_a_request_is_read_as_it_was_written() -> None:
    request = Request(Kind.UPLOAD, 65536, 2**40)
    assert Request.decode(request.encode()) == request
    assert len(request.encode()) == Request.LENGTH


def test_a_handshake_that_is_not_what_it_should_be_is_unfair() -> None:
    full, resumed = WORKLOADS["full-1"], WORKLOADS["resumed-1"]
    check(SUITE, False, full)
    check(SUITE, True, resumed)
    for suite, was_resumed, workload in (
        ("TLS_AES_128_GCM_SHA256", False, full),
        (SUITE, True, full),
        (SUITE, False, resumed),
    ):
        with pytest.raises(UnfairError):
            check(suite, was_resumed, workload)


def test_what_the_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = 2**22 + 1  # more than a process's number can be
    assert processor_time(nobody) is None
    assert resident_memory(nobody) is None
    monkeypatch.setattr(Path, "write_text", lambda *args, **named: (_ for _ in ()).throw(PermissionError()))
    assert PeakMemory().extra() is None


def test_a_peer_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'trio_tls[bench]'" in (missing("uvloop", tmp_path) or "")
    assert missing("own", tmp_path) is None


@pytest.mark.parametrize(("tool", "reason"), [(None, "no C compiler"), ("/bin/false", "cannot be compiled")])
def test_without_a_compiler_the_c_peer_is_left_out(
    tool: str | None, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: tool)
    assert reason in (missing("libssl", tmp_path) or "")


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that answers 777 bytes after the second thing it hears, and waits for the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"hello")
                connection.recv(100)
                connection.sendall(b"d" * 777)
                while connection.recv(100):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_the_relay_counts_until_the_answer_has_passed(silent_server: int) -> None:
    relay = Relay(silent_server, 777)
    with socket.create_connection(("127.0.0.1", relay.port)) as client:
        for said, heard in ((b"one", 5), (b"two", 777)):
            client.sendall(said)
            while heard:
                heard -= len(client.recv(heard))
        client.sendall(b"goodbye")  # not counted any more
    relay.finish()
    assert relay.round_trips == 2
    if hasattr(socket, "TCP_INFO"):
        assert (relay.sent, relay.received) == (2, 2)


def test_a_relay_whose_client_never_comes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_tls.bench.wire.PATIENCE", 0.01)
    relay = Relay(1, 777)
    relay.finish()
    assert relay.sent is None


# -- the processes -------------------------------------------------------------------------------------------


def test_two_peers_are_measured_one_after_the_other_in_every_round(tmp_path: Path) -> None:
    told: list[str] = []
    names = ("upload-64k", "full-1", "resumed-1", "wire")
    measurements = measure_all(
        [WORKLOADS[name] for name in names],
        ["trio", "own"],
        rounds=2,
        seconds=0.01,
        few=1,
        budget=1000,
        settings=settings_in(tmp_path),
        tell=told.append,
    )
    for name in names:
        assert {peer: len(rounds) for peer, rounds in measurements[name].items()} == {
            "trio": 2 if WORKLOADS[name].timed else 1,
            "own": 2 if WORKLOADS[name].timed else 1,
        }
    assert [line.partition("  ")[0] for line in told] == [*["round 1/2"] * 4, *["round 2/2"] * 3]
    upload = measurements["upload-64k"]["own"][0]
    assert upload.seconds > 0 and upload.client_cpu is not None and upload.client_cpu > 0
    wire = measurements["wire"]["own"][0]
    assert wire.round_trips == 2


def test_a_run_ends_when_its_time_is_over(tmp_path: Path) -> None:
    told: list[str] = []
    measurements = measure_all(
        [WORKLOADS["pingpong-1"]],
        ["tcp"],
        rounds=1000,
        seconds=0.01,
        few=1,
        budget=0.001,
        settings=settings_in(tmp_path),
        tell=told.append,
    )
    assert len(measurements["pingpong-1"]["tcp"]) == 1
    assert told[-1] == "the time is over after 1 of 1000 rounds"


def test_a_process_that_dies_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = settings_in(tmp_path)
    with Server("trio", None, settings) as server, Client("trio", None, settings) as client:
        with pytest.raises(WorkerFailed, match="ended early"):
            client.measure(replace(WORKLOADS["full-1"], name="of another version"), 1, server)
        with pytest.raises(WorkerFailed, match="ended early"):
            client.measure(WORKLOADS["full-1"], 1, server)
    assert "KeyError" in capfd.readouterr().err


def test_a_server_that_does_not_start_is_told_and_leaves_nothing_open(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkerFailed, match="ended early"):
        Server("of another version", None, settings_in(tmp_path))
    assert "KeyError" in capfd.readouterr().err
    gc.collect()  # whatever is left open warns, which is an error here


def test_a_process_that_is_stuck_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    with Client("tcp", None, settings) as client, socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("trio_tls.bench.runner.ANSWER", 0.5)
        with pytest.raises(WorkerFailed, match="stuck"):
            client.ask({"workload": "full-1", "count": 1, "server": 1, "port": silent.getsockname()[1]})


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_has_every_workload_that_it_can(
    peer: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert missing(peer, tmp_path) is None
    few = [replace(workload, first_count=min(workload.first_count, 2)) for workload in WORKLOADS.values()]
    measurements = measure_all(
        few,
        [peer],
        rounds=1,
        seconds=0.005,
        few=1,
        budget=1000,
        settings=settings_in(tmp_path),
        tell=lambda line: None,
    )
    assert {name for name, by_peer in measurements.items() if by_peer} == {
        name for name, workload in WORKLOADS.items() if PEERS[peer].can(workload)
    }
    assert not capfd.readouterr().err


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_measures_and_writes_what_the_manual_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    arguments = ["--quick", "--rounds", "1", "--seconds", "0.01", "--only", "pingpong-1k,full-1", "--peers", "own,trio"]
    assert main(["bench", *arguments, "--out", str(out)]) == ExitStatus.OK
    printed = capsys.readouterr()
    assert "ping-pong, 1 KiB" in printed.out
    assert "round 1/1" in printed.err
    results = Results.load(out / "results.json")
    assert results.peers == ["trio", "own"]
    assert list(results.measurements) == ["pingpong-1k", "full-1"]
    assert (out / "chart.svg").read_text() == drawn(results, WIDE)
    assert (out / "chart-narrow.svg").read_text() == drawn(results, NARROW)
    assert main(["bench", "--from", str(out / "results.json"), "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out) == json.loads(results.to_json())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "swimming"], "there is no workload swimming"),
        (["--peers", "trio,somebody"], "there is no peer somebody"),
        (["--rounds", "0"], "a number from 1 to 1000"),
        (["--from", "/nowhere/results.json"], "cannot be read"),
        (["--from", __file__], "does not have the results"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == ExitStatus.USAGE
    error = capsys.readouterr().err
    assert told in error
    assert "\n  " in error  # the hint


def test_without_its_packages_the_command_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench"]) == ExitStatus.USAGE
    assert "pip install 'trio_tls[bench]'" in capsys.readouterr().err


def test_if_no_peer_is_left_the_command_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["bench", "--peers", "libssl"]) == ExitStatus.USAGE
    assert "without the peer libssl: there is no C compiler" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "status"),
    [(UnfairError("a strange suite"), ExitStatus.TLS), (WorkerFailed("it ended early"), ExitStatus.NETWORK)],
)
def test_a_run_that_fails_says_so_in_one_sentence(
    failure: Exception, status: ExitStatus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **settings: object) -> None:
        raise failure

    monkeypatch.setattr("trio_tls.cli.bench.measure_all", fail)
    assert main(["bench", "--peers", "trio"]) == status
    assert str(failure) in capsys.readouterr().err


def test_results_that_make_no_chart_are_written_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alone.json"
    path.write_text(Results({}, {"full-1": {"own": [measured(5, 1.0)]}}).to_json())
    assert main(["bench", "--from", str(path), "--out", str(tmp_path)]) == ExitStatus.USAGE
    assert "Measure trio too" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == path.read_text()


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "alone.json"
    path.write_text(Results({}, {"full-1": {"own": [measured(5, 1.0)]}}).to_json())
    assert main(["bench", "--from", str(path), "--out", str(path)]) == ExitStatus.USAGE
    assert "cannot be written" in capsys.readouterr().err


# -- what the manual shows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layout"), [("chart.svg", WIDE), ("chart-narrow.svg", NARROW)])
def test_the_charts_of_the_manual_are_those_of_its_results(name: str, layout: Layout) -> None:
    assert (DOCS / name).read_text() == drawn(Results.load(DOCS / "results.json"), layout)


def test_the_results_of_the_manual_have_every_peer_and_every_workload() -> None:
    results = Results.load(DOCS / "results.json")
    for name, workload in WORKLOADS.items():
        assert set(results.measurements[name]) == {peer for peer in PEERS if PEERS[peer].can(workload)}, name


def tables() -> ModuleType:
    """The extension of the manual that makes the tables."""
    spec = importlib.util.spec_from_file_location("docs_benchmark", DOCS.parent / "_ext" / "benchmark.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_manual_has_every_table() -> None:
    page = (DOCS.parent / "performance.rst").read_text()
    for section in sections(Results.load(DOCS / "results.json")):
        assert f".. benchmark:: {section.name}\n" in page
        assert tables().benchmark(section.name)
    for name in json.loads((DOCS / "profile.json").read_text()):
        assert f".. profile:: {name.partition(': ')[2]}\n" in page


def test_the_manual_tells_what_was_measured_with() -> None:
    told = tables().measured()
    assert told.startswith("Measured on 20")
    assert SUITE in told


def test_the_shares_of_a_profile_come_to_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    own = {"machine/tls13/record_reader": 0.5, "machine/tls13/suites": 0.3, "pump": 0.1, "strange": 0.09, "trust": 0.01}
    path.write_text(json.dumps({"ssl: work": {"ssl": 0.9, "trio/_core": 0.1}, "own: work": own}))
    table = tables().profile("work", path)
    assert "   * - OpenSSL, by `ssl`\n     - 90%\n     - 0%\n" in table
    assert "   * - records: decryption\n     - 0%\n     - 50%\n" in table
    assert "   * - the rest of the handshake and of the machine\n     - 0%\n     - 30%\n" in table
    assert "   * - the stream: pump, send, receive, close\n     - 0%\n     - 10%\n" in table
    assert "   * - everything else\n     - 0%\n     - 10%\n" in table
