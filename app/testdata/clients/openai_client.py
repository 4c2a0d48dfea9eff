"""Uses a studio through OpenAI's own client for Python, and says "ok NAME" for each
thing that worked. The client is the one of the interpreter that runs this."""

import base64
import concurrent.futures
import os
import urllib.request

import openai

STUDIO = os.environ["STUDIO_URL"]
KEY = os.environ["STUDIO_KEY"]
MESSAGES = [{"role": "user", "content": "name this town"}]


def client(key=KEY, **options):
    return openai.OpenAI(base_url=f"{STUDIO}/v1", api_key=key, max_retries=0, **options)


def fails(call, kind, status=None, code=None, param=None):
    try:
        call()
    except kind as error:
        assert status is None or error.status_code == status, error
        assert code is None or error.code == code, error
        assert param is None or error.param == param, error
        return error
    raise AssertionError("the call worked")


def chat(text="name this town", **more):
    messages = [{"role": "user", "content": text}]
    return client().chat.completions.create(**{"model": "synthetic-llm", "messages": messages, **more})


def models():
    assert "synthetic-llm" in [m.id for m in client().models.list()]
    assert client().models.retrieve("synthetic-llm").object == "model"


def whole_chat():
    answer = chat(
        temperature=0, max_completion_tokens=50, stop="\n", seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "town", "schema": {"type": "object"}}},
    )
    assert answer.choices[0].message.content.startswith("[synthetic]"), answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer


def several_chats():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: chat(f"town {i}"), range(8)))
    assert len({a.choices[0].message.content for a in answers}) == 8


def streamed_chat():
    whole = chat()
    text, reason, usage = "", None, None
    for piece in chat(stream=True, stream_options={"include_usage": True}):
        if piece.choices:
            text += piece.choices[0].delta.content or ""
            reason = piece.choices[0].finish_reason or reason
        usage = piece.usage or usage
    assert text == whole.choices[0].message.content, text
    assert reason == "stop" and usage == whole.usage, (reason, usage)


def gathered_chat():
    with client().chat.completions.stream(model="default", messages=MESSAGES) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content.startswith("[synthetic]"), final


def images():
    answer = client().images.generate(
        model="synthetic-image", prompt="a lighthouse in fog", size="128x64", n=2, response_format="b64_json"
    )
    assert len(answer.data) == 2, answer
    picture = base64.b64decode(answer.data[0].b64_json)
    assert picture[1:4] == b"PNG", picture[:16]
    assert (int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")) == (128, 64)


def image_by_address():
    answer = client().images.generate(model="synthetic-image", prompt="x", size="64x64", response_format="url")
    with urllib.request.urlopen(answer.data[0].url) as response:
        assert response.headers["Content-Type"] == "image/png" and len(response.read()) > 50


def speech():
    with client().audio.speech.with_streaming_response.create(
        model="synthetic-tts", voice="alloy", input="we sail at dawn", response_format="wav"
    ) as response:
        assert response.headers["content-type"] == "audio/wav"
        assert b"".join(response.iter_bytes()).startswith(b"RIFF")


def transcription():
    def say(response_format):
        return client().audio.transcriptions.create(
            model="synthetic-stt", file=("harbour.wav", b"RIFF....WAVE"), language="en", response_format=response_format
        )

    assert say("json").text.startswith("[synthetic]")
    assert say("text").startswith("[synthetic]")
    assert say("srt").startswith("1\n00:00:00,000 --> 00:00:01,000\n[synthetic]")
    assert say("vtt").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n")
    verbose = say("verbose_json")
    assert verbose.duration == 1 and verbose.segments[0].text.startswith("[synthetic]"), verbose
    translated = client().audio.translations.create(model="synthetic-stt", file=("harbour.wav", b"RIFF....WAVE"))
    assert translated.text.startswith("[synthetic]"), translated


def wrong_key():
    call = client("sw-wrong").chat.completions.create
    fails(lambda: call(model="default", messages=MESSAGES), openai.AuthenticationError, 401, "invalid_api_key")


def revoked_key():
    fails(client(os.environ["STUDIO_REVOKED"]).models.list, openai.AuthenticationError, 401, "invalid_api_key")


def unknown_model():
    fails(lambda: chat(model="nobody"), openai.NotFoundError, 404, "model_not_found", "model")
    fails(lambda: client().models.retrieve("nobody"), openai.NotFoundError, 404, "model_not_found")


def tools():
    wish = [{"type": "function", "function": {"name": "tide", "parameters": {}}}]
    fails(lambda: chat(tools=wish), openai.BadRequestError, 400, "unsupported_parameter", "tools")


def address_that_is_not_there():
    fails(lambda: client().embeddings.create(model="x", input="x"), openai.NotFoundError, 404, "unknown_url")


def no_worker():
    error = fails(lambda: chat(model="huge"), openai.InternalServerError, 503, "no_worker")
    assert error.response.headers["retry-after"] == "30"


def caller_goes_away():
    call = client(timeout=1.5).chat.completions.create
    fails(lambda: call(model="synthetic-llm", messages=MESSAGES), openai.APITimeoutError)


def time_out():
    error = fails(chat, openai.InternalServerError, 504, "timeout")
    assert error.response.headers["retry-after"]
    fails(lambda: chat(stream=True), openai.InternalServerError, 504, "timeout")


def full_queue():
    error = fails(chat, openai.RateLimitError, 429, "queue_full")
    assert error.response.headers["retry-after"]


CHECKS = {
    "work": {
        "models": models, "chat": whole_chat, "several chats at once": several_chats, "streamed chat": streamed_chat,
        "streamed chat, gathered by the client": gathered_chat, "images": images, "image by address": image_by_address,
        "speech": speech, "transcription": transcription,
    },
    "errors": {
        "wrong key": wrong_key, "revoked key": revoked_key, "unknown model": unknown_model, "tools": tools,
        "address that is not there": address_that_is_not_there, "no worker": no_worker,
        "caller goes away": caller_goes_away, "time out": time_out,
    },
    "full": {"full queue": full_queue},
}

print(f"version {openai.__version__}", flush=True)
for name, check in CHECKS[os.environ["STUDIO_MODE"]].items():
    check()
    print(f"ok {name}", flush=True)
