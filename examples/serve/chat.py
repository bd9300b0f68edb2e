"""The official `openai` client: pictures into a stream, then questions about it, whole and as they are made.

    pip install openai
    infinipot serve --model embedded &
    python examples/serve/frames.py frames
    python examples/serve/chat.py frames

INFINIPOT_URL is where the server is, INFINIPOT_KEY a key of its file of keys, if it has one.
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

url = os.environ.get("INFINIPOT_URL", "http://127.0.0.1:8000")
client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("INFINIPOT_KEY", "none"))
model = client.models.list().data[0].id

# Frames in a row, as vLLM has them: at two a second, into the stream of this session, which is opened by them.
pictures = sorted(Path(sys.argv[1]).glob("*.jpg"))
row = ",".join(base64.b64encode(picture.read_bytes()).decode() for picture in pictures)
video = {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{row}"}}
session = {"session_id": "chat", "media_io_kwargs": {"video": {"fps": 2}}}
question = {"type": "text", "text": "What colour was the circle?"}
reply = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": [video, question]}], extra_body=session
)
print(question["text"], reply.choices[0].message.content)
print(f"{reply.usage.prompt_tokens_details.cached_tokens} of {reply.usage.prompt_tokens} tokens were in memory")

# The stream has seen them: the next question brings no frames.
asked = "How many shapes have appeared so far?"
print(asked, end=" ")
for chunk in client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": asked}], extra_body={"session_id": "chat"}, stream=True
):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
client.delete("/streams/chat", cast_to=object)
