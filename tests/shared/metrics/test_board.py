"""Numbers that several processes count: each has a row of its own, and what it counted stays."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

from shared.metrics.board import Board
from tests.waiting import PATIENCE_SECONDS

WIDTH = 3


def _count(board: Board, say: Connection) -> None:
    """Count on a row, say so, and live on until told to end."""
    row = board.claim()
    row[1] += 5
    say.send("counted")
    say.recv()


def sums(board: Board) -> list[float]:
    return [sum(row[place] for row in board.rows) for place in range(WIDTH)]


def test_processes_count_side_by_side_and_the_next_goes_on_where_a_dead_one_ended() -> None:
    """Three workers in two rows: the third takes the row of the one that was killed."""
    board = Board(WIDTH, rows=2)
    start = multiprocessing.get_context("spawn")
    workers = []
    for _ in range(2):
        ours, theirs = start.Pipe()
        worker = start.Process(target=_count, args=(board, theirs))
        worker.start()
        workers.append((worker, ours))
    for _, ours in workers:
        assert ours.poll(30)
    assert [row[1] for row in board.rows] == [5, 5]
    killed, _ = workers.pop()
    killed.kill()
    killed.join(PATIENCE_SECONDS)
    assert sums(board) == [0, 10, 0]

    ours, theirs = start.Pipe()
    third = start.Process(target=_count, args=(board, theirs))
    third.start()
    assert ours.poll(30)
    assert sorted(row[1] for row in board.rows) == [5, 10]
    for worker, pipe in (*workers, (third, ours)):
        pipe.send("end")
        worker.join(PATIENCE_SECONDS)
        assert worker.exitcode == 0


def test_cells_hold_fractions_and_large_numbers() -> None:
    board = Board(WIDTH, rows=1)
    row = board.claim()
    row[0], row[2] = 0.25, 2**52 + 1
    assert list(board.rows[0]) == [0.25, 0, 2**52 + 1]
