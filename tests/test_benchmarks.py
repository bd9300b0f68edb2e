from benchmark_layouts import mlvu

from infinipot.evaluate import Problem, find_benchmark


def items(benchmark, data, variant=None):
    read = list(find_benchmark(benchmark).read(data, variant))
    assert not [problem for problem in read if isinstance(problem, Problem)]
    return read


def test_mlvu_dev(tmp_path):
    read = items("mlvu", mlvu(tmp_path))
    assert len(read) == 7
    first = read[0]
    assert first.id == "video/1_plotQA/plotQA_1.mp4"
    assert first.video.is_file()
    assert [question.id for question in first.questions] == ["plotQA-0", "plotQA-1"]
    assert [question.answer for question in first.questions] == ["A", "D"]
    assert {question.task for item in read for question in item.questions} == {
        "plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning"
    }  # fmt: skip


def test_mlvu_test(tmp_path):
    read = items("mlvu", mlvu(tmp_path, "test"), "test")
    assert [[question.id for question in item.questions] for item in read] == [
        ["needleQA_0", "needleQA_2"],
        ["sportsQA_1"],
    ]
    assert [question.answer for item in read for question in item.questions] == ["B", "A", "F"]
