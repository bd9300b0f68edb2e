"""Broken layouts, and annotations that nobody should have written: one line each, and the rest goes on."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinipot import BenchmarkError
from infinipot.evaluate import BENCHMARKS, Item, Problem, find_benchmark
from infinipot.evaluate.benchmarks.annotations import UnusableError, parse_seconds
from support.benchmark_layouts import LAYOUTS, egoschema, longvideobench, mlvu, streaming_bench, video, video_mme

MAIN = {
    "mlvu": "json/1_plotQA.json",
    "video-mme": "videomme.json",
    "longvideobench": "lvb_val.json",
    "egoschema": "questions.json",
    "rvs": "ego/ego4d_oe.json",
    "ovo-bench": "ovo_bench_new.json",
    "streaming-bench": "StreamingBench/Real_Time_Visual_Understanding.csv",
}
VIDEOS = {"mlvu": "video/", "rvs": "ego/videos", "ovo-bench": "src_videos", "streaming-bench": "videos"}


def read(name, data, variant=None):
    """Items and lines about problems."""
    both = list(find_benchmark(name).read(data, variant))
    items = [one for one in both if isinstance(one, Item)]
    problems = [str(one) for one in both if isinstance(one, Problem)]
    assert len(items) + len(problems) == len(both)
    return items, problems


def change(file, index, **fields):
    entries = json.loads(file.read_text())
    entries[index].update(fields)
    file.write_text(json.dumps(entries))


@pytest.mark.parametrize("name", MAIN)
def test_a_missing_file_or_folder_is_named(name, tmp_path):
    data = LAYOUTS[name](tmp_path)
    benchmark = BENCHMARKS[name]
    (data / MAIN[name]).rename(data / "elsewhere")
    with pytest.raises(BenchmarkError, match=f"{MAIN[name]}.*, of {benchmark.title}; .*--list"):
        list(benchmark.read(data))
    with pytest.raises(BenchmarkError, match="there is no data folder"):
        list(benchmark.read(data / "nowhere"))
    with pytest.raises(BenchmarkError, match=f'no variant "dve"; possible: {", ".join(benchmark.variants)}'):
        list(benchmark.read(data, "dve"))


def test_each_missing_part_of_a_layout_is_named(tmp_path):
    data = mlvu(tmp_path / "mlvu")
    (data / "json" / "4_count.json").unlink()
    with pytest.raises(BenchmarkError, match=r"json/4_count\.json"):
        list(find_benchmark("mlvu").read(data))
    data = egoschema(tmp_path / "egoschema")
    (data / "subset_answers.json").unlink()
    with pytest.raises(BenchmarkError, match=r"subset_answers\.json"):
        list(find_benchmark("egoschema").read(data))
    assert len(read("egoschema", data, "full")[0]) == 3
    (data.parent / "mlvu" / "json" / "4_count.json").write_text("[]")
    (data.parent / "mlvu" / "video" / "3_ego").rename(tmp_path / "elsewhere")
    with pytest.raises(BenchmarkError, match="video/3_ego or video/ego"):
        list(find_benchmark("mlvu").read(data.parent / "mlvu"))
    data = video_mme(tmp_path / "video-mme")
    (data / "data").rename(data / "clips")
    with pytest.raises(BenchmarkError, match="data or video"):
        list(find_benchmark("video-mme").read(data))


def test_unknown_names_are_said():
    with pytest.raises(BenchmarkError, match=r'"video_mme"; did you mean "video-mme"\? Possible: mlvu'):
        find_benchmark("video_mme")
    with pytest.raises(BenchmarkError, match=r'unknown benchmark: "lvb"; Possible: mlvu'):
        find_benchmark("lvb")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"question": None}, 'has no "question"'),
        ({"question": 7}, '"question" is a number, not a text'),
        ({"question": " \n"}, '"question" is blank'),
        ({"question": "half \ud800"}, "half of a character"),
        ({"candidates": "A door."}, '"candidates" is a text, not a list'),
        ({"candidates": ["A door."]}, "holds 1 options"),
        ({"candidates": ["A door.", None]}, '"candidates"[1] is null'),
        ({"candidates": [str(number) for number in range(27)]}, "holds 27 options"),
        ({"answer": "Something else."}, "none of the 4 candidates"),
        ({"answer": True}, '"answer" is true or false'),
        ({"answer": 7}, "none of the 4 candidates"),
        ({"video": "missing.mp4"}, "'missing.mp4' is not in video/1_plotQA/"),
        ({"video": "../2_needle/needle_1.mp4"}, "not named by a path inside video/1_plotQA/"),
        ({"video": "/etc/passwd"}, "not named by a path inside"),
        ({"video": "a\0b"}, "not named by a path inside"),
        ({"video": "x" * 5000}, "cannot be reached (File name too long)"),
        ({"video": "."}, "outside of"),
        ({"video": "link.mp4"}, "outside of video/1_plotQA/"),
        ({"video": "linked/secret.mp4"}, "outside of video/1_plotQA/"),
        ({"video": "loop.mp4"}, "no file that can be reached"),
        ({"video": "folder.mp4"}, "is not in video/1_plotQA/"),
        ({"video": ["plotQA_1.mp4"]}, '"video" is a list'),
    ],
)
def test_an_annotation_that_cannot_be_used_is_one_line_and_the_rest_goes_on(fields, said, tmp_path):
    data = mlvu(tmp_path / "data")
    folder = data / "video" / "1_plotQA"
    video(tmp_path / "outside" / "secret.mp4")
    (folder / "link.mp4").symlink_to(tmp_path / "outside" / "secret.mp4")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "folder.mp4").mkdir()
    change(data / "json" / "1_plotQA.json", 0, **fields)
    items, (problem,) = read("mlvu", data)
    assert problem.startswith("json/1_plotQA.json[0]: ")
    assert said in problem
    assert "\n" not in problem
    assert len(problem) < 200
    assert sum(len(item.questions) for item in items) == 7


def test_folders_of_the_layout_itself_may_be_links(tmp_path):
    """Annotations and videos often lie on different disks."""
    data = mlvu(tmp_path / "data")
    (data / "video").rename(tmp_path / "big-disk")
    (data / "video").symlink_to(tmp_path / "big-disk")
    (tmp_path / "link").symlink_to(data)
    assert len(read("mlvu", tmp_path / "link")[0]) == 7


def test_ids_that_stand_twice_count_once(tmp_path):
    data = video_mme(tmp_path)
    change(data / "videomme.json", 4, question_id="001-1")
    items, (problem,) = read("video-mme", data)
    assert problem == "videomme.json[4]: the id '001-1' was used before; the first one counts"
    assert [question.id for item in items for question in item.questions] == ["001-1", "001-2", "001-3", "601-1"]


def test_broken_subtitles_leave_out_their_video(tmp_path):
    data = video_mme(tmp_path / "video-mme", "subtitles")
    (data / "subtitle" / "fFjv93ACGo8.srt").write_bytes(b"\xff\xfe\x00")
    items, (problem,) = read("video-mme", data, "subtitles")
    assert len(items) == 1
    assert problem == (
        "data/fFjv93ACGo8.mp4: the file of subtitles fFjv93ACGo8.srt is not text in UTF-8 (3 questions left out)"
    )
    data = longvideobench(tmp_path / "longvideobench")
    (data / "subtitles" / "aa1_en.json").write_text('[{"timestamp": [0], "text": "x"}]')
    change(data / "lvb_val.json", 2, subtitle_path="../lvb_val.json")
    items, problems = read("longvideobench", data, "val-subtitles")
    assert items == []
    assert "the subtitles aa1_en.json cannot be used" in problems[0]
    assert "the file of subtitles '../lvb_val.json' is not named by a path inside subtitles/" in problems[1]


@pytest.mark.parametrize("wrong", ["empty", "a file"])
def test_subtitles_that_were_not_unpacked_are_not_taken_for_videos_without(wrong, tmp_path):
    data = video_mme(tmp_path, "subtitles")
    (data / "subtitle" / "fFjv93ACGo8.srt").unlink()
    if wrong == "a file":
        (data / "subtitle").rmdir()
        (data / "subtitle").write_bytes(b"PK")
    with pytest.raises(BenchmarkError, match=r"subtitle holds no \.srt file"):
        read("video-mme", data, "subtitles")
    assert len(read("video-mme", data)[0]) == 2


def test_labels_of_questions_that_are_not_there_are_said(tmp_path):
    data = egoschema(tmp_path)
    answers = json.loads((data / "subset_answers.json").read_text())
    (data / "subset_answers.json").write_text(json.dumps({**answers, "nobody": 1, "ffff0000-aaaa": 5}))
    items, problems = read("egoschema", data)
    assert len(items) == 2
    assert problems == [
        "questions.json[2]: \"answer\" is 5; there are options 0 to 4",
        "subset_answers.json: 'nobody' is not in questions.json",
    ]  # fmt: skip
    (data / "subset_answers.json").write_text("[]")
    assert read("egoschema", data) == ([], ["subset_answers.json: holds no object of answers by q_uid"])


@pytest.mark.parametrize("name", [name for name in MAIN if name != "streaming-bench"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"{", b"{}", b"7", b"[" * 100_000, b"9" * 10_000, b"NaN", b'[null, 1, "x", []]']
)
def test_a_file_of_something_else_is_said(name, content, tmp_path):
    data = LAYOUTS[name](tmp_path)
    whole = sum(len(item.questions) for item in read(name, data)[0])
    (data / MAIN[name]).write_bytes(content)
    items, problems = read(name, data)
    assert problems
    assert all(problem.startswith((MAIN[name], "subset_answers.json")) for problem in problems)
    assert sum(len(item.questions) for item in items) == (whole - 2 if name == "mlvu" else 0)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**308, 10**320)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(["A", "B", "../up", "/etc", ".", "", "\0", "x" * 300, "00:00:01", "1:2:3:4", "nan", "-1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def fields_of(value):
    """Where something stands in a JSON value: paths of keys and indices."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, part in inner for rest in fields_of(part))]


def put(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def hold(name, data, variant):
    items, problems = read(name, data, variant)
    ids = [question.id for item in items for question in item.questions]
    assert len(ids) == len(set(ids))
    assert len({item.id for item in items}) == len(items)
    assert all(problem.isprintable() for problem in problems)
    for item in items:
        assert item.video.is_file()
        assert item.video.resolve().is_relative_to(data.resolve())
        for question in item.questions:
            json.dumps([question.text, *question.options]).encode()
            assert question.answer is None or not question.options or question.answer in question.letters
            assert question.at is None or 0 <= question.at < float("inf")


@pytest.fixture(scope="module", params=[(name, variant) for name in MAIN for variant in BENCHMARKS[name].variants[:2]])
def miniature(request, tmp_path_factory):
    name, variant = request.param
    return name, variant, LAYOUTS[name](tmp_path_factory.mktemp(name), variant)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_nothing_that_annotations_hold_raises(miniature, data):
    """Whatever stands in a field of a real annotation, or in its place: items and problems, nothing else."""
    name, variant, folder = miniature
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".csv", ".srt"))
    file = data.draw(st.sampled_from(files))
    kept = file.read_bytes()
    try:
        if file.suffix == ".json":
            value = json.loads(kept)
            for _ in range(data.draw(st.integers(1, 3))):
                value = put(value, data.draw(st.sampled_from(fields_of(value))), data.draw(JSON))
            file.write_text(json.dumps(value))
        else:
            text = kept.decode()
            at = data.draw(st.integers(0, len(text)))
            new = data.draw(st.text(max_size=20) | st.sampled_from(['"', "\r", "(" * 500, "\0", "9" * 5000]))
            file.write_text(text[:at] + new + text[at + data.draw(st.integers(0, 40)) :], errors="replace")
        hold(name, folder, variant)
    finally:
        file.write_bytes(kept)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(0, 0), (2.5, 2.5), ("754.5", 754.5), ("12:34", 754), ("00:03:10", 190), (" 1:00:00 ", 3600)]
    + [(wrong, None) for wrong in (-1, "-1", "nan", float("inf"), 10**400, True, "1:2:3:4", "soon", "", [1], "1:-2")],
)
def test_times_are_numbers_or_clocks(given, seconds):
    if seconds is None:
        with pytest.raises(UnusableError, match="not a time in seconds"):
            parse_seconds(given, '"at"')
    else:
        assert parse_seconds(given, '"at"') == seconds


def test_options_of_a_table_are_read_as_a_list_and_never_run(tmp_path):
    data = streaming_bench(tmp_path)
    file = data / MAIN["streaming-bench"]
    marker = tmp_path / "ran"
    text = file.read_text().replace("['A. A cup.'", f"[open('{marker}', 'w')", 1)
    file.write_text(text)
    items, (problem,) = read("streaming-bench", data)
    assert sum(len(item.questions) for item in items) == 3
    assert '"options" is no list of texts' in problem
    assert not Path(marker).exists()
