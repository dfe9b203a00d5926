"""The Pi 5's power chip: real replies to the right watts, and replies that are none to their reasons."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, ShellError, UsageError
from edge_sdk.sensors.base import Absent, Sensor, Wanted, drivers
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.mailbox import Ioctl
from edge_sdk.sensors.pmic import MISSING, PmicDriver, parse
from edge_sdk.sensors.pmic_fit import Fit, save
from edge_sdk.sensors.power import open_power
from edge_sdk.targets import load
from edge_sdk.testing.fake_shell import FakeShell

RAILS = load("raspberry-pi-5").rails
ASK = "vcgencmd pmic_read_adc"


def firmware(answer: str, error: int = 0) -> Ioctl:
    """A mailbox's ioctl that answers with a text."""

    def ioctl(_: int, __: int, message: bytearray) -> int:
        struct.pack_into("=I", message, 4, 0x80000000)
        struct.pack_into("=2I", message, 16, 0x80000000 | len(answer), error)
        message[24:-4] = answer.encode().ljust(len(message) - 28, b"\0")
        return 0

    return ioctl


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(scope="session")
def reply(fixtures_dir: Path) -> Callable[[str], str]:
    """A captured reply by name: "load", "spike", "unsupported"."""
    files = {"load": "pmic_read_adc_pi5_load", "spike": "pmic_read_adc_pi5_spike"}
    return lambda name: (fixtures_dir / f"rpi/{files.get(name, 'pmic_read_adc_unsupported')}.txt").read_text("utf-8")


@pytest.fixture
def mailbox_root(tmp_path: Path) -> Path:
    """A root with the mailbox's device."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vcio_gencmd").touch()
    return tmp_path


def opened(answer: str, tmp_path: Path, **options: str) -> Sensor:
    """The sensor of a Pi 5 whose vcgencmd prints this."""
    return PmicDriver().open(Wanted(RAILS, root=tmp_path, shell=FakeShell({ASK: answer}), options=options))


class TestParse:
    def test_the_captured_replies_add_up_to_their_watts(self, reply: Callable[[str], str]) -> None:
        assert sum(amps * volts for amps, volts in parse(reply("load")).values()) == pytest.approx(5.92, abs=0.005)
        assert sum(amps * volts for amps, volts in parse(reply("spike")).values()) == pytest.approx(10.80, abs=0.005)

    def test_what_has_no_current_is_no_rail(self, reply: Callable[[str], str]) -> None:
        rails = parse(reply("spike"))
        assert len(rails) == 12
        assert not {"EXT5V", "BATT"} & set(rails)
        assert rails["VDD_CORE"] == (10.87674, 0.8974594)

    def test_rails_are_paired_by_name_in_any_order(self, reply: Callable[[str], str]) -> None:
        lines = reply("load").splitlines()
        for shuffled in (reversed(lines), sorted(lines), [*lines[1::2], *lines[::2]]):
            assert parse("\n".join(shuffled)) == parse(reply("load"))

    def test_the_older_name_of_a_rail_is_the_newer_one(self, reply: Callable[[str], str]) -> None:
        assert parse(reply("load").replace("0V8_SW", "0V8_SYS")) == parse(reply("load"))

    def test_a_board_without_it_is_no_sensor(self, reply: Callable[[str], str]) -> None:
        with pytest.raises(SensorError, match=r'no sensor: .*"Command not registered"\); only a Raspberry Pi 5'):
            parse(reply("unsupported"))

    def test_nan_stays_nan(self) -> None:
        amps, volts = parse("VDD_CORE_A current(7)=nanA\nVDD_CORE_V volt(15)=0.9V")["VDD_CORE"]
        assert math.isnan(amps)
        assert volts == 0.9

    def test_a_line_that_is_cut_off_does_not_count(self, reply: Callable[[str], str]) -> None:
        text = reply("load")
        assert "HDMI" not in parse(text[: text.index("HDMI_V volt(23)=4.92") + 20])

    @pytest.mark.parametrize("text", ["", "throttled=0x0", "VDD_CORE_A current(7)=5.0V\nVDD_CORE_V volt(15)=0.9V"])
    def test_a_reply_without_a_rail_is_an_error(self, text: str) -> None:
        with pytest.raises(SensorError, match="no rail in what the firmware says"):
            parse(text)

    def test_ten_megabytes_of_garbage_are_refused_at_once(self) -> None:
        began = time.monotonic()
        for text in (" " * 10_000_000, "A_A current(" * 800_000, "x_A current(1)=1A\n" * 500_000):
            with pytest.raises(SensorError):
                parse(text)
        assert time.monotonic() - began < 5

    @given(st.text() | st.from_regex(r"(\w{1,5}_[AV] (current|volt)\(\d\)=[-\d.naif]{1,9}[AV]\n){1,4}", fullmatch=True))
    def test_any_text_gives_rails_or_a_sensor_error(self, text: str) -> None:
        with suppress(SensorError):
            assert all(isinstance(value, float) for both in parse(text).values() for value in both)


class TestTheSum:
    def test_it_is_partial_and_says_what_is_missing(self, tmp_path: Path, reply: Callable[[str], str]) -> None:
        total = Gauge(opened(reply("load"), tmp_path)).read().total
        assert total.value == pytest.approx(5.92, abs=0.005)
        assert (total.method, total.reason) == ("sensor_partial", MISSING)

    def test_a_rail_of_nan_is_left_out_and_named(self, tmp_path: Path, reply: Callable[[str], str]) -> None:
        text = reply("load").replace("current(7)=5.03652000A", "current(7)=nanA")
        read = Gauge(opened(text, tmp_path)).read()
        assert read.total.value == pytest.approx(5.92 - 5.03652 * 0.8936988, abs=0.005)
        assert read.total.reason is not None
        assert read.total.reason.startswith("without VDD_CORE (not a number: nan A); ")

    def test_a_rail_that_is_not_in_the_reply_is_named(self, tmp_path: Path, reply: Callable[[str], str]) -> None:
        text = "\n".join(line for line in reply("load").splitlines() if "HDMI_A" not in line)
        total = Gauge(opened(text, tmp_path)).read().total
        assert total.reason is not None
        assert total.reason.startswith("without HDMI (the PMIC gave no current and voltage of it)")

    @pytest.mark.parametrize(
        ("current", "reason"),
        [("-0.20000000", "negative: -0.200 A"), ("999999999.0", "absurd: 893698799 W"), ("inf", "not a number: inf A")],
    )
    def test_a_current_that_cannot_be_is_none(
        self, tmp_path: Path, reply: Callable[[str], str], current: str, reason: str
    ) -> None:
        sensor = opened(reply("load").replace("5.03652000", current), tmp_path)
        assert sensor.read()[[channel.name for channel in sensor.channels].index("VDD_CORE")] == Absent(reason)

    def test_a_rail_that_is_switched_off_is_zero(self, tmp_path: Path, reply: Callable[[str], str]) -> None:
        assert opened(reply("spike"), tmp_path).read()[0] == 0.0

    def test_one_that_a_user_names_has_every_rail_of_the_reply(
        self, tmp_path: Path, reply: Callable[[str], str]
    ) -> None:
        sensor = drivers()["pmic"].open(Wanted(root=tmp_path, shell=FakeShell({ASK: reply("load")})))
        assert Gauge(sensor).read().total.value == pytest.approx(5.92, abs=0.005)

    def test_a_reply_that_fails_later_is_absent_and_may_come_back(
        self, tmp_path: Path, reply: Callable[[str], str]
    ) -> None:
        shell = FakeShell({ASK: reply("load")})
        sensor = PmicDriver().open(Wanted(RAILS, root=tmp_path, shell=shell))
        shell.answers[ASK] = ShellError("vcgencmd: no answer within 5 s")
        (gone,) = set(sensor.read())
        assert isinstance(gone, Absent)
        assert gone.reason.startswith("the PMIC cannot be read: vcgencmd: no answer within 5 s")
        shell.answers[ASK] = reply("load")
        assert not any(isinstance(value, Absent) for value in sensor.read())


class TestTheWay:
    def test_the_mailbox_is_asked_and_no_process_started(self, mailbox_root: Path, reply: Callable[[str], str]) -> None:
        shell = FakeShell({})
        before = descriptors()
        sensor = PmicDriver(firmware(reply("load"))).open(Wanted(RAILS, root=mailbox_root, shell=shell))
        assert Gauge(sensor).read().total.value == pytest.approx(5.92, abs=0.005)
        assert shell.commands == []
        sensor.close()
        sensor.close()
        assert descriptors() == before

    def test_a_mailbox_that_fails_gives_way_to_vcgencmd(self, mailbox_root: Path, reply: Callable[[str], str]) -> None:
        shell = FakeShell({ASK: reply("load")})
        sensor = PmicDriver().open(Wanted(RAILS, root=mailbox_root, shell=shell))  # no device: the system's ioctl fails
        assert Gauge(sensor).read().total.value == pytest.approx(5.92, abs=0.005)

    def test_an_older_board_says_so_in_its_mailbox(self, mailbox_root: Path, reply: Callable[[str], str]) -> None:
        before = descriptors()
        with pytest.raises(SensorError, match="no sensor"):
            PmicDriver(firmware(reply("unsupported"), error=1)).open(Wanted(RAILS, root=mailbox_root))
        assert descriptors() == before

    @pytest.mark.parametrize("failing", [False, True])
    def test_the_exit_status_of_vcgencmd_is_not_trusted(
        self, tmp_path: Path, reply: Callable[[str], str], failing: bool
    ) -> None:
        said = reply("unsupported")
        shell = FakeShell({ASK: ShellError(f"vcgencmd: {said.strip()}") if failing else said})
        with pytest.raises(SensorError, match=r'no sensor: .*"Command not registered"'):
            PmicDriver().open(Wanted(RAILS, root=tmp_path, shell=shell))

    def test_without_either_way_both_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(SensorError, match=r"vcgencmd: not installed; the firmware has no mailbox here"):
            PmicDriver().open(Wanted(RAILS, root=tmp_path, shell=FakeShell({})))

    def test_an_address_or_an_unknown_option_means_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="a board has one PMIC"):
            PmicDriver().open(Wanted(address="1", root=tmp_path))
        with pytest.raises(UsageError, match="no such sensor option: fitt; there is fit"):
            PmicDriver().open(Wanted(RAILS, root=tmp_path, options={"fitt": "published"}))


class TestTheFit:
    @pytest.mark.parametrize(("name", "power_w"), [("load", 7.37), ("spike", 12.95)])
    def test_the_published_one_makes_the_board_of_the_sum(
        self, tmp_path: Path, reply: Callable[[str], str], name: str, power_w: float
    ) -> None:
        sensor = opened(reply(name), tmp_path, fit="published")
        total = Gauge(sensor).read().total
        assert total.value == pytest.approx(power_w, abs=0.005)
        assert total.method == "fit"
        assert [channel.name for channel in sensor.channels if channel.in_total] == ["board"]
        assert sensor.channels[-1].uncertainty == 0.1

    def test_it_says_on_what_it_was_fitted_and_how_uncertain_it_is(
        self, tmp_path: Path, reply: Callable[[str], str]
    ) -> None:
        reason = Gauge(opened(reply("load"), tmp_path, fit="published")).read().total.reason
        assert reason is not None
        assert "fitted on one board" in reason
        assert "at least 10 % uncertain; not with USB or NVMe devices attached" in reason

    def test_one_of_the_users_own_is_given_as_numbers_or_as_a_file(
        self, tmp_path: Path, reply: Callable[[str], str]
    ) -> None:
        path = tmp_path / "my,fit.json"
        save(Fit(1.2, 0.5, 5, 0.04), path)
        for option in ("1.2, 0.5", str(path)):
            total = Gauge(opened(reply("load"), tmp_path, fit=option)).read().total
            assert total.value == pytest.approx(5.922 * 1.2 + 0.5, abs=0.01)
            assert total.method == "fit"
        assert total.reason == (
            "your own calibration on 5 points, off by 0.04 W in the root mean square; "
            "it holds for what was attached then"
        )

    def test_a_fit_needs_every_rail_of_the_sum(self, tmp_path: Path, reply: Callable[[str], str]) -> None:
        text = reply("load").replace("current(7)=5.03652000A", "current(7)=nanA")
        total = Gauge(opened(text, tmp_path, fit="published")).read().total
        assert total.value is None
        assert total.reason == "board (no sum to fit without VDD_CORE (not a number: nan A))"

    def test_a_fit_below_zero_is_no_power(self, tmp_path: Path, reply: Callable[[str], str]) -> None:
        assert opened(reply("load"), tmp_path, fit="1,-9").read()[-1] == Absent("negative: -3.078")

    @pytest.mark.parametrize("option", ["publishd", "", "0,1", "1;2", "1.2.3,4"])
    def test_a_fit_that_is_none_is_refused(self, tmp_path: Path, reply: Callable[[str], str], option: str) -> None:
        with pytest.raises(UsageError):
            opened(reply("load"), tmp_path, fit=option)


class TestABoard:
    def test_a_pi_5_measures_the_part_that_its_pmic_feeds(
        self, captured_board: Callable[[str], Path], reply: Callable[[str], str]
    ) -> None:
        root, target = captured_board("rpi5"), load("raspberry-pi-5")
        with open_power(target=target, root=root, shell=FakeShell({ASK: reply("load")})) as power:
            assert power.main is not None
            total = Gauge(power.main).read().total
            assert (power.reason, power.covers) == (None, target.fact("power_covers"))
        assert total.value == pytest.approx(5.92, abs=0.005)
        assert total.method == "sensor_partial"

    def test_with_the_published_fit_the_total_is_the_whole_board(
        self, captured_board: Callable[[str], Path], reply: Callable[[str], str]
    ) -> None:
        shell = FakeShell({ASK: reply("load")})
        root, target = captured_board("rpi5"), load("raspberry-pi-5")
        with open_power(target=target, root=root, shell=shell, options={"fit": "published"}) as power:
            assert power.main is not None
            assert Gauge(power.main).read().total.value == pytest.approx(7.37, abs=0.005)

    def test_a_pi_5_without_any_way_to_its_pmic_gives_no_watt_and_the_reason(
        self, captured_board: Callable[[str], Path]
    ) -> None:
        with open_power(target=load("raspberry-pi-cm5"), root=captured_board("rpi5"), shell=FakeShell({})) as power:
            assert power.main is not None
            assert Gauge(power.main).read().total.value is None
            assert power.reason is not None
            assert "vcgencmd: not installed" in power.reason

    def test_the_table_has_the_rails_of_the_captures(self, reply: Callable[[str], str]) -> None:
        measured: Mapping[str, tuple[float, float]] = parse(reply("spike"))
        assert {rail.address for rail in RAILS} == set(measured)


class TestThePublishedFit:
    @pytest.mark.parametrize(
        ("path", "text", "named"),
        [
            ("sys/bus/usb/devices/1-1/bDeviceClass", "ef\n", "USB device 1-1"),
            ("sys/class/nvme/nvme0/model", "disk\n", "nvme0"),
        ],
    )
    def test_it_is_refused_where_something_draws_from_the_5_v_rail(self, tmp_path: Path, path, text, named) -> None:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)

        with pytest.raises(SensorError, match=rf"does not hold here: {named} draw.*fit-power"):
            PmicDriver().open(Wanted(RAILS, root=tmp_path, options={"fit": "published"}))

    def test_hubs_draw_nothing_of_note(self, tmp_path: Path) -> None:
        for name in ("usb1", "1-0:1.0", "2-1"):
            (tmp_path / "sys/bus/usb/devices" / name).mkdir(parents=True)
        for name in ("usb1", "2-1"):
            (tmp_path / "sys/bus/usb/devices" / name / "bDeviceClass").write_text("09\n")

        with pytest.raises(SensorError, match=r"not installed|not run"):  # nothing else is there, but no refusal
            PmicDriver().open(Wanted(RAILS, root=tmp_path, options={"fit": "published"}))
