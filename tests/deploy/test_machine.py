"""A Debian that is booted: installed by the documented commands, then led through what a year brings.

The tests are one story and run in this order; each needs those before it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.files import make_pdf
from tests.deploy.implants import CHECK_SIGNATURES, HANG, STAND_INS
from tests.deploy.ingredients import REPOSITORY, SWITCH, NotToBeHadError, why_no_machine
from tests.deploy.machine import Machine, booted
from tests.deploy.pages import commands
from tests.deploy.services import (
    API,
    PROCESSOR,
    SECRET_FILE,
    SENDERS,
    SPOOL,
    expect_nothing_lost,
    main_pid,
    run_still,
    secret_of,
    status_with,
    stored,
    under_load,
    wait_for_words,
    wait_until_active,
    writers,
)
from tests.signing import Authority, sign_pdf

PREVIOUS, CURRENT = "0.0.9", "0.1.0"

pytestmark = [
    pytest.mark.usefixtures("the_story_goes_on"),
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not os.environ.get(SWITCH), reason="boots a machine: make test-deploy"),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if reason := why_no_machine():
        pytest.skip(f"no machine was booted: {reason}")
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(booted(tmp_path_factory.mktemp("machine")))
        except NotToBeHadError as error:
            pytest.skip(f"no machine was booted: {error}")
        yield made


def in_release(machine: Machine, version: str, *blocks: str) -> None:
    for block in blocks:
        machine.run(f"cd /usr/local/src/signspool-{version}\n{block}")


def test_the_documented_commands_install_it(machine: Machine) -> None:
    """On a machine that knows nothing of it; the check that they end with finds nothing wrong."""
    machine.unpack_release(PREVIOUS)
    in_release(machine, PREVIOUS, *commands("Install"))
    for unit in (f"{API}.socket", API, PROCESSOR, "signspool-check.timer"):
        assert machine.show(unit, "ActiveState") == "active", unit
    assert machine.show(API, "StatusText") == "taking callbacks"
    # Said after the first look into the spool, which may come after the command that started it.
    machine.wait(
        lambda: machine.show(PROCESSOR, "StatusText") == "recording what arrives", "the processor to record"
    )
    machine.run("systemctl start signspool-check.service")
    assert '"level": "fail"' not in machine.says("signspool check --json")


def test_secrets_and_settings_are_closed_to_everybody_else(machine: Machine) -> None:
    machine.run("useradd stranger")
    for path in (SECRET_FILE, "/etc/signspool/signspool.toml", SPOOL, f"{SPOOL}/signspool.db"):
        assert machine.run(f"runuser -u stranger -- cat {path}", check=False).returncode != 0
    # Not even the services' own user sees the folder that secrets are given out from.
    assert machine.run(f"runuser -u signspool -- cat {SECRET_FILE}", check=False).returncode != 0


def test_each_unit_is_as_hardened_as_its_file_says(machine: Machine) -> None:
    """Judged by the machine's own systemd, drop-ins and all."""
    for unit in (API, PROCESSOR, "signspool-check", "signspool-api-metrics"):
        machine.run(f"systemd-analyze security --no-pager --threshold=15 {unit}.service")


def test_the_door_has_no_network_and_sees_neither_database_nor_what_was_received(machine: Machine) -> None:
    assert machine.says(f"cat /proc/{main_pid(machine, API)}/net/dev").count(":") == 1
    inside = f"nsenter --target={main_pid(machine, API)} --mount"
    assert machine.run(f"{inside} ls {SPOOL}/done/", check=False).stdout == ""
    assert machine.run(f"{inside} cat {SPOOL}/signspool.db", check=False).stdout == ""


def test_a_callback_is_taken_and_recorded(machine: Machine) -> None:
    with under_load(machine) as load:
        pass
    expect_nothing_lost(machine, load)
    assert "expired" in machine.says("signspool documents show ssign 0-0")


def test_signatures_are_checked_with_all_that_the_unit_takes_away(machine: Machine) -> None:
    """In a process of its own, with the limits that stand in the processor's file."""
    (machine.root / "srv" / "contract.pdf").write_bytes(
        sign_pdf(make_pdf("A contract"), Authority("A").signer())
    )
    (machine.root / "srv" / "check.py").write_text(CHECK_SIGNATURES)
    unit = (REPOSITORY / "deploy" / "systemd" / "signspool-processor.service").read_text()
    limits = re.findall(
        r"^\w+=.*$", unit.partition("\nLimitNOFILE=")[2].partition("\n[Install]")[0], re.MULTILINE
    )
    assert "MemoryDenyWriteExecute=yes" in limits
    properties = shlex.join(f"--property={line}" for line in ("User=signspool", *limits))
    program = "/opt/signspool/current/bin/python3 /srv/check.py"
    assert machine.says(f"systemd-run --quiet --wait --pipe --collect {properties} {program}") == "1"


def test_a_restart_of_both_services_under_load_fails_no_callback(machine: Machine) -> None:
    """Twice, since what is lost is lost by chance."""
    before = main_pid(machine, API), main_pid(machine, PROCESSOR), *writers(machine)
    with under_load(machine) as load:
        for _ in range(2):
            machine.run(f"systemctl restart {API} {PROCESSOR}")
    expect_nothing_lost(machine, load)
    assert len(before) == 3
    assert not run_still(machine, *before)


def test_a_stop_under_load_ends_the_door_and_its_writer_well(machine: Machine) -> None:
    """Nobody has to be killed. The socket keeps what comes, and starts the door again for it."""
    door, (writer,) = main_pid(machine, API), writers(machine)
    before = len(machine.journal(API))
    with under_load(machine) as load:
        machine.run(f"systemctl stop {API}")
        assert not run_still(machine, door, writer)
        wait_until_active(machine, API)
    expect_nothing_lost(machine, load)
    said = machine.journal(API)[before:]
    assert "Deactivated successfully" in said
    assert "Failed with result" not in said
    assert "SIGKILL" not in said
    assert "writer.ended" not in said


def test_a_reload_under_load_fails_no_callback_and_keeps_the_processes(machine: Machine) -> None:
    before = main_pid(machine, API), main_pid(machine, PROCESSOR)
    (writer,) = writers(machine)
    with under_load(machine) as load:
        machine.run("sed -i 's/^trusted_proxies = .*/trusted_proxies = []/' /etc/signspool/signspool.toml")
        machine.run("echo '[processor]\nbatch = 50' >> /etc/signspool/signspool.toml")
        in_release(machine, PREVIOUS, commands("Change settings and secrets")[0])
        wait_for_words(machine, API, "api.trusted_proxies")
        wait_for_words(machine, PROCESSOR, "processor.batch")
        # The door of the new settings has a writer of its own; the other ends with what it had in hand.
        machine.wait(lambda: not run_still(machine, writer), "the writer of before to end")
    expect_nothing_lost(machine, load)
    assert (main_pid(machine, API), main_pid(machine, PROCESSOR)) == before
    assert len(writers(machine)) == 1


def test_wrong_settings_are_refused_by_a_reload_and_the_old_ones_stay(machine: Machine) -> None:
    before = main_pid(machine, API), main_pid(machine, PROCESSOR)
    machine.run("cp -a /etc/signspool/signspool.toml /run/right.toml")
    machine.run("echo '[nonsense]' >> /etc/signspool/signspool.toml")
    with under_load(machine) as load:
        machine.run(f"systemctl reload {API} {PROCESSOR}")
        for unit in (API, PROCESSOR):
            wait_for_words(machine, unit, "settings.refused")
    machine.run("cp -a /run/right.toml /etc/signspool/signspool.toml")
    expect_nothing_lost(machine, load)
    assert (main_pid(machine, API), main_pid(machine, PROCESSOR)) == before


def test_a_new_secret_counts_from_the_reload_on_and_no_callback_fails(machine: Machine) -> None:
    """As the page says, for both services. It lies in its place before, and counts for nothing until then."""
    before = main_pid(machine, API), main_pid(machine, PROCESSOR)
    old = secret_of(machine)
    machine.run(commands("Install")[1])
    new = secret_of(machine)
    assert (status_with(machine, old), status_with(machine, new)) == (200, 401)
    with under_load(machine, old, new) as load:
        machine.run(commands("Change settings and secrets")[0])
        for unit in (API, PROCESSOR):
            wait_for_words(machine, unit, "providers.ssign.secret")
        assert (status_with(machine, old), status_with(machine, new)) == (401, 200)
    expect_nothing_lost(machine, load)
    assert (main_pid(machine, API), main_pid(machine, PROCESSOR)) == before


def test_after_a_reload_too_each_service_sees_its_own_secrets_alone_and_in_memory_alone(
    machine: Machine,
) -> None:
    """The door none of the processor's; nobody can change them, and none lies where it could be swapped."""
    token = "/etc/signspool/credentials/processor/providers.ssign.token"
    machine.run(f"umask 077; echo a-token-of-the-test > {token}")
    machine.run(f"systemctl reload {API} {PROCESSOR}")
    wait_for_words(machine, PROCESSOR, "providers.ssign.token")
    expected = {
        API: {"door_providers.ssign.secret"},
        PROCESSOR: {"door_providers.ssign.secret", "processor_providers.ssign.token"},
    }
    for unit, names in expected.items():
        inside = f"nsenter --target={main_pid(machine, unit)} --mount"
        seen = machine.says(f"{inside} find /run/credentials -type f -printf '%p %m %u %F\\n'")
        folder = f"/run/credentials/{unit}.service"
        assert set(seen.splitlines()) == {f"{folder}/{name} 400 signspool ramfs" for name in names}
        assert machine.run(f"{inside} touch {folder}/more", check=False).returncode != 0
        assert machine.run(f"touch {folder}/more", check=False).returncode != 0
        assert machine.run(f"runuser -u stranger -- ls {folder}", check=False).returncode != 0
    # And one that is taken away is gone.
    machine.run(f"rm {token}; systemctl reload {PROCESSOR}")
    machine.wait(
        lambda: machine.journal(PROCESSOR).count("providers.ssign.token") == 2, "it to be taken over"
    )
    assert "token" not in machine.says(f"ls /run/credentials/{PROCESSOR}.service")


def test_secrets_that_cannot_be_handed_over_fail_the_reload_and_the_old_ones_stay(machine: Machine) -> None:
    folder = SECRET_FILE.rpartition("/")[0]
    machine.run(f"mv {folder} {folder}.away")
    assert machine.run(f"systemctl reload {API}", check=False).returncode != 0
    wait_for_words(machine, API, f"make the folder {folder} first")
    machine.run(f"mv {folder}.away {folder}")
    assert status_with(machine, secret_of(machine)) == 200


def test_a_processor_whose_loop_hangs_is_started_again(machine: Machine) -> None:
    """Its process lives, and so do its event loop and every other thread: only the work stands still."""
    drop_in = "[Service]\nWatchdogSec=3\nEnvironment=PYTHONPATH=/opt/hang\n"
    machine.run("mkdir -p /opt/hang")
    (machine.root / "opt/hang/sitecustomize.py").write_text(HANG)
    machine.run(f"mkdir -p /run/systemd/system/{PROCESSOR}.service.d")
    machine.run(f"printf '%s' '{drop_in}' > /run/systemd/system/{PROCESSOR}.service.d/hang.conf")
    machine.run(f"systemctl daemon-reload; systemctl restart {PROCESSOR}")
    before = main_pid(machine, PROCESSOR)
    machine.run("touch /run/hang")
    wait_for_words(machine, PROCESSOR, "Watchdog timeout")
    machine.run("rm /run/hang")
    wait_until_active(machine, PROCESSOR)
    assert main_pid(machine, PROCESSOR) != before
    # The traces say where it hung.
    assert "sitecustomize.py" in machine.journal(PROCESSOR)
    machine.run(f"rm -r /run/systemd/system/{PROCESSOR}.service.d; systemctl daemon-reload")
    machine.run(f"systemctl restart {PROCESSOR}")


def test_a_writer_that_stands_still_has_the_door_started_again(machine: Machine) -> None:
    """No callback fails for good: those in hand go with the door, all others wait at the socket."""
    drop_in = f"/run/systemd/system/{API}.service.d"
    machine.run(f"mkdir -p {drop_in}; printf '[Service]\nWatchdogSec=3\n' > {drop_in}/short.conf")
    machine.run(f"systemctl daemon-reload; systemctl restart {API}")
    door, (writer,) = main_pid(machine, API), writers(machine)
    with under_load(machine) as load:
        machine.run(f"kill -STOP {writer}")
        wait_for_words(machine, API, "Watchdog timeout")
        machine.wait(lambda: main_pid(machine, API) not in ("0", door), "the new start")
    assert not run_still(machine, door, writer)
    assert len(writers(machine)) == 1
    assert len(load.failed) <= SENDERS
    load.failed = []
    expect_nothing_lost(machine, load)
    machine.run(f"rm -r {drop_in}; systemctl daemon-reload; systemctl restart {API}")


def test_a_writer_that_is_killed_is_started_again_by_its_door(machine: Machine) -> None:
    """What it had in hand is refused, so that it is sent again; what comes meanwhile waits."""
    door, (writer,) = main_pid(machine, API), writers(machine)
    before = len(machine.journal(API))
    with under_load(machine) as load:
        machine.run(f"kill -KILL {writer}")
        wait_for_words(machine, API, "writer.started_again")
    assert main_pid(machine, API) == door
    assert writers(machine) not in ([], [writer])
    assert len(load.failed) <= SENDERS
    assert [error for error in load.failed if not error.startswith("503 ")] == []
    load.failed = []
    expect_nothing_lost(machine, load)
    assert machine.journal(API)[before:].count("writer.ended") == 1


@pytest.mark.parametrize("unit", [API, PROCESSOR])
def test_a_service_that_is_killed_is_started_again_and_no_callback_is_refused(
    machine: Machine, unit: str
) -> None:
    """Those that were in hand die with the process, without an answer; connections that wait do not."""
    before = main_pid(machine, unit)
    with under_load(machine) as load:
        machine.run(f"kill -KILL {before}")
        machine.wait(lambda: main_pid(machine, unit) not in ("0", before), "the new start")
    assert not [error for error in load.failed if "Refused" in error]
    assert len(load.failed) <= (SENDERS if unit == API else 0)
    load.failed = []
    expect_nothing_lost(machine, load)


def test_metrics_of_the_door_are_reached_through_their_own_unit(machine: Machine) -> None:
    """Something stands in for them in the door's own network."""
    inside = f"NetworkNamespacePath=/proc/{main_pid(machine, API)}/ns/net"
    server = "python3 -m http.server 9464 --bind 127.0.0.1 --directory /srv"
    machine.run(f"systemd-run --quiet --unit=stand-in --property={inside} {server}")
    machine.run("systemctl start signspool-api-metrics.socket")

    def answers() -> bool:
        return "Directory listing" in machine.run("curl -s http://127.0.0.1:9464/", check=False).stdout

    machine.wait(answers, "an answer through the socket")
    machine.run("systemctl stop stand-in signspool-api-metrics.socket")


def test_what_the_check_finds_reaches_people_once_when_it_begins_and_once_when_it_ends(
    machine: Machine,
) -> None:
    """By the documented commands; a fault that goes on, and a check that finds nothing, tell nobody."""
    in_release(machine, PREVIOUS, commands("Alarms")[0])
    (machine.root / "usr/sbin/sendmail").write_text(f"#!/usr/bin/python3\n{STAND_INS}")
    machine.run("chmod +x /usr/sbin/sendmail; touch /srv/told; systemctl stop signspool-check.timer")
    machine.run("systemd-run --quiet --unit=hook /usr/sbin/sendmail")
    drop_in = "/run/systemd/system/signspool-alarm@.service.d"
    machine.run(
        f"mkdir {drop_in}; printf '[Service]\nEnvironment=ALARM_WEBHOOK=http://127.0.0.1:8999/\n' "
        f"> {drop_in}/hook.conf; systemctl daemon-reload"
    )
    told = machine.root / "srv/told"

    def finished() -> int:
        said = [machine.journal(f"signspool-alarm@{name}") for name in ("passed", "failed")]
        return sum(text.count("Finished signspool-alarm@") for text in said)

    def check() -> list[str]:
        """What people are told by one more check."""
        before, alarms = len(told.read_text()), finished()
        machine.run("systemctl start signspool-check.service", check=False)
        machine.wait(lambda: finished() > alarms, "the alarm to end")
        return [line for line in told.read_text()[before:].splitlines() if "quarantine" in line]

    assert check() == []
    lost = f"{SPOOL}/quarantine/2026-11-21/lost.json"
    machine.run(f"install -D --owner=signspool /dev/null {lost}")
    by_webhook, by_mail = check()
    assert by_webhook.startswith("webhook: FAIL quarantine: 1 entry waiting for a person")
    assert by_mail == by_webhook.removeprefix("webhook: ")
    assert "Subject: signspool on " in told.read_text()
    assert check() == []
    assert machine.show("signspool-check", "ActiveState") == "failed"
    machine.run(f"touch {SPOOL}/quarantine/.seen")
    assert [line.removeprefix("webhook: ")[:24] for line in check()] == ["ended quarantine, after "] * 2
    assert machine.show("signspool-check", "ActiveState") == "inactive"
    machine.run("echo '[nonsense]' >> /etc/signspool/signspool.toml")
    check()
    assert told.read_text().count("FAIL settings: /etc/signspool/signspool.toml: nonsense") == 2
    machine.run("sed -i '/nonsense/d' /etc/signspool/signspool.toml")
    machine.run(f"rm {lost} {SPOOL}/quarantine/.seen; systemctl stop hook; rm -r {drop_in}")
    machine.run("systemctl daemon-reload; systemctl start signspool-check.service signspool-check.timer")


def test_after_a_reboot_all_is_as_before(machine: Machine) -> None:
    before = stored(machine)
    machine.reboot()
    for unit in (f"{API}.socket", API, PROCESSOR, "signspool-check.timer"):
        wait_until_active(machine, unit)
    assert before <= stored(machine)
    with under_load(machine) as load:
        pass
    expect_nothing_lost(machine, load)


def test_an_upgrade_under_load_fails_no_callback(machine: Machine) -> None:
    machine.unpack_release(CURRENT)
    with under_load(machine) as load:
        in_release(machine, CURRENT, *commands("Upgrade"))
        machine.wait(lambda: runs(machine) == CURRENT, "the new program")
    expect_nothing_lost(machine, load)


def test_so_does_the_way_back(machine: Machine) -> None:
    with under_load(machine) as load:
        for block in commands("Roll back"):
            machine.run(f"previous={PREVIOUS}\n{block}")
        assert runs(machine) == PREVIOUS
    expect_nothing_lost(machine, load)


def runs(machine: Machine) -> str:
    """The version of the program that the door runs; empty when the tiers differ."""
    found = {
        Path(machine.says(f"tr '\\0' '\\n' < /proc/{main_pid(machine, unit)}/cmdline | head -n1"))
        .parents[1]
        .name
        for unit in (API, PROCESSOR)
    }
    return found.pop() if len(found) == 1 else ""


def test_what_was_saved_can_be_restored(machine: Machine) -> None:
    """Onto a machine that has lost all; documents and spool are as they were."""
    machine.run("\n".join(commands("Save")))
    saved, shown = stored(machine), machine.says("signspool documents ls --json --limit 100000")
    machine.run(f"rm -r /etc/signspool; find {SPOOL} -mindepth 1 -delete")
    machine.run("folder=$(echo /var/backups/signspool-*)\n" + "\n".join(commands("Restore")))
    assert stored(machine) == saved
    assert machine.says("signspool documents ls --json --limit 100000") == shown
    with under_load(machine) as load:
        pass
    expect_nothing_lost(machine, load)


def test_the_documented_commands_remove_it_and_leave_what_was_received(machine: Machine) -> None:
    kept = stored(machine)
    in_release(machine, CURRENT, *commands("Remove"))
    assert machine.says("systemctl list-units --all --no-legend 'signspool*'") == ""
    assert (
        machine.says("find /opt /usr/local -path /usr/local/src -prune -o -name '*signspool*' -print") == ""
    )
    assert stored(machine) == kept
    assert machine.says(f"cat {SECRET_FILE}") != ""
