"""Room for the last word on a disk that is full."""

from __future__ import annotations

from modelforge.train.event_log import BYTES, NAME, DiskReserve


def test_room_is_held_and_given_back(tmp_path):
    reserve = DiskReserve(tmp_path)
    reserve.hold()
    assert (tmp_path / NAME).stat().st_size == BYTES
    reserve.release()
    assert not (tmp_path / NAME).exists()
    reserve.release()


def test_where_nothing_can_be_held_the_work_goes_on(tmp_path):
    reserve = DiskReserve(tmp_path / "absent")
    reserve.hold()
    reserve.release()
