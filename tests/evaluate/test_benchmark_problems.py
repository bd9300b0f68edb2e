"""Broken layouts, and annotations that nobody should have written: one line each, and the rest goes on."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinipot import BenchmarkError
from infinipot.evaluate import BENCHMARKS, Item, Problem, find_benchmark
from infinipot.evaluate.benchmarks.annotations import UnusableError, parse_seconds
from support.benchmark_layouts import egoschema, longvideobench, mlvu, streaming_bench, video, video_mme
from support.row_layouts import LAYOUTS, video_mme_v2, vsi_super_count, vsi_super_recall

MAIN = {
    "mlvu": "json/1_plotQA.json",
    "video-mme": "videomme.json",
    "longvideobench": "lvb_val.json",
    "egoschema": "questions.json",
    "rvs": "ego/ego4d_oe.json",
    "ovo-bench": "ovo_bench_new.json",
    "streaming-bench": "StreamingBench/Real_Time_Visual_Understanding.csv",
    "video-mme-v2": "test.json",
    "vsi-super-recall": "test_10mins.json",
    "vsi-super-count": "test_10mins.json",
    "ovo-s-bench": "ovo_s_bench.json",
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
    with pytest.raises(BenchmarkError, match=f"^{benchmark.title}: .*{MAIN[name]}.*; .*--list"):
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
        ({"video": "../2_needle/needle_1.mp4"}, "not a relative path inside video/1_plotQA/"),
        ({"video": "/etc/passwd"}, "not a relative path inside"),
        ({"video": "a\0b"}, "not a relative path inside"),
        ({"video": "x" * 5000}, "cannot be reached (File name too long)"),
        ({"video": "."}, "outside of"),
        ({"video": "link.mp4"}, "outside of video/1_plotQA/"),
        ({"video": "linked/secret.mp4"}, "outside of video/1_plotQA/"),
        ({"video": "loop.mp4"}, "cannot be reached"),
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


def test_a_folder_of_one_length_may_be_a_link_and_nothing_in_it(tmp_path):
    """The videos of VSI-SUPER lie beside its tables, in a folder for each length."""
    data = vsi_super_recall(tmp_path / "data")
    (data / "60mins").rename(tmp_path / "big-disk")
    (data / "60mins").symlink_to(tmp_path / "big-disk")
    (item,), problems = read("vsi-super-recall", data, "60mins")
    assert (item.id, problems) == ("60mins/00000003.mp4", [])
    (tmp_path / "big-disk" / "00000003.mp4").rename(tmp_path / "secret.mp4")
    (tmp_path / "big-disk" / "00000003.mp4").symlink_to(tmp_path / "secret.mp4")
    items, (problem,) = read("vsi-super-recall", data, "60mins")
    assert (items, "lies outside of 60mins/" in problem) == ([], True)


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
    assert "the file of subtitles '../lvb_val.json' is not a relative path inside subtitles/" in problems[1]


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
    assert read("egoschema", data) == ([], ["subset_answers.json: does not hold an object of answers by q_uid"])


def row_problems(name, data, variant=None, index=0, **fields):
    """The lines about a miniature with one row changed, and how many questions are left."""
    change(LAYOUTS[name](data, variant) / MAIN[name], index, **fields)
    items, problems = read(name, data, variant)
    return problems, sum(len(item.questions) for item in items)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"video_id": "../001"}, "not a relative path inside data/"),
        ({"video_id": 1.5}, '"video_id" is a number, not a text'),
        ({"question_id": "001"}, "which does not end in -1, -2, -3 or -4"),
        ({"question_id": "001-5"}, "which does not end in -1, -2, -3 or -4"),
        ({"question_id": "001-2"}, "was used before"),
        ({"options": "A. One\nC. Three"}, "is not a text of lines that begin with"),
        ({"options": "One\nTwo"}, "is not a text of lines that begin with"),
        ({"options": ["One", "Two"]}, 'do not begin with "A."'),
        ({"answer": "I"}, "one of A, B, C, D, E, F, G, H was expected"),
    ],
)
def test_a_group_of_four_that_lacks_one_is_left_out(fields, said, tmp_path):
    problems, left = row_problems("video-mme-v2", tmp_path, None, 0, **fields)
    assert any(said in problem for problem in problems)
    assert problems[-1].startswith(
        "data/001.mp4: the 4 questions of '001' share one score, and not all of them can be used ("
    )
    assert (len(problems), left) == (2, 12)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"group_type": "vague"}, "\"group_type\" is 'vague'; possible: relevance, logic"),
        ({"group_structure": "[4, 3, 2, 1]"}, "\"group_structure\" is '[4,3,2,1]'; possible: [1,2,3,4]"),
        ({"group_structure": 4}, '"group_structure" is a number'),
        ({"level": 4}, '"level" is 4, not 1, 2 or 3'),
        ({"third_head": 7.5}, '"third_head" is a number'),
    ],
)
def test_what_a_group_says_wrongly_is_said_of_each_of_its_questions(fields, said, tmp_path):
    problems, left = row_problems("video-mme-v2", tmp_path, None, 3, **fields)
    assert [said in problem for problem in problems] == [True] * 4
    assert left == 12


@pytest.mark.parametrize("content", ['{"text": "x"}', "[", "\udc00", '{"text": 1, "start_time": 0, "end_time": 1}'])
def test_broken_words_leave_out_their_video(content, tmp_path):
    data = video_mme_v2(tmp_path, "subtitles")
    (data / "subtitle" / "001.jsonl").write_text(content, errors="surrogatepass")
    items, (problem,) = read("video-mme-v2", data, "subtitles")
    assert len(items) == 3
    assert problem.startswith("data/001.mp4: the subtitles 001.jsonl cannot be used: ")
    (data / "subtitle" / "001.jsonl").unlink()
    with pytest.raises(BenchmarkError, match=r"subtitle holds no \.jsonl file"):
        read("video-mme-v2", data, "subtitles")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "10 mins"}, "\"type\" is '10 mins'; possible: 10mins"),
        ({"video_path": "../10mins/00000003.mp4"}, "is not a relative path inside the data folder"),
        ({"video_path": "10mins"}, "is not in the data folder"),
        ({"answer": "E"}, "\"answer\" is 'E', which names none of the 4 options"),
        ({"options": ["A. x", "B. y"], "answer": "C"}, "\"answer\" is 'C', which names none of the 2 options"),
    ],
)
def test_a_recall_row_that_cannot_be_used(fields, said, tmp_path):
    (problem,), left = row_problems("vsi-super-recall", tmp_path, None, 0, **fields)
    assert said in problem
    assert left == 5


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"query_times": None}, 'has no list "query_times"'),
        ({"query_times": [1]}, '"answers" holds 4 numbers for 1 "query_times"; give as many or one more'),
        ({"query_times": [1, 2, 3, 4, 5]}, '"answers" holds 4 numbers for 5 "query_times"'),
        ({"query_times": [], "answers": []}, '"answers" holds 0'),
        ({"query_times": [1, "soon", 3]}, "\"query_times\" is 'soon', not a time in seconds"),
        ({"answers": [0, 2, 4, -1]}, '"answer" is -1, not a number from 0 on'),
        ({"answers": [0, 2, 4, "many"]}, "\"answer\" is 'many', not a number"),
        ({"answers": [0, 2, 10**400, 5]}, "not a number from 0 on"),
    ],
)
def test_a_streaming_row_with_a_moment_that_cannot_be_used_is_left_out_whole(fields, said, tmp_path):
    problems, left = row_problems("vsi-super-count", tmp_path, "streaming", 1, **fields)
    assert said in problems[0]
    assert [problem for problem in problems[1:] if "'10mins_streaming-0' share one score" not in problem] == []
    assert left == 6


def test_a_length_without_a_row_is_said_and_one_without_a_file_is_an_error(tmp_path):
    data = vsi_super_count(tmp_path)
    change(data / "test_10mins.json", 0, split="30mins", id="x")
    items, (problem,) = read("vsi-super-count", data)
    assert problem == 'test*: no row has the "split" 10mins'
    assert sum(len(item.questions) for item in items) == 4
    (data / "test_30mins.json").rename(data / "test-00000-of-00001.json")
    again, problems = read("vsi-super-count", data)
    assert (sorted(again, key=str), problems) == (sorted(items, key=str), [problem])
    (data / "test-00000-of-00001.json").rename(data / "elsewhere.json")
    assert len(read("vsi-super-count", data, "60mins-streaming")[0]) == 1
    with pytest.raises(
        BenchmarkError, match=r"VSI-SUPER Count: .* does not hold test_30mins\.json or test_30mins\.parquet;"
    ):
        read("vsi-super-count", data)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"level": 5}, '"level" is 5, not 1, 2, 3 or 4'),
        ({"query_times": []}, '"query_times" is an empty list'),
        ({"answers": []}, '"answers" is an empty list'),
        ({"answers": ["B", "D"]}, "\"answers\" is 'D'; one of A, B, C was expected"),
        ({"options": {"A": "x", "C": "y"}}, '"options" are not labelled A, B and so on'),
        ({"options": [["A", "x"], ["A", "y"]]}, '"options" are not labelled A, B and so on'),
        ({"options": ["x", "y"]}, '"options" is neither an object of texts by letter nor a list'),
        ({"options": None}, '"options" is neither an object of texts by letter nor a list'),
        ({"options": {"A": "data:image/png;base64,iVBORw0", "B": "data:image/png;base64,iVBORw1"}}, "are pictures"),
        ({"evidence_times": [[1]]}, '"evidence_times" is not a list of pairs of times'),
        ({"evidence_times": [[1, "x"]]}, "\"evidence_times\" is 'x', not a time in seconds"),
        ({"video_path": "/etc/passwd"}, "not a relative path inside videos/"),
    ],
)
def test_a_row_of_ovo_s_bench_that_cannot_be_used(fields, said, tmp_path):
    (problem,), left = row_problems("ovo-s-bench", tmp_path, None, 0, **fields)
    assert said in problem
    assert left == 6


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
    assert all(problem.startswith((MAIN[name], "subset_answers.json", "test*: ")) for problem in problems)
    in_other_files = {"mlvu": whole - 2, "vsi-super-recall": whole - 2, "vsi-super-count": whole - 1}
    assert sum(len(item.questions) for item in items) == in_other_files.get(name, 0)


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
        units = [question.unit for question in item.questions if question.unit is not None]
        for name in {unit.id for unit in units}:
            own = [unit for unit in units if unit.id == name]
            assert sorted(unit.place for unit in own) == list(range(own[0].size))
            assert len({(unit.size, unit.kind) for unit in own}) == 1


@pytest.fixture(scope="module", params=[(name, variant) for name in MAIN for variant in BENCHMARKS[name].variants[:2]])
def miniature(request, tmp_path_factory):
    name, variant = request.param
    return name, variant, LAYOUTS[name](tmp_path_factory.mktemp(name), variant)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_nothing_that_annotations_hold_raises(miniature, data):
    """Whatever stands in a field of a real annotation, or in its place: items and problems, nothing else."""
    name, variant, folder = miniature
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".csv", ".srt"))
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
    assert '"options" is not a list of texts' in problem
    assert not Path(marker).exists()
