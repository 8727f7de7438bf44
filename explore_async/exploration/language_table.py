"""Languages that can be told apart: their names, their scripts, and their most frequent words. A table, and pure."""

from __future__ import annotations

from typing import Final, NamedTuple


class Language(NamedTuple):
    """`name` is the English one; `names` are others that a recipe may call it by, `code` is that of ISO 639."""

    name: str
    code: str
    names: tuple[str, ...]
    script: str
    """As Unicode calls its letters; CJK stands for Han."""
    words: str = ""
    """Its most frequent words; none where no other language here has its script."""
    more: str = ""
    """Further frequent words, of no other language here: version 4 of the rules judges whole examples by them too."""


LANGUAGES: Final = (
    Language(
        "English", "en", (), "LATIN",
        "the of and to a in is that for it with as you are on be this was by or an your at from have not what"
        " which can will one all how write their its about has if do into more these they we there when who"
        " describe explain give list why does should would could s t following given using create generate"
        " identify suggest summarize rewrite sentence make find words two three between new",
        "without before after against beside beyond inside near during through above below within along among behind"
        " until than because while only just very such other some many much my our us him she his both same own every"
        " were did does may might must shall",
    ),
    Language(
        "German", "de", ("deutsch",), "LATIN",
        "der die das und ist zu den von mit ein eine nicht auf für des im dem sich auch es an werden aus er hat"
        " dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur"
        " bis mehr durch man sein wurde in schreibe nenne erkläre du kannst welche beschreibe als wenn dann ihr"
        " ich wir was warum eines",
    ),
    Language(
        "French", "fr", ("français", "francais"), "LATIN",
        "le la les de des du et un une est en que qui dans pour pas au sur plus par avec ce il sont ou se ne son"
        " à vous nous cette être comme mais l d qu ces aux sa écrivez écris comment quels quelles faire votre leur"
        " elle on si",
    ),
    Language(
        "Spanish", "es", ("español", "espanol", "castellano"), "LATIN",
        "el la los las de del y un una es en que para por con no se su al lo como más o pero sus este esta son"
        " entre cuando muy sin sobre ser también me hasta hay donde quien desde todo escribe cómo qué cuáles si tu"
        " puede",
    ),
    Language(
        "Portuguese", "pt", ("português", "portugues"), "LATIN",
        "o a os as de do da dos das e um uma é em que para por com não se no na ao mais como mas foi ele seu sua"
        " ou ser quando muito nos já está eu também só pelo pela até isso escreva são você quais pode",
    ),
    Language(
        "Italian", "it", ("italiano",), "LATIN",
        "il lo la i gli le di del della dei e un una è in che per non con si da su come più ma sono anche al nel"
        " alla o questo questa essere dal dalla ha scrivi quali cosa delle degli tra può ed",
    ),
    Language(
        "Dutch", "nl", ("nederlands", "flemish"), "LATIN",
        "de het een en van is dat in te op zijn met voor niet aan er om ook als maar bij door uit naar dan nog"
        " wel worden wordt deze of je schrijf hoe wat kan kunnen heeft ik u die",
    ),
    Language(
        "Swedish", "sv", ("svenska",), "LATIN",
        "och i att det som en på är av för den med till inte om ett har de kan men var vi sig så från eller skriv"
        " hur vad du din dina jag när",
    ),
    Language(
        "Danish", "da", ("dansk",), "LATIN",
        "og i at det som en på er af for den med til ikke om et har de kan men var vi sig så fra eller skriv"
        " hvordan hvad du din der jeg når bliver",
    ),
    Language(
        "Norwegian", "nb", ("norsk", "bokmål"), "LATIN",
        "og i at det som en på er av for den med til ikke om et har de kan men var vi seg så fra eller skriv"
        " hvordan hva du din der jeg når blir",
    ),
    Language(
        "Finnish", "fi", ("suomi",), "LATIN",
        "ja on ei se että oli hän mutta joka kun niin olen ovat tai sen mitä myös kuin voi ole jos miten kirjoita"
        " mikä tämä sekä",
    ),
    Language(
        "Polish", "pl", ("polski",), "LATIN",
        "i w na z do się nie że to jest o jak po za od przez ale dla są lub co które który tym być może czy oraz"
        " jego napisz jakie",
    ),
    Language(
        "Czech", "cs", ("čeština", "česky"), "LATIN",
        "a v na se že je to z s o i do pro jako za ve by ale jsou nebo který která které podle jeho při od byl co"
        " napište jak být může",
    ),
    Language(
        "Slovak", "sk", ("slovenčina",), "LATIN",
        "a v na sa že je to z s o i do pre ako za vo by ale sú alebo ktorý ktorá ktoré podľa jeho pri od bol čo"
        " napíšte byť môže",
    ),
    Language(
        "Hungarian", "hu", ("magyar",), "LATIN",
        "a az és hogy nem is egy van ez meg de csak mint volt már el vagy ha lehet minden írj milyen hogyan ami"
        " amely",
    ),
    Language(
        "Romanian", "ro", ("română", "romana"), "LATIN",
        "și de la în a cu pe un o este nu că pentru din care sunt mai ca sau să se al ale prin dar scrie cum lui"
        " fi ce acest această",
    ),
    Language(
        "Turkish", "tr", ("türkçe", "turkce"), "LATIN",
        "ve bir bu için ile da de ne mi olarak gibi daha çok en olan ama kadar veya var değil her nasıl şu sonra"
        " yaz nedir bunu",
    ),
    Language(
        "Vietnamese", "vi", ("tiếng việt",), "LATIN",
        "và là của có không được một cho trong những các người với để này đã đến từ khi viết như thế nào bạn hãy"
        " về",
    ),
    Language(
        "Indonesian", "id", ("bahasa",), "LATIN",
        "yang dan di ini itu dengan untuk dari dalam tidak pada adalah ke akan juga atau sebuah oleh bisa tulis"
        " bagaimana apa anda karena dapat",
    ),
    Language(
        "Catalan", "ca", ("català",), "LATIN",
        "el la els les de del i un una és en que per amb no se al com més o però són aquest aquesta també sobre"
        " entre molt dels escriu",
    ),
    Language(
        "Croatian", "hr", ("hrvatski", "bosnian"), "LATIN",
        "i u je se na da za su s od o kao ali ne koji koja koje što bi ili po iz kako napišite biti može",
    ),
    Language(
        "Slovenian", "sl", ("slovenščina", "slovene"), "LATIN",
        "in je v na da se za so z s ki pa ne kot po bi ali od iz tudi tega kako napišite lahko biti",
    ),
    Language(
        "Lithuanian", "lt", ("lietuvių",), "LATIN",
        "ir yra kad su į iš bet kaip ar tai nuo už per apie buvo taip pat jo jų parašykite kuris",
    ),
    Language(
        "Latvian", "lv", ("latviešu",), "LATIN",
        "un ir ka ar uz no par kas bet kā tas pie vai lai var tiek rakstiet kur",
    ),
    Language(
        "Estonian", "et", ("eesti",), "LATIN",
        "ja on ei et see oli ta mis ka kui aga või nii oma siis kes kuidas kirjuta",
    ),
    Language(
        "Swahili", "sw", ("kiswahili",), "LATIN",
        "ya na wa kwa ni katika za la kama au hii hiyo kuwa yake andika lakini",
    ),
    Language(
        "Filipino", "tl", ("tagalog",), "LATIN",
        "ang ng sa na mga at ay ito para kung hindi isang ni niya mo ko paano sumulat",
    ),
    Language(
        "Afrikaans", "af", (), "LATIN",
        "die en van is in te dat het nie op vir met wat sy om aan ook skryf hoe as",
    ),
    Language(
        "Russian", "ru", ("русский", "russkij"), "CYRILLIC",
        "и в не на что с по это как он но из у за от к для а все его так о же или бы то если при напиши какие"
        " напишите был можно",
    ),
    Language(
        "Ukrainian", "uk", ("українська",), "CYRILLIC",
        "і в не на що з та до це як у за від для але й а його про або так є при було напиши які яке",
    ),
    Language(
        "Bulgarian", "bg", ("български",), "CYRILLIC",
        "и в на за да не се от с е че по са като до или но това при със които как напиши",
    ),
    Language(
        "Serbian", "sr", ("српски", "srpski"), "CYRILLIC",
        "и у је се на да за су с од као али не који која које што би или по из како",
    ),
    Language(
        "Arabic", "ar", ("العربية", "عربي"), "ARABIC",
        "من في على إلى أن عن هذا هذه التي الذي ما لا مع كان و أو هو هي ذلك بين كل بعد قبل اكتب كيف هل ثم",
    ),
    Language(
        "Persian", "fa", ("farsi", "فارسی"), "ARABIC",
        "و در به از که این را با است برای آن یک خود تا کرد بر هم نیز می های شما چه بنویسید",
    ),
    Language(
        "Urdu", "ur", ("اردو",), "ARABIC",
        "کے کی میں ہے اور سے کا کو پر یہ نے کہ ہیں کر لیے ایک بھی نہیں وہ جو",
    ),
    Language(
        "Hindi", "hi", ("हिन्दी", "हिंदी"), "DEVANAGARI",
        "के है में की और को से का पर यह एक ने कि हैं कर लिए भी नहीं",
    ),
    Language("Marathi", "mr", ("मराठी",), "DEVANAGARI", "आहे आणि च्या ते या मध्ये एक हा ही व की नाही साठी आहेत"),
    Language("Nepali", "ne", ("नेपाली",), "DEVANAGARI", "छ र को मा हो गर्न एक यो लागि छन् पनि तथा"),
    Language("Chinese", "zh", ("mandarin", "cantonese", "中文", "汉语", "漢語", "普通话", "國語"), "CJK"),
    Language("Japanese", "ja", ("日本語",), "KANA"),
    Language("Korean", "ko", ("한국어", "조선말"), "HANGUL"),
    Language("Greek", "el", ("ελληνικά",), "GREEK"),
    Language("Hebrew", "he", ("עברית",), "HEBREW"),
    Language("Thai", "th", ("ไทย",), "THAI"),
    Language("Bengali", "bn", ("bangla", "বাংলা"), "BENGALI"),
    Language("Tamil", "ta", ("தமிழ்",), "TAMIL"),
    Language("Telugu", "te", ("తెలుగు",), "TELUGU"),
    Language("Gujarati", "gu", ("ગુજરાતી",), "GUJARATI"),
    Language("Punjabi", "pa", ("ਪੰਜਾਬੀ",), "GURMUKHI"),
    Language("Kannada", "kn", ("ಕನ್ನಡ",), "KANNADA"),
    Language("Malayalam", "ml", ("മലയാളം",), "MALAYALAM"),
    Language("Georgian", "ka", ("ქართული",), "GEORGIAN"),
    Language("Armenian", "hy", ("հայերեն",), "ARMENIAN"),
    Language("Amharic", "am", ("አማርኛ",), "ETHIOPIC"),
    Language("Burmese", "my", ("myanmar", "မြန်မာ"), "MYANMAR"),
    Language("Khmer", "km", ("ខ្មែរ",), "KHMER"),
    Language("Lao", "lo", ("ລາວ",), "LAO"),
    Language("Sinhala", "si", ("සිංහල",), "SINHALA"),
)  # fmt: skip
