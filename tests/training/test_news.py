"""The news of a training: complete lines, each once, whatever a writer has left behind."""

from pathlib import Path

from betanas.training.progress import NewsReader, NewsWriter
from betanas.trial import PROGRESS_FILE


def test_each_complete_line_is_told_once(tmp_path: Path) -> None:
    reader = NewsReader(tmp_path)
    assert reader.read() == []
    writer = NewsWriter(tmp_path)
    writer.tell(spent=0.1)
    writer.tell(spent=0.2)
    assert reader.read() == [{"spent": 0.1}, {"spent": 0.2}]
    with (tmp_path / PROGRESS_FILE).open("a") as file:
        file.write('{"spent": 0.3')
    assert reader.read() == []
    with (tmp_path / PROGRESS_FILE).open("a") as file:
        file.write("}\n")
    assert reader.read() == [{"spent": 0.3}]


def test_what_a_full_disk_or_a_power_cut_left_is_no_news(tmp_path: Path) -> None:
    (tmp_path / PROGRESS_FILE).write_bytes(b'{"spent": 0.1}\n{"spent": 0.\n\0\0\0\n{"sp')
    reader = NewsReader(tmp_path)
    assert reader.read() == [{"spent": 0.1}]
    NewsWriter(tmp_path).tell(spent=0.2)  # behind what has no end
    NewsWriter(tmp_path).tell(spent=0.3)
    assert reader.read() == [{"spent": 0.3}]
