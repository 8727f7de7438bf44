"""Names that options take. They stand here because the modules that own the names are slow to import; a test compares
them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

BadRow: TypeAlias = Literal["stop", "skip"]
DataEngine: TypeAlias = Literal["local", "ray"]
Engine: TypeAlias = Literal["auto", "vllm", "embedded", "simulated"]
Format: TypeAlias = Literal[
    "rows",
    "alpaca",
    "sharegpt",
    "messages",
    "prompt-completion",
    "preference",
    "preference-sharegpt",
    "kto",
    "explore-instruct",
]
Marked: TypeAlias = Literal["not-bad", "good", "any"]
Method: TypeAlias = Literal["proportional", "uniform", "diverse"]
RunEngine: TypeAlias = Literal["local", "ray"]
Preset: TypeAlias = Literal["chat", "paper"]
Scope: TypeAlias = Literal["run", "domain", "task"]
SplitBy: TypeAlias = Literal["example", "task"]
AnswerTemplate: TypeAlias = Literal["chat", "alpaca"]
TemplateName: TypeAlias = Literal["auto", "alpaca"]
TokenizerName: TypeAlias = Literal["auto", "rouge", "unicode"]
TooLong: TypeAlias = Literal["stop", "cut", "skip"]
Training: TypeAlias = Literal["lora", "full"]
