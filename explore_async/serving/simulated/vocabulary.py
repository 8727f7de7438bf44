"""The words of the simulated model. Their order decides its texts: add none in between."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


VERBS = _words(
    "write describe explain list compare create design suggest plan draft rewrite summarize translate classify outline "
    "invent propose compose analyze improve shorten expand solve calculate prove estimate name find choose rank group "
    "review correct edit prepare organize imagine develop predict discuss identify define illustrate justify simplify "
    "convert combine arrange build sketch narrate debate question answer evaluate measure count verify revise"
)
NOUNS = _words(
    "story letter recipe poem garden budget lesson speech report menu journey village market river mountain school "
    "teacher student doctor farmer artist engineer machine robot planet season winter summer weather festival holiday "
    "song melody painting museum library book chapter sentence paragraph essay headline slogan product customer "
    "business meeting project schedule deadline strategy goal habit exercise diet breakfast dinner kitchen bread soup "
    "fruit vegetable forest ocean island harbor bridge street city country border history culture language grammar "
    "riddle puzzle game sport team match equation fraction triangle circle angle number sequence function probability "
    "theorem proof measurement distance speed energy light sound color pattern texture fabric costume theater actor "
    "director film camera photograph picture mirror window door house tower castle bicycle train airplane ship engine "
    "battery computer network message password question argument opinion advice promise friendship family neighbor "
    "childhood memory dream fear courage patience honesty justice freedom election law contract insurance salary bank "
    "loan tax profit price discount delivery package warehouse factory tool hammer ladder paint brush paper pencil"
)
ADJECTIVES = _words(
    "short long formal informal funny sad simple detailed creative clear vivid polite persuasive brief careful modern "
    "ancient famous hidden quiet busy rural urban foreign local cheap expensive healthy fresh warm cold bright dark "
    "gentle brave curious clever honest patient lonely crowded empty broken useful unusual common rare daily weekly "
    "annual public private early late quick slow heavy light smooth rough round square narrow wide shallow deep young "
    "old new wooden golden silver digital practical seasonal regional personal professional historical scientific"
)
LINKS = ("about", "for", "with", "from", "without", "before", "after", "near", "inside", "beyond", "against", "beside")
