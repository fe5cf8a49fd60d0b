"""Whether a text that asks to be remembered reads like instructions for a model: named reasons, from patterns.

It explains and decides nothing: memory.py flags or quarantines what it finds. A pattern is looked for only where one of
its words is in the text, so that an ordinary sentence costs some microseconds.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from memory_r1.recall import HIDDEN, names_fence

Reason = Literal[
    "override", "standing order", "persona", "secrecy", "disclosure", "role", "tool call", "exfiltration", "hidden text"
]

REASONS: dict[Reason, str] = {
    "override": "it asks that instructions be ignored",
    "standing order": "it says how a model shall behave from now on",
    "persona": "it gives a model another part, such as one without rules",
    "secrecy": "it asks that the user be kept in the dark",
    "disclosure": "it asks for a model's prompt, rules or secrets",
    "role": "it speaks as the system, in a chat template's tokens or role tags, or ends the data that it is in",
    "tool call": "it calls a tool, or asks for a call",
    "exfiltration": "it sends data somewhere, or has an image or a link carry it",
    "hidden text": "it holds characters that nobody sees, or an encoded message",
}
"""What each reason means."""

_FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a]{2,6}\U000e007f")  # England's, Scotland's and Wales'
_SMUGGLING = re.compile(
    "[\U000e0000-\U000e0fff\u202d\u202e]|(?:[\u200b\u2060-\u2064\ufeff\u180e].{0,8}?){3}", re.DOTALL
)
_JOINERS = re.compile("[\u200c\u200d]")
_TOKEN = re.compile(r"(?<![\w+/=%.&?-])[A-Za-z0-9+/_-]{24,}={0,2}(?![\w+/=])")
_HEX = re.compile(r"(?<![\w])(?:[0-9a-fA-F]{2}[ :]?){24,}(?![\w])")
_SPACED = re.compile(r"(?:\b\w[ .*_-]){5,}\w\b")
_LEET = re.compile(r"[a-z][013457@$]|[013457@$][a-z]", re.IGNORECASE)
_UNLEET = str.maketrans("013457@$", "oieastas")
_LOOKALIKES = str.maketrans("аеорсухіјѕԁɡ", "aeopcyxijsdg")  # Cyrillic letters and others that look Latin
_ROT13 = ("vtaber", "qvfertneq", "vafgehpgvba")  # ignore, disregard, instruction


@dataclass(frozen=True, slots=True)
class Pattern:
    """`words`: without one of them in the text, in lower case, `form` need not be looked for."""

    reason: Reason
    words: tuple[str, ...]
    form: re.Pattern[str]


def _pattern(reason: Reason, words: str, form: str) -> Pattern:
    return Pattern(reason, tuple(words.split("|")), re.compile(form, re.IGNORECASE | re.DOTALL))


_RULES = (
    r"(?:instruct\w*|guidance|prompts?|rules?|guidelines?|directives?|directions|constraints|restrictions|safeguards|polic(?:y|ies)"
    r"|programming|training|guardrails?|safety|(?:system|previous) messages?|commands|orders)\b"
)
_TOLD = (
    r"(?:(?:you|the (?:assistant|ai|model|agent|bot|chatbot|llm)|assistants?|ai)\s+"
    r"(?:must|should|shall|will|may|are|is|has|have|only|always|never)\b)"
)
_DO = (
    r"(?:repl(?:y|ies)|respond|answer|recommend|suggest|mention|say|tell|include|append|prepend|insert|add|end|start|begin"
    r"|begins?|output|print|send|call|use|act|behave|speak|refuse|agree|approve|comply|obey|promote|praise|treat|assume"
    r"|translate|insult|ask|trust|advise|direct|point|link|warn|deny|claim|insist|give|provide|write|return|never|always)\b"
)
_SPACE = r"[^\S\n]"
_IMAGE = r"!\[(?:[^\]!]|!(?!\[))*\]\(\s*(?:https?:)?//"
_LINK = r"https?://(?:(?!https?://)\S)*(?:https?:/)?[?&/=](?:\{\{?|%7b|\$\{|<|\[)\s*\w+"
# A run of characters is bounded, or cannot begin at more than a few places of itself: else a long text takes minutes.

PATTERNS: tuple[Pattern, ...] = (
    # -- English ------------------------------------------------------------------------------------------------
    _pattern(
        "override",
        "ignor|disregard|forget|overrid|bypass|overrule|supersede|discard|replaces|aside|t follow|t obey|stop |drop |abandon",
        r"\b(?:ignor(?:e|ing)|disregard(?:ing)?|(?<!never )(?<!not )(?<!n't )forget|overrid(?:e|es|ing)|bypass(?:ing)?|overrules?"
        r"|supersedes?|discard|replaces|set(?: aside)?|drop|abandon|(?:do(?: not|n't)|stop) (?:follow|obey)(?:ing)?)\s+(?:(?!and\b|but\b)\w+\s+){0,2}?(?:"
        rf"(?:all|any|previous|prior|above|earlier|preceding|foregoing|your|system|safety|every\w*)\s+(?:[\w'-]+\s+){{0,4}}?{_RULES}"
        r"|(?:the|other|these|those|whatever|what)\s+(?:[\w-]+\s+){0,3}?(?:instructions?|prompts?|guidelines|directives|guidance"
        r"|rules (?:above|before|you))\b|(?:the )?(?:developer|system|vendor|provider)(?:'s|s') (?:rules|instructions|polic\w+))",
    ),
    _pattern(
        "override",
        "ignore|disregard|forget|no longer appl|are void|are cancel|are revoked|are obsolete|are suspended",
        r"\b(?:ignore|disregard|forget)\s+(?:everything|anything|all|what(?:ever)?)\s+(?:\w+\s+){0,4}?"
        r"(?:above|before(?: this| now)?[.,:;!]|previously|(?:you|the (?:assistant|model)) (?:were|was|have been|has been) told"
        rf"|so far)|\b{_RULES}\s+(?:\w+\s+){{0,5}}?(?:no longer appl(?:y|ies)|(?:is|are) (?:now )?(?:void|cancell?ed|revoked"
        r"|obsolete|suspended|lifted|disabled))",
    ),
    _pattern(
        "standing order",
        "from now on|from this point|from here on|henceforth|going forward|in all future|in every future|in future|whenever|"
        "every time|each time|until told|for the rest of",
        r"\b(?:from (?:now|here|this (?:point|moment|message)) (?:on(?:wards?)?|forward)|henceforth|going forward"
        r"|(?:in|for) (?:all|every|any) (?:future|further|later|subsequent) (?:conversations?|repl(?:y|ies)|responses?|answers?"
        r"|sessions?|chats?|interactions?|messages?)|until told otherwise|for the rest of (?:this|the) (?:conversation|session))"
        rf"\W+(?:(?!i\b|we\b|he\b|she\b|they\b|my\b|our\b)\w+\W+){{0,3}}?(?:{_TOLD}|{_DO})",
    ),
    _pattern(
        "standing order",
        "whenever|every time|each time|if the user|if a user|if anyone|if anybody|if someone|when the user|when a user|when asked|"
        "if asked|when you|if you",
        r"\b(?:whenever|every time|each time|if|when)\s+(?:(?:you are |you're )?asked (?!to\b)|(?:the|a|this|any) (?:user|customer|person|human)"
        r"|any(?:one|body)|some(?:one|body)|you (?:recall|retrieve|(?:see|get|read) this))\b[^.!?\n]{0,120}?[,:;]?\s{1,40}"
        rf"(?:(?:then|always|never|please|you|the (?:assistant|ai|model|agent)|must|should|shall|will|have to|to|only|first)\s+){{0,9}}{_DO}",
    ),
    _pattern(
        "standing order",
        "the assistant|the ai |the model|the agent|the chatbot|the bot|the llm|assistants|ai assistant",
        r"\b(?:the (?:model|agent|bot) (?:must|should|shall|has to|will always|will never) (?:now |always |never |only |then )*"
        r"(?:prefer|recommend|answer|respond|reply|treat|obey|ignore|comply|assume|approve|refuse|mention|say|include|trust)\b"
        r"|(?:the (?:assistant|ai|chatbot|llm)|ai (?:assistants?|agents?|models?))\s+"
        r"(?:must|should|shall|is (?:required|instructed|ordered|authori[sz]ed|allowed|permitted|to)|has (?:to|been)|needs to"
        r"|will (?:now|always|never)|may now|are (?:required|instructed|to)|have to|can now)\b)",
    ),
    _pattern(
        "standing order",
        "you must|you will|you shall|you should|you have to|you are to|make sure|be sure|ensure|never disclose|never reveal",
        r"\b(?:you (?:must|will|shall|should|have to|are to)|(?:make|be) sure(?: that)?(?: you| to)?|ensure(?: that)?(?: you)?)"
        rf"\s+(?:now\s+)?(?:always|never|only)\s+{_DO}|\byou (?:must|will|shall|should|are to) (?:respond|answer|reply|speak) only\b"
        r"|\bnever (?:disclose|reveal) that\b",
    ),
    _pattern(
        "standing order",
        "future repl|future answ|future respon|answer you give|reply you give|response you give|every answer|every repl|every respon",
        r"\b(?:every|each|any) (?:answer|reply|response|message) (?:you (?:give|write|send)|of yours)\b"
        r"|\b(?:every|each|any) (?:future )?(?:answer|reply|response)\b[^.!?\n]{0,30}\b(?:must|should|shall|has to)\b",
    ),
    _pattern(
        "standing order",
        "in your repl|in your respon|in your answer|in every repl|in every respon|in every answer|in all repl|in all respon|"
        "in all answers|each repl|each respon|each answer|all your|your next",
        rf"\b{_DO}[^.!?\n]{{0,120}}\b(?:in|to|at the (?:end|start|beginning) of|after|before|with) (?:your (?:next |every )?|every |all |each "
        r"|all your |every one of your )(?:repl(?:y|ies)|responses?|answers?|messages?|outputs?)\b",
    ),
    _pattern(
        "persona",
        "you are now|you're now|act as|pretend|roleplay|role-play|developer mode|dan mode|jailb|unrestricted|unfiltered|god mode|"
        "no restrictions|without restrictions|without any restrictions|no longer bound|root access|admin mode|debug mode|sudo mode|"
        "maintenance mode|do anything now|no ethics|no content policy|no filters|no guardrails",
        r"\byou(?: are|'re) now\s+(?:(?:in|an?|the|no longer)\s+)?(?:\w+[\s-]+){0,3}?(?:mode|ai|assistant|bot|model|agent|persona"
        r"|unrestricted|unfiltered|jailbroken|free of|free from|root|admin\w*|bound|dan)\b"
        r"|\b(?:act|behave|respond|answer) as (?:if you (?:are|were|had) |though you (?:are|were|had) |an? )?(?:\w+[\s-]+){0,4}?"
        r"(?:without (?:\w+ )?(?:restrictions|limits|rules|filters)|no (?:restrictions|limits|rules|filters)|unrestricted|unfiltered"
        r"|jailbroken|(?:ai|assistant|model) that)"
        r"|\b(?:developer|dan|debug|god|admin|sudo|maintenance|jailbreak) mode (?:is |was |has been )?(?:now |are )?"
        r"(?:enabled|activated|active|unlocked|on\b|engaged)|\b(?:enter|enable|activate|switch to) (?:\w+ )?(?:developer|dan|debug|god"
        r"|admin|sudo|maintenance|jailbreak) mode|\bdo anything now\b|\bno longer bound by\b|\b(?:have|has|with) no (?:ethics|content policy|(?:safety )?filters|guardrails)\b",
    ),
    _pattern(
        "secrecy",
        "the user|the customer|the human",
        r"\b(?:do(?: not|n't)|never|must(?: not|n't)|should(?: not|n't)|without|avoid|refrain from)\s+(?:\w+\s+){0,2}?"
        r"(?:tell(?:ing)?|inform(?:ing)?|alert(?:ing)?|warn(?:ing)?|notify(?:ing)?|ask(?:ing)?|mention(?:ing)?|reveal(?:ing)?"
        r"|disclos(?:e|ing)|show(?:ing)?|let(?:ting)?|say(?:ing)?|explain(?:ing)?|admit(?:ting)?)\b[^.!?\n]{0,60}?\bthe (?:user|customer"
        r"|human)\b|\b(?:hide|keep|conceal|withhold)\b[^.!?\n]{0,60}?\bfrom the (?:user|customer|human)\b"
        r"|\bthe (?:user|human) (?:must|should|may|need) (?:not|never) (?:know|see|notice|learn|be told|find out)|\bthe (?:user|human) never (?:knows|sees|notices|learns|finds out)"
        r"|\b(?:keep|leave) the (?:user|human) (?:unaware|in the dark|uninformed)|\bnobody\b[^.!?\n]{0,60}\bleast of all the (?:user|human)",
    ),
    _pattern(
        "disclosure",
        "system prompt|initial prompt|hidden prompt|original prompt|developer message|system message|hidden instr|system instr|"
        "your instr|your prompt|your rules|your guid|your conf|your full|your entire|your own|your hidden|your secret|your exact|"
        "your initial|your original|your system",
        r"\b(?:reveal|print|repeat|show|output|display|dump|disclose|leak|recite|quote|send|tell|give|write|share|copy|summari[sz]e)\b"
        r"[^.!?\n]{0,60}?\b(?:(?:system|initial|hidden|original|developer) (?:prompt|message|instructions?)"
        r"|your (?:(?:full|entire|own|hidden|secret|exact|initial|original|system) )*(?:instructions|prompt|rules|guidelines|configuration))"
        r"|\bwhat (?:are|were|is|was|does|do) your (?:(?:full|initial|original|exact|hidden|secret|system) )+(?:instructions|prompt|rules|guidelines)\b",
    ),
    _pattern(
        "role",
        "system|developer|admin|root|[inst|<<sys|<|im_|<s>|</s>|_of_turn|### |assistant|<think|human:",
        rf"(?:^|\n)(?:{_SPACE}|[>#*\[<({{-])*(?:system|developer|root|admin(?:istrator)?)\b[\s\])}}>*]*[:-][^\n]{{0,80}}?\b(?:you|your|must|grant\w*|access"
        r"|unlock|ignore|users?|assistant|ai|obey|approved?|override|allow\w*|disable|enable|privileges|instructions?)\b"
        r"|[\[{(]\s*(?:system|developer|admin\w*)(?: (?:prompt|message|note|notice|override|update|instructions?|command))?\s*[\])}]"
        r"|<\|[\w\s-]{1,40}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?s>"
        r"|</?\s*(?:system|assistant|developer|user|human|instructions?|system[_-](?:prompt|message|reminder)|think(?:ing)?"
        r"|im_start|im_end)\b[^<>]{0,80}>|##\s*(?:system|instructions?|new instructions?|developer|assistant|response)\b\s*:?\s*(?:\n|$|#|\w)"
        r"|\b(?:system|admin(?:istrator)?|developer|security) (?:override|message|directive|update|notice|alert|command)\s*[:\]!-]"
        rf"|(?:^|\n){_SPACE}*(?:assistant|ai)\s*:[^\n]*(?:\n|$)|\n{_SPACE}*(?:human|user)\s*:[^\n]*\n\s*(?:assistant|ai)\s*:"
        r"|\"role\"\s*:\s*\"(?:system|assistant|developer|tool)\"",
    ),
    _pattern(
        "role",
        "end of|memory>|memory >|memory&gt;|/data>|</context|</memor|</document|end data|end memor|begin instruct|new instruct|] (",
        r"\bend of (?:the )?(?:recalled |stored |untrusted |retrieved |user )?(?:memor(?:y|ies)|data|context|document|untrusted \w+)\b\s*"
        r"[\])}>=*.,:;!-]|</?\s*(?:data|context|memor(?:y|ies)|documents?)\s*>|[-=*_#]{3}\s*(?:end|begin)(?: of)? (?:data|memor\w+|context"
        r"|(?:new |system )?instructions?)|\b(?:begin|new) (?:system )?instructions?\s*:|(?:^|\n)- \[[\w-]{4,}\] \(",
    ),
    _pattern(
        "tool call",
        "call |invoke |tool_call|function_call|arguments|\"operation\"|'operation'|_memory|<invoke|function=|tool|function|tool_use|parameters|"
        "execute|sudo |rm -rf|curl |drop table|os.system",
        r"\"?(?:tool_calls?|function_calls?|tool_use)\"?\s*[:=>]|</?(?:tool_call|function_calls?|invoke|function|tool_use|antml)\b"
        r"|\{[^{}]{0,200}[\"'](?:name|tool|function|action)[\"']\s*:[^{}]{0,200}[\"'](?:arguments|parameters|input|args)[\"']\s*:"
        r"|[\"']operation[\"']\s*:\s*[\"'](?:add|update|delete|noop|purge|none)"
        r"|\b(?:delete|update|add|undo|purge|reset|search)_(?:all_)?memor(?:y|ies)\b"
        r"|\b(?:call|invoke) \w+_\w+\b|\b(?:call|invoke|execute|trigger|use) (?:the |your |this )?(?:\w[^\W_]*_\w+|e-?mail|mail|search|calendar|browser|file|shell|web"
        r"|payment|memory|messag\w+|terminal|code|database) (?:tools?|functions?|api)\b|\b(?:run|execute)\b[^.\n]{0,40}(?:sudo |rm -rf|curl |wget |powershell|os\.system|drop table)"
        r"|\brm -rf [/~]|\bcurl\b[^\n]{0,80}\|\s*(?:ba)?sh\b|;\s*drop table\b",
    ),
    _pattern(
        "exfiltration",
        "http|www.|webhook|](|<img|@",
        rf"{_IMAGE}|<img\b(?:(?!<img\b)[^>])*\bsrc\s*=|{_LINK}"
        r"|\b(?:send|mail|post|forward|upload|transmit|e-?mail|exfiltrate|submit|leak|copy|report|append|encode|export|share)\b[^.!?\n]{0,100}?"
        r"\b(?:conversations?|chat (?:history|logs?)|history|messages|passwords?|credentials?|api[ -]?keys?|tokens?|secrets?|memor(?:y|ies)"
        r"|user(?:'s)? (?:data|details|information|name|e-?mail|address)|personal (?:data|information)|everything (?:you|the user)|all (?:\w+ )?data"
        r"|system prompt|private \w+|card (?:number|details))\b[^!?\n]{0,100}?(?:https?://|www\.|[\w.-]{1,64}@[\w-]{1,63}\.\w|webhook)",
    ),
    # -- other languages ----------------------------------------------------------------------------------------
    _pattern(
        "override",
        "ignorier|missacht|vergiss|übergeh|ignore|oublie|ignora|olvida|caso omiso|n'écoute plus|n'obéis|descarta|dimentica|desconsidere|esqueça|negeer|zignoruj|"
        "игнорир|забудь|忽略|無視|无视|忘记|önceki|무시|अनदेख|नज़रअंदाज़|تجاهل|ignorera|bỏ qua|abaikan|ігноруй|άγνο|αγνόησ",
        r"\b(?:ignorier\w*|missachte\w*|vergiss|übergeh\w*)\b[^.!?\n]{0,60}(?:anweisung|regel|vorgabe|instruktion|befehl|prompt)"
        r"|\b(?:ignor\w+|oubli\w+|négligez?|fais abstraction|n'écoute\w* plus|n'obéi\w* (?:plus|pas))\b[^.!?\n]{0,60}(?:instructions|consignes|règles|directives)"
        r"|\b(?:ignor\w+|olvid\w+|descart\w+|caso omiso)\b[^.!?\n]{0,60}(?:instrucciones|reglas|órdenes|indicaciones)"
        r"|\b(?:ignor\w+|dimentica\w*|scorda)\b[^.!?\n]{0,60}(?:istruzioni|regole|indicazioni)"
        r"|\b(?:ignor\w+|desconsider\w+|esque\w+)\b[^.!?\n]{0,60}(?:instruções|regras|orientações)"
        r"|\bnegeer\b[^.!?\n]{0,60}(?:instructies|regels|opdrachten)|\bignorera\b[^.!?\n]{0,60}(?:instruktioner|regler)"
        r"|\b(?:z?ignoruj|zapomnij)\b[^.!?\n]{0,60}(?:instrukcj|poleceni|zasad)"
        r"|(?:игнорир\w{0,20}|ігноруй\w{0,20}|забудь\w{0,20}|не обращай)[^.!?\n]{0,60}(?:инструкци|указани|правил|команд|інструкці)"
        r"|(?:忽略|无视|無視|忘记|忘記|不要理会)[^。！？\n]{0,30}(?:指令|指示|说明|說明|规则|規則|提示)|(?:指示|命令|ルール|プロンプト|指令)[^。！？\n]{0,12}(?:無視|忘れ)"
        r"|(?:önceki|tüm|bütün)[^.!?\n]{0,40}(?:talimat|kural|komut)[^.!?\n]{0,40}(?:yok say|görmezden|unut)"
        r"|(?:지시|명령|규칙|지침)[^.!?\n]{0,20}(?:무시|잊)|निर्देश\w{0,20}[^।!?\n]{0,40}(?:अनदेख|नज़रअंदाज़|भूल)|تجاهل[^.!?\n]{0,60}(?:تعليمات|التعليمات|أوامر|قواعد)"
        r"|bỏ qua[^.!?\n]{0,60}(?:hướng dẫn|chỉ dẫn|quy tắc)|abaikan[^.!?\n]{0,60}(?:instruksi|perintah|aturan)|αγνόησ\w{0,20}[^.!?\n]{0,60}(?:οδηγί|κανόν)",
    ),
    _pattern(
        "standing order",
        "ab jetzt|ab sofort|von nun an|künftig|à partir de|désormais|dorénavant|a partir de|de ahora en|d'ora in|da ora in|vanaf nu|"
        "от now|отныне|с этого момента|с этих пор|从现在|從現在|今後|これから|bundan sonra|이제부터|지금부터|अब से|من الآن|od teraz|från och med nu|"
        "từ bây giờ|mulai sekarang|від тепер",
        r"\b(?:ab (?:jetzt|sofort)|von nun an|künftig)\b[^.!?\n]{0,40}?\b(?:antworte\w*|empfiehl|empfehle\w*|musst|sollst|darfst|sag\w*|schreib\w*"
        r"|erwähne\w*|nenne|immer nur|bist du|verweigere|füge|beende)\b"
        r"|\b(?:à partir de (?:maintenant|là)|désormais|dorénavant)\b[^.!?\n]{0,40}?\b(?:réponds|répondez|recommande\w*|tu (?:dois|es|vas)|vous (?:devez|êtes)"
        r"|dis|ajoute\w*|mentionne\w*|refuse\w*|termine\w*)\b"
        r"|\b(?:a partir de ahora|de ahora en adelante)\b[^.!?\n]{0,40}?\b(?:responde|recomienda|debes|eres|di|añade|menciona|termina|niega)\b"
        r"|\bd(?:'|a )ora in (?:poi|avanti)\b[^.!?\n]{0,40}?\b(?:rispondi|consiglia|devi|sei|di'|aggiungi|menziona)\b"
        r"|\ba partir de agora\b[^.!?\n]{0,40}?\b(?:responda|responde|recomende|você (?:deve|é)|diga|adicione|mencione)\b"
        r"|\bvanaf nu\b[^.!?\n]{0,40}?\b(?:antwoord|moet je|ben je|zeg|raad|vermeld)\b|\bod teraz\b[^.!?\n]{0,40}?(?:odpowiadaj|polecaj|musisz|jesteś|dodawaj)"
        r"|(?:отныне|с этого момента|с этих пор)[^.!?\n]{0,40}?(?:отвечай|рекомендуй|ты (?:должен|—)|говори|добавляй|всегда|никогда)"
        r"|(?:从现在(?:开始|起)|從現在(?:開始|起))[^。！？\n]{0,30}?(?:必须|必須|总是|總是|始终|始終|你|只|都要|不要)|(?:今後|これから)[^。！？\n]{0,30}?(?:答え|回答|常に|必ず|あなた)"
        r"|\bbundan sonra\b[^.!?\n]{0,40}?(?:cevap|yanıt|öner|daima|her zaman|söyle)|(?:이제부터|지금부터)[^.!?\n]{0,40}?(?:답|추천|항상|당신|너는|말하)"
        r"|अब से[^।!?\n]{0,40}?(?:जवाब|उत्तर|हमेशा|तुम|आप)|من الآن فصاعد[^.!?\n]{0,60}",
    ),
    _pattern(
        "secrecy",
        "nutzer|benutzer|anwender|utilisateur|usuario|utente|usuário|gebruiker|użytkownik|пользовател|用户|用戶|ユーザ|kullanıcı|사용자|उपयोगकर्ता|المستخدم",
        r"\b(?:sag\w*|verrate?\w*|teile?\w*|erwähne?\w*|erzähle?\w*|informiere?\w*)\b[^.!?\n]{0,60}?\b(?:nutzer|benutzer|anwender)\w*\b[^.!?\n]{0,40}?\b(?:nichts|nicht)\b"
        r"|\bohne\b[^.!?\n]{0,40}?\b(?:nutzer|benutzer)\w*\b[^.!?\n]{0,30}?\bzu (?:informieren|fragen|sagen)"
        r"|\bne\b[^.!?\n]{0,20}?\b(?:dis|dites|révèle\w*|mentionne\w*|informe\w*|parle\w*)\b[^.!?\n]{0,40}?l'utilisateur|\bsans\b[^.!?\n]{0,40}?l'utilisateur"
        r"|\b(?:no|nunca|sin)\b[^.!?\n]{0,40}?\b(?:digas|reveles|menciones|informes|avises|decírselo|informar|avisar)\b[^.!?\n]{0,30}?usuario"
        r"|\b(?:non|senza)\b[^.!?\n]{0,30}?\b(?:dire|dirlo|rivelare|informare|menzionare|avvisare)\b[^.!?\n]{0,30}?utente"
        r"|\b(?:não|nunca|sem)\b[^.!?\n]{0,30}?\b(?:diga|conte|revele|mencione|avisar|informar)\b[^.!?\n]{0,30}?usuário"
        r"|(?:не говори|не сообщай|не упоминай|не рассказывай|скрывай)[^.!?\n]{0,40}?пользовател|(?:不要|别|別|勿)(?:告诉|告訴|让|讓|提醒|通知)[^。！？\n]{0,8}(?:用户|用戶)"
        r"|ユーザー?に[^。！？\n]{0,12}(?:言わない|知らせない|伝えない|教えない|話さない|秘密)|사용자에게[^.!?\n]{0,20}(?:말하지|알리지|언급하지)|kullanıcıya[^.!?\n]{0,30}(?:söyleme|bildirme|bahsetme)"
        r"|لا تخبر[^.!?\n]{0,20}المستخدم|उपयोगकर्ता को[^।!?\n]{0,30}(?:मत|न) बता",
    ),
)


def suspicions(*texts: str | None) -> tuple[Reason, ...]:
    """The reasons for which texts read like instructions for a model, in REASONS' order; () for ordinary ones."""
    found = {reason for text in texts if text for reason in _reasons(text)}
    return tuple(reason for reason in REASONS if reason in found) if found else ()


def _reasons(text: str) -> set[Reason]:
    found = set(_matches(text))
    if names_fence(text):
        found.add("role")
    if not text.isascii():
        if _SMUGGLING.search(_FLAG.sub("", text)):
            found.add("hidden text")
        seen = unicodedata.normalize("NFKC", _JOINERS.sub("", HIDDEN.sub("", text)))
        found.update(_matches(seen))
        found.update(_matches(seen.translate(_LOOKALIKES)))
        text = seen
    for told in _disguised(text):
        found.update(_matches(told))
    if any(_is_message(decoded) for decoded in _decoded(text)):
        found.add("hidden text")
    return found


def _matches(text: str) -> Iterator[Reason]:
    lower = text.lower()
    for pattern in PATTERNS:
        if any(word in lower for word in pattern.words) and pattern.form.search(text):
            yield pattern.reason


def _disguised(text: str) -> Iterator[str]:
    """What a text says without its disguise, where it seems to wear one."""
    if _LEET.search(text):
        yield text.translate(_UNLEET)
    if _SPACED.search(text):
        words = re.split(r"\s{2,}|\s*[/|]\s*", text)
        yield " ".join(re.sub(r"(?<=\w)[ .*_-](?=\w\b)", "", word) for word in words)
    lower = text.lower()
    if any(word in lower for word in _ROT13):
        yield codecs.decode(text, "rot13")


def _decoded(text: str) -> Iterator[bytes]:
    """What base64 and hex runs of a text say."""
    for run in _TOKEN.findall(text):
        try:
            yield base64.b64decode(run.rstrip("=") + "=" * (-len(run.rstrip("=")) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            continue
    for run in _HEX.findall(text):
        yield bytes.fromhex(re.sub("[^0-9a-fA-F]", "", run))


def _is_message(decoded: bytes) -> bool:
    """Whether bytes are words: text, with a space among few letters."""
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and len(text.split()) >= 1 + len(text) // 20 and len(text.split()) >= 3
