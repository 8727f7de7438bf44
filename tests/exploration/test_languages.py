"""Languages of texts, and the check of a run for the language of what comes back."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest
from blockbuster import BlockBuster
from hypothesis import given
from hypothesis import strategies as st
from support.cli import CONFIG, in_process
from support.scripted import WIDE_WORDS, Driven, recipe

from explore_async.errors import ConfigError
from explore_async.exploration.language_check import language_check, language_told
from explore_async.exploration.language_table import LANGUAGES
from explore_async.exploration.languages import language_named, language_of, language_of_texts
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.values import ChatRequest, Completion, ExampleDropped, ExampleKept, Request
from explore_async.settings.recipe import Filters
from rouge_kernels import TOKENIZERS

SENTENCES = {
    "English": "Give three tips for staying healthy during a long winter.",
    "German": "Beschreibe in zwei Sätzen, warum sich die Erde um die Sonne dreht.",
    "French": "Expliquez pourquoi le ciel est bleu pendant la journée et rouge le soir.",
    "Spanish": "Escribe una historia breve sobre un perro que viaja en tren con su dueño.",
    "Portuguese": "Escreva uma carta para o seu amigo e explique como se faz um bolo.",
    "Italian": "Scrivi una breve storia di un cane che viaggia in treno con il suo padrone.",
    "Dutch": "Schrijf een kort verhaal over een hond die met de trein naar zee gaat.",
    "Polish": "Napisz krótkie opowiadanie o psie, który jedzie pociągiem do morza, i o tym, co się stało.",
    "Turkish": "Bir köpek için kısa bir hikaye yaz ve nasıl bittiğini de anlat.",
    "Vietnamese": "Viết một câu chuyện ngắn về con chó và cho biết kết thúc của nó.",
    "Russian": "Напишите короткий рассказ о собаке, которая едет на поезде к морю, и не забудьте о конце.",
    "Ukrainian": "Напиши коротке оповідання про собаку, який їде до моря, та що з ним було.",
    "Arabic": "اكتب قصة قصيرة عن كلب في القطار من البداية إلى النهاية",
    "Persian": "یک داستان کوتاه از سگی که با قطار به دریا می رود بنویسید",
    "Hindi": "एक कुत्ते के बारे में कहानी लिखें और यह भी बताएं कि अंत में क्या हुआ",
    "Chinese": "用Python写一个冒泡排序，并解释每一步。",
    "Japanese": "Pythonで短い物語を書いてください。",
    "Korean": "기차를 타고 바다로 가는 개에 대한 짧은 이야기를 쓰세요.",
    "Greek": "Γράψε μια σύντομη ιστορία για έναν σκύλο.",
    "Hebrew": "כתוב סיפור קצר על כלב ברכבת",
    "Thai": "เขียนเรื่องสั้นเกี่ยวกับสุนัข",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_is_in_its_language(name: str) -> None:
    """A sentence of each is told by its letters and its frequent words, in whatever normal form, and beside code."""
    sentence = SENTENCES[name]
    found = language_of(sentence)
    assert found is not None
    assert found.name == name
    assert language_of(f"{sentence}\n```\nfor the in of is to\n```") == found
    assert language_of_texts([sentence, "123", sentence]) == found


@pytest.mark.parametrize("text", ["", "42", "OK", "Paris", "x = y + z", "printf(a[i]);", "!?", "\ud800"])
def test_of_too_little_nothing_is_said(text: str) -> None:
    """A number, a name or a line of code is in no language."""
    assert language_of(text) is None


@given(st.text())
def test_any_text_has_a_language_or_none(text: str) -> None:
    """No text breaks the look."""
    assert language_of(text) is None or language_of(text) in LANGUAGES


@pytest.mark.parametrize(
    ("setting", "name"),
    [("German", "German"), ("deutsch", "German"), ("zh-CN", "Chinese"), ("Simplified Chinese", "Chinese"), ("中文", "Chinese"),
     ("Brazilian Portuguese", "Portuguese"), ("pt_BR", "Portuguese"), ("no", "Norwegian"), ("English (UK)", "English"),
     ("Klingon", None), ("", None)],
)  # fmt: skip
def test_a_recipe_names_its_language_as_it_likes(setting: str, name: str | None) -> None:
    """English names, own names, codes, and either with more words."""
    found = language_named(setting)
    assert (found.name if found is not None else None) == name


def test_names_and_codes_are_unique() -> None:
    """No name or code of a language is that of another, and each language with a shared script has words."""
    names = [name.casefold() for language in LANGUAGES for name in (language.name, language.code, *language.names)]
    assert len(set(names)) == len(names)
    for language in LANGUAGES:
        shared = sum(other.script == language.script for other in LANGUAGES) > 1
        assert bool(language.words) == shared


def reason(language: str, instruction: str, output: str, given: str = "") -> str | None:
    check = quality_check(Filters(language=True), TOKENIZERS["unicode"], language=language)
    return check(ExampleDraft(instruction, given, output), ())


GERMAN = "Beschreibe in zwei Sätzen, warum sich die Erde um die Sonne dreht."
IN_GERMAN = "Die Erde dreht sich um die Sonne, weil deren Masse sie auf einer Bahn hält, und das seit langer Zeit."
IN_ENGLISH = "The earth turns around the sun because its mass keeps it on an orbit, and it has done so for a long time."


def test_what_comes_back_in_another_language_is_dropped() -> None:
    """English examples of a German recipe are; German ones stay, and so do English ones without the filter."""
    assert reason("German", "Explain why the earth turns around the sun.", IN_ENGLISH) == "other_language"
    assert reason("German", GERMAN, IN_ENGLISH) == "other_language"
    assert reason("German", GERMAN, IN_GERMAN) is None
    assert reason("Chinese", "Explain why the earth turns around the sun.", IN_ENGLISH) == "other_language"
    assert (
        reason("English", "请解释为什么地球绕着太阳转，并举三个例子。", "因为引力。地球一直在轨道上运行。")
        == "other_language"
    )
    off = quality_check(Filters(), TOKENIZERS["unicode"], language="German")
    assert off(ExampleDraft(GERMAN, "", IN_ENGLISH), ()) is None


SHORT = ("Solve a wide mirror beside a quick law.", "A heavy freedom from a wooden light with a new sound.")


@pytest.mark.parametrize("language", ["German", "French", "Chinese"])
def test_texts_that_tell_little_are_judged_together(language: str) -> None:
    """An English `a` is Hungarian too, so neither short text tells its language; both together are not German. Runs by
    earlier rules keep them, and what shows no language is not said to be in one.
    """
    instruction, output = SHORT
    draft = ExampleDraft(instruction, "A new battery", output)
    assert language_check(language)(draft)
    assert not language_check(language, 3)(draft)
    assert not language_check("English")(draft)
    assert language_told("English")(draft)
    assert not language_told(language)(draft)
    assert not language_told(language)(ExampleDraft("2 + 2", "", "4"))
    native = {"German": GERMAN, "French": SENTENCES["French"], "Chinese": SENTENCES["Chinese"]}[language]
    assert language_told(language)(ExampleDraft(native, "", "4"))
    assert not language_check(language)(ExampleDraft(native, output, output))


@pytest.mark.parametrize(
    ("instruction", "given", "output"),
    [
        ("Übersetze den folgenden Satz ins Englische: Die Erde dreht sich.", "", IN_ENGLISH),
        ("Schreibe einen Absatz auf Englisch.", "", IN_ENGLISH),
        ("Fasse den Text in derselben Sprache zusammen.", f"{IN_ENGLISH} And so on.", IN_ENGLISH),
        ("Übersetze ins Deutsche: „The earth turns around the sun and it has done so for a long time.“", "", IN_GERMAN),
        ("Nenne drei Städte.", "", "Paris, London, New York"),
        ("Was macht dieser Code?", "for the in range(10): print(the)", "Er zählt."),
        ("Schreibe eine Schleife in Python.", "", "for i in range(10):\n    if i in known and i is not None:\n        print(i)"),
        ("Berechne 2 + 2.", "", "4"),
        ("Berechne a + b.", "a = 3, b = a", "a + b = a + a = 2 a, also a + b = 6"),
        ("Korrigiere Grammatik, Rechtschreibung.", "He go to the school with a bag.", "He goes to the school with a bag, and they wait."),
    ],
)  # fmt: skip
def test_what_asks_for_another_language_stays(instruction: str, given: str, output: str) -> None:
    """Translations, code, names and numbers are no drift; and no more is what a text quotes."""
    assert reason("German", instruction, output, given) is None


def test_formulas_are_in_every_language() -> None:
    """LaTeX between Chinese words does not make them English."""
    formulas = r"\frac{\partial f}{\partial x} = \int_0^\infty e^{-x} dx + \sqrt{\alpha + \beta}"
    assert reason("Chinese", f"求 {formulas} 的值", formulas) is None


def test_a_language_that_cannot_be_told_is_refused() -> None:
    """Before a run begins, by its name; without the filter any language is welcome."""
    with pytest.raises(ConfigError, match=r"Klingon.*filters\.language"):
        language_check("Klingon")
    assert recipe(language="Klingon").tokenizer == "unicode"


def test_a_run_keeps_its_language() -> None:
    """Of completions that are half in English a German run keeps the German half, and says why it drops the other."""

    def said(chat_request: ChatRequest, request: Request) -> Completion:
        rng = random.Random(chat_request.key)
        examples = []
        for number in range(int(request.prompt.values["count"])):
            words = rng.choices(WIDE_WORDS, k=6)
            form = "Describe the {} and the {} for {} in {}, or {} of {}"
            if number % 2:
                form = "Beschreibe die {} und den {} für {} in {}, oder {} von {}"
            examples.append({"instruction": form.format(*words), "input": "", "output": " ".join(words)})
        return Completion(orjson.dumps({"examples": examples}).decode(), "stop", 10, 10)

    changes = {"language": "German", "exploration": {"depth": 0}, "targets": {"examples": 12}}
    driven = Driven(recipe(**changes, filters={"language": True}), said).run()
    kept = [event.example.instruction for event in driven.events if isinstance(event, ExampleKept)]
    assert len(kept) == 12
    assert all(instruction.startswith("Beschreibe") for instruction in kept)
    assert "other_language" in {event.verdict.reason for event in driven.events if isinstance(event, ExampleDropped)}


def test_a_run_in_a_language_that_cannot_be_told_does_not_begin(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """It ends with code 2 before a recipe is written or a server is asked."""
    blockbuster.deactivate()  # a command opens files on its loop
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    settings = ("--set", "language=Klingon", "--set", "filters.language=true", "--model", "m")
    run = tmp_path / "run"
    result = in_process("run", tmp_path / "c.yaml", *settings, "--endpoint", "http://127.0.0.1:1/v1", "--out", run)
    assert result.code == 2
    assert "Klingon" in result.stderr
    assert not (run / "config.json").exists()


def test_a_recipe_without_the_check_is_written_as_before() -> None:
    """The setting is in the JSON of a recipe only where it is on, so that older recipes keep their digest."""
    plain, checked = recipe(), recipe(filters={"language": True})
    assert "language" not in plain.model_dump(mode="json")["filters"]
    assert checked.model_dump(mode="json")["filters"]["language"] is True
    assert plain.digest != checked.digest
