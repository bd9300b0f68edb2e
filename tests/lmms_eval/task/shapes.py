"""What the task of shapes.yaml shows, and how its answers are scored."""


def doc_to_visual(doc):
    return [doc["video"]]


def process_results(doc, results):
    return {"right": float(results[0] == doc["answer"])}
