"""Alpaca's template (Taori et al. 2023) as a chat template, so that servers of the trained model ask as it was trained.

The input of an example has a section of its own; a message for it has the key `input` beside its content. A system
prompt stands before all else, and each later turn of a conversation is an instruction without the opening sentence.
"""

from __future__ import annotations

from typing import Final

_ALPACA: Final = r"""{%- for message in messages -%}
{%- if message.role == 'system' -%}
{{ message.content + '\n\n' }}
{%- elif message.role == 'user' -%}
{%- if loop.index0 == (1 if messages[0].role == 'system' else 0) -%}
{{ 'Below is an instruction that describes a task' }}
{{- ', paired with an input that provides further context' if message.input else '' }}
{{- '. Write a response that appropriately completes the request.\n\n' }}
{%- endif -%}
{{ '### Instruction:\n' + message.content + '\n\n' }}
{%- if message.input -%}
{{ '### Input:\n' + message.input + '\n\n' }}
{%- endif -%}
{%- elif message.role == 'assistant' -%}
{{ '### Response:\n' + message.content + eos_token }}
{%- if not loop.last -%}
{{ '\n\n' }}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '### Response:\n' }}
{%- endif -%}
"""


def alpaca_template(*, begins_with_bos: bool) -> str:
    """The Jinja template. `begins_with_bos`: the tokenizer puts its first token before each text by itself."""
    return "{{ bos_token }}" + _ALPACA if begins_with_bos else _ALPACA
