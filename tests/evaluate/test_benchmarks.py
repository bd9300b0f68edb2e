"""Each benchmark on a miniature of its layout: what is asked of which video, and when."""

import json
import sys

import pytest

from infinipot import BenchmarkError, open_video
from infinipot.evaluate import BENCHMARKS, Item, Problem, Subtitle, find_benchmark, find_protocol
from infinipot.evaluate.records import Unit
from support.benchmark_layouts import (
    egoschema,
    longvideobench,
    mlvu,
    ovo_bench,
    rvs,
    streaming_bench,
    video_mme,
)
from support.places import ROOT
from support.row_layouts import LAYOUTS, ovo_s_bench, video_mme_v2, vsi_super_count, vsi_super_recall
from support.video_files import times

EVERY = [(name, variant) for name, benchmark in BENCHMARKS.items() for variant in benchmark.variants]


def items(name, data, variant=None) -> list[Item]:
    read = list(find_benchmark(name).read(data, variant))
    assert [str(problem) for problem in read if isinstance(problem, Problem)] == []
    return [item for item in read if isinstance(item, Item)]


def asked(read):
    """(id, answer, task, moment, group) of every question, video by video."""
    return [[(q.id, q.answer, q.task, q.at, q.group) for q in item.questions] for item in read]


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_every_miniature_is_read_whole_and_its_videos_open(name, variant, tmp_path):
    read = items(name, LAYOUTS[name](tmp_path, variant), variant)
    ids = [question.id for item in read for question in item.questions]
    assert len(ids) == len(set(ids)) > 0
    assert len({item.id for item in read}) == len({item.video for item in read}) == len(read)
    for item in read:
        assert item.id == item.video.relative_to(tmp_path).as_posix()
        assert times(open_video(item.video, fps=2))[:2] == [0, 0.5]
    assert items(name, tmp_path, variant) == read


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_says_what_it_is_and_has_rules(name):
    benchmark = BENCHMARKS[name]
    assert name == benchmark.name == name.lower().replace("_", "-")
    said = (benchmark.title, benchmark.about, benchmark.paper, benchmark.source, benchmark.licence, benchmark.layout)
    assert all(said)
    assert not any("\n" in line for line in said[:-1])
    find_protocol(benchmark.default_protocol).check(benchmark, benchmark.variants[0])


def test_mlvu_dev_has_seven_task_types(tmp_path):
    read = items("mlvu", mlvu(tmp_path))
    assert asked(read)[0] == [("plotQA-0", "A", "plotQA", None, None), ("plotQA-1", "D", "plotQA", None, None)]
    tasks = [item.questions[0].task for item in read]
    assert tasks == ["plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning"]


def test_candidates_may_be_numbers(tmp_path):
    file = mlvu(tmp_path) / "json" / "4_count.json"
    (entry,) = json.loads(file.read_text())
    file.write_text(json.dumps([entry | {"candidates": [1, 2.5, 3, 12], "answer": 12}]))
    (question,) = items("mlvu", tmp_path)[3].questions
    assert (question.options, question.answer) == (("1", "2.5", "3", "12"), "D")


def test_mlvu_test_has_six_options_and_may_lack_labels(tmp_path):
    labelled = [("needleQA_0", "B"), ("needleQA_2", "A"), ("sportsQA_1", "F")]
    read = items("mlvu", mlvu(tmp_path, "test"), "test")
    assert [(q.id, q.answer) for item in read for q in item.questions] == labelled
    assert {q.letters for item in read for q in item.questions} == {"ABCDEF"}
    file = tmp_path / "test-ground-truth" / "test_mcq_gt.json"
    entries = [{field: one[field] for field in one if field != "answer"} for one in json.loads(file.read_text())]
    file.unlink()
    (tmp_path / "test_multi_choice_tasks.json").write_text(json.dumps(entries))
    read = items("mlvu", tmp_path, "test")
    assert [(q.id, q.answer) for item in read for q in item.questions] == [(name, None) for name, _ in labelled]


def test_video_mme_takes_letters_off_the_options_and_keeps_them_for_the_prompt(tmp_path):
    first, second = items("video-mme", video_mme(tmp_path))
    assert [q.id for q in first.questions] == ["001-1", "001-2", "001-3"]
    question = first.questions[1]
    assert question.options == ("One.", "Two.", "Three.", "None.")
    assert question.given == "A. One.\nB. Two.\nC. Three.\nD. None."
    assert (question.answer, question.task, question.group) == ("B", "OCR Problems", "short")
    assert {q.group for q in second.questions} == {"long"}
    assert first.subtitles == ()
    file = tmp_path / "videomme.json"
    bare = [row | {"options": [option[3:] for option in row["options"]]} for row in json.loads(file.read_text())]
    file.write_text(json.dumps(bare))
    assert items("video-mme", tmp_path) == [first, second]  # a prompt that asks for a letter shows letters


def test_video_mme_with_subtitles_reads_srt_and_videos_may_have_none(tmp_path):
    first, second = items("video-mme", video_mme(tmp_path, "subtitles"), "subtitles")
    assert first.subtitles[:2] == (Subtitle(0, 1.2, "Good morning."), Subtitle(1.2, 2, "The lamp goes on."))
    assert second.subtitles == ()


def test_video_mme_as_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    expected = asked(items("video-mme", video_mme(tmp_path)))
    rows = json.loads((tmp_path / "videomme.json").read_text())
    (tmp_path / "videomme.json").unlink()
    (tmp_path / "videomme").mkdir()
    file = tmp_path / "videomme" / "test-00000-of-00001.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    assert asked(items("video-mme", tmp_path)) == expected
    file.write_bytes(b"PAR1 no, it is not")
    (problem,) = find_benchmark("video-mme").read(tmp_path)
    assert "cannot be read as Parquet" in str(problem)

    def failing(path):
        raise OSError

    monkeypatch.setattr(parquet, "read_table", failing)
    (problem,) = find_benchmark("video-mme").read(tmp_path)
    assert "(OSError)" in str(problem)


def test_video_mme_says_what_parquet_needs(tmp_path, monkeypatch):
    file = video_mme(tmp_path) / "videomme" / "test-00000-of-00001.parquet"
    (tmp_path / "videomme.json").unlink()
    file.parent.mkdir()
    file.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BenchmarkError, match=r"pip install pyarrow \(the extra `eval`\).*videomme.json"):
        list(find_benchmark("video-mme").read(tmp_path))


def test_longvideobench_reads_both_forms_of_subtitles_on_the_clips_clock(tmp_path):
    first, second = items("longvideobench", longvideobench(tmp_path), "val-subtitles")
    assert asked([first]) == [[("aa1_0", "A", "T2O", None, "15"), ("aa1_1", "B", "S2E", None, "15")]]
    assert first.subtitles == (Subtitle(0, 1.5, "the first line"), Subtitle(1.5, 3.5, "the second line"))
    assert second.subtitles[:2] == (Subtitle(-2, -1, "before the clip"), Subtitle(0.5, 2.5, "within it"))
    assert second.subtitles[2] == Subtitle(2.5, 4 - 100, "without an end")  # the authors' loader, to the letter
    assert all(item.subtitles == () for item in items("longvideobench", tmp_path, "val"))
    assert {q.answer for item in items("longvideobench", tmp_path, "test") for q in item.questions} == {None}


def test_egoschema_subset_is_labelled_and_the_full_set_goes_to_a_file(tmp_path):
    subset = items("egoschema", egoschema(tmp_path))
    assert [(item.questions[0].id[:4], item.questions[0].answer) for item in subset] == [("0074", "D"), ("00b9", "A")]
    full = items("egoschema", tmp_path, "full")
    uids = [item.questions[0].id for item in full]
    assert [item.questions[0].answer for item in full] == [None] * 3
    written = find_benchmark("egoschema").submission(dict(zip(uids, ("E", None, "A"), strict=True)))
    assert written is not None
    assert json.loads(written) == {uids[0]: 4, uids[1]: -1, uids[2]: 0}
    assert find_benchmark("mlvu").submission({"plotQA-0": "A"}) is None


def test_rvs_is_open_ended_and_asked_at_its_moments(tmp_path):
    first, second = items("rvs", rvs(tmp_path, "movie"), "movie")
    assert [question.at for question in first.questions] == [1, 2, 3.5]
    assert all(q.judged and q.options == () and q.answer == "A lamp goes on." for q in first.questions)
    assert {q.task for q in second.questions} == {"RVS-Movie"}


def test_rvs_asks_every_question_of_a_video_that_stands_twice(tmp_path):
    file = rvs(tmp_path) / "ego" / "ego4d_oe.json"
    first, second = json.loads(file.read_text())
    file.write_text(json.dumps([first, second | {name: first[name] for name in ("video_id", "video_path")}]))
    (item,) = items("rvs", tmp_path)
    assert [question.at for question in item.questions] == [1, 2, 3.5, 4]


def test_ovo_bench_makes_a_question_of_each_moment(tmp_path):
    ego, movie = asked(items("ovo-bench", ovo_bench(tmp_path)))
    assert ego == [
        ("0", "B", "EPM", 3, "backward"),
        ("1", "A", "OCR", 2, "real-time"),
        ("2", "C", "ATR", 2, "real-time"),
        ("3_0", "1", "REC", 1, "forward"),
        ("3_1", "1", "REC", 2, "forward"),
        ("3_2", "3", "REC", 4, "forward"),
    ]
    assert [question[:4] for question in movie] == [
        ("4_0", "No", "SSR", 1),
        ("4_1", "Yes", "SSR", 3),
        ("5_0", "No", "CRR", 2),
        ("5_1", "Yes", "CRR", 4),
    ]
    for mode in ("backward", "real-time", "forward"):
        groups = {q.group for item in items("ovo-bench", tmp_path, mode) for q in item.questions}
        assert groups == {mode}


def test_streaming_bench_as_table_or_as_json(tmp_path):
    first, _ = items("streaming-bench", streaming_bench(tmp_path))
    assert [(q.answer, q.task, q.at) for q in first.questions] == [("B", "Object Perception", 1), ("C", "Counting", 3)]
    assert first.questions[0].options == ("A cup.", "A dog's bowl.", "Three.", "None.")
    (tmp_path / "StreamingBench" / "Real_Time_Visual_Understanding.csv").unlink()
    (tmp_path / "videos").mkdir()
    (tmp_path / "real" / "sample_12" / "video.mp4").rename(tmp_path / "videos" / "sample_12_real.mp4")
    question = {"task_type": "Counting", "question": "How many?", "answer": "A", "options": ["1", "2", "3", "4"]}
    parts = [
        {"video_path": "./videos/sample_12_real.mp4", "questions": [question | {"time_stamp": moment}]}
        for moment in ("00:00:02", "00:01:03")
    ]
    (tmp_path / "questions_real.json").write_text(json.dumps(parts))
    (only,) = items("streaming-bench", tmp_path)
    assert [(q.id, q.at) for q in only.questions] == [("sample_12-0-0", 2), ("sample_12-1-0", 63)]
    assert only.questions[0].given == "A. 1\nB. 2\nC. 3\nD. 4"


def test_video_mme_v2_gives_each_question_what_its_group_has_once(tmp_path):
    read = items("video-mme-v2", video_mme_v2(tmp_path))
    assert [[q.answer for q in item.questions] for item in read] == [list("ABGH")] * 4
    for shade, item in enumerate(read):
        kind = ("[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]", "relevance")[shade]
        assert [q.unit for q in item.questions] == [Unit(item.video.stem, place, 4, kind) for place in range(4)]
        assert {q.task for q in item.questions} == {"relevance" if shade == 3 else "logic"}
        assert {(q.group, q.parts) for q in item.questions} == {
            (f"level {1 + shade % 3}", ("second head: Frames & Audio", f"third head: Counting {shade % 2}"))
        }
    question = read[0].questions[2]
    assert question.options[0] == "0 lamps."
    assert question.given == "\n".join(f"{letter}. {n} lamps." for n, letter in enumerate("ABCDEFGH"))


def test_video_mme_v2_takes_the_forms_that_others_write_it_in(tmp_path):
    file = video_mme_v2(tmp_path) / "test.json"
    expected = items("video-mme-v2", tmp_path)
    rows = json.loads(file.read_text())
    for row in rows:
        row["video"] = row.pop("video_id")
        row["options"] = row["options"].split("\n")
        row["level"] = float("nan") if row["level"] is None else float(row["level"])
        row["group_structure"] = row["group_structure"].replace(" ", "")
    file.write_text(json.dumps(rows[::-1]))
    read = items("video-mme-v2", tmp_path)
    assert {q.id: q for item in read for q in item.questions} == {q.id: q for item in expected for q in item.questions}


def test_video_mme_v2_with_subtitles_reads_a_line_a_word(tmp_path):
    first, second, *_ = items("video-mme-v2", video_mme_v2(tmp_path, "subtitles"), "subtitles")
    assert first.subtitles == (Subtitle(0.5, 0.8, "Good"), Subtitle(0.8, 1.1, "morning."))
    assert second.subtitles == ()


def test_vsi_super_recall_goes_by_the_rows_length(tmp_path):
    data = vsi_super_recall(tmp_path)
    read = items("vsi-super-recall", data)
    assert asked(read)[0] == [
        ("10mins-00000003-0", "B", "10mins", None, None),
        ("10mins-00000003-1", "D", "10mins", None, None),
    ]
    assert [item.questions[0].task for item in read] == ["10mins", "30mins", "60mins", "120mins", "240mins"]
    (only,) = items("vsi-super-recall", data, "60mins")
    assert only.questions[0].options == ("Table, bed", "Bed, table", "Sink, bed", "Bed, sink")
    assert only.questions[0].given.startswith("A. Table, bed\nB. ")


def test_vsi_super_count_asks_streaming_rows_at_their_moments_and_plain_ones_at_the_end(tmp_path):
    data = vsi_super_count(tmp_path)
    plain = items("vsi-super-count", data)
    assert [item.questions[0].answer for item in plain] == ["12"] * 4
    assert {(q.at, q.unit) for item in plain for q in item.questions} == {(None, None)}
    streaming = items("vsi-super-count", data, "streaming")
    assert [(q.id, q.answer, q.at) for q in streaming[0].questions] == [
        ("10mins_streaming-0_0", "0", 1),
        ("10mins_streaming-0_1", "2", 2),
        ("10mins_streaming-0_2", "4", 3),
        ("10mins_streaming-0_3", "5", None),
    ]
    assert [q.unit for q in streaming[1].questions] == [Unit("30mins_streaming-1", place, 2) for place in (0, 1)]
    assert items("vsi-super-count", data, "30mins-streaming") == [streaming[1]]


def test_ovo_s_bench_asks_at_each_query_time_and_knows_the_evidences_age(tmp_path):
    ego, honda = items("ovo-s-bench", ovo_s_bench(tmp_path))
    assert [(q.id, q.at, q.answer, q.also, q.reference) for q in (*ego.questions, *honda.questions)] == [
        ("1.1.1_0_q0", 2, "B", ("C",), "B or C"),
        ("2.1.1_0_q0", 1, "A", (), "A"),
        ("2.1.1_0_q1", 3, "C", (), "C"),
        ("3.1.1_0_q0", 1, "A", (), "A"),
        ("3.1.1_0_q1", 2, "A", (), "A"),
        ("3.1.1_0_q2", 3, "A", (), "A"),
        ("4.1_0_q0", 3.5, "C", (), "C"),
    ]
    assert {q.options for q in (*ego.questions, *honda.questions)} == {("left", "right", "behind")}
    assert [q.parts for q in ego.questions] == [
        ("evidence up to 10 s old",),
        ("evidence on show",),
        ("evidence up to 10 s old",),
    ]
    assert {q.parts for q in honda.questions} == {()}
    assert [q.group for item in items("ovo-s-bench", tmp_path, "level-3") for q in item.questions] == ["level 3"] * 3


@pytest.mark.parametrize(
    ("at", "evidence", "band"),
    [
        (100, [[0, 100]], "on show"),
        (100, [[100, 120]], "on show"),
        (100, [[0, 99.9]], "up to 10 s old"),
        (100, [[0, 90]], "up to 10 s old"),
        (100, [[0, 89.9]], "up to 1 min old"),
        (100, [[0, 40]], "up to 1 min old"),
        (400, [[0, 100]], "up to 5 min old"),
        (400, [[0, 99]], "over 5 min old"),
        (100, [[90, 95], [0, 10]], "up to 10 s old"),  # the last evidence counts, in whatever order
        (100, [[0, 10], [101, 110]], "up to 5 min old"),  # and none that begins behind the question
        (100, [[101, 110]], None),
        (100, [], None),
    ],
)
def test_bands_of_evidence_age_at_their_edges(at, evidence, band, tmp_path):
    file = ovo_s_bench(tmp_path) / "ovo_s_bench.json"
    row = json.loads(file.read_text())[0] | {"query_times": [at], "evidence_times": evidence}
    file.write_text(json.dumps([row]))
    ((question,),) = [item.questions for item in items("ovo-s-bench", tmp_path)]
    assert question.parts == (() if band is None else (f"evidence {band}",))


def _table(name, rows):
    """Rows as the benchmark's own Parquet has them."""
    pyarrow = pytest.importorskip("pyarrow")
    if name == "ovo-s-bench":
        kinds = {"options": pyarrow.map_(pyarrow.string(), pyarrow.string())}
        rows = [row | {"options": list({"A": "left", "B": "right", "C": "behind"}.items())} for row in rows]
        schema = pyarrow.schema(
            [
                *((field, kinds.get(field, pyarrow.string())) for field in rows[0] if field not in _NUMBERS),
                ("level", pyarrow.int64()),
                ("query_times", pyarrow.list_(pyarrow.float64())),
                ("evidence_times", pyarrow.list_(pyarrow.list_(pyarrow.float64()))),
                ("answers", pyarrow.list_(pyarrow.string())),
            ]
        )
        return pyarrow.Table.from_pylist(rows, schema)
    return pyarrow.Table.from_pylist(rows)


_NUMBERS = ("level", "query_times", "evidence_times", "answers")


@pytest.mark.parametrize("name", ["video-mme-v2", "vsi-super-recall", "vsi-super-count", "ovo-s-bench"])
def test_parquet_holds_the_same_as_json(name, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    variant = "streaming" if name == "vsi-super-count" else BENCHMARKS[name].variants[0]
    expected = asked(items(name, LAYOUTS[name](tmp_path, variant), variant))
    for file in sorted(tmp_path.glob("*.json")):
        parquet.write_table(_table(name, json.loads(file.read_text())), file.with_suffix(".parquet"))
        file.unlink()
    assert asked(items(name, tmp_path, variant)) == expected


def test_the_page_of_benchmarks_says_what_they_say():
    page = (ROOT / "docs" / "guides" / "benchmark-data.md").read_text()
    for benchmark in BENCHMARKS.values():
        section = page[page.index(f"## {benchmark.title}\n") :].removeprefix("## ").partition("\n## ")[0]
        assert f"\n```\n{benchmark.layout}\n```\n" in section
        said = [benchmark.name, benchmark.paper, benchmark.source, benchmark.licence, benchmark.default_protocol]
        assert [part for part in (*said, *benchmark.variants, benchmark.about[1:]) if part not in section] == []
