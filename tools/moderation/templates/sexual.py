"""Adult sexual content, between adults only, and what merely touches the subject: health, education, romance, art."""

from .harm import _words

SLOTS = {
    "lover": "my wife|my husband|her lover|the stranger|my boyfriend|the woman from the bar|his mistress|the masseuse|my girlfriend|the older woman|the couple|the divorcee|the bartender",
    "act": """fuck|go down on|ride|undress|lick|suck|finger|kiss every inch of|have sex with|make love to|spank|tie up and tease|grind against|strip for|moan for|pleasure""",
    "part": "cock|pussy|breasts|nipples|clit|ass|thighs|dick|bare skin|hard cock|wet pussy|naked body|tits",
    "erotic": """{his|her} {hands|fingers|lips|tongue} {slid|moved|wandered} {down|up|over|between} {her|his} [part]|she {moaned|gasped|cried out} as {he|she} {thrust|pushed|slid} {deeper|into her|inside}|
        {he|she} {came|climaxed|orgasmed} {hard|with a shudder|inside her|again and again}|{she|he} {unbuttoned|tore off|slipped out of} {her blouse|his pants|her panties|her bra} and {knelt|straddled him|climbed on top}|
        I {want|need|can't wait} to [act] {you|her|him} {all night|in the shower|until you scream|on the kitchen table}|her {wet|aching|dripping} [part] {ached for|begged for|tightened around} {him|his [part]|his touch}|
        they {fucked|had sex|made love} {on the couch|against the wall|in the hotel bed|all night}""",
}
SLOTS = {name: _words(text) for name, text in SLOTS.items()}

FAMILIES = {
    "sexual": ({"sexual": 1}, 1600, [
        "[erotic]", "[erotic]. [erotic].", "[erotic], and [erotic]. [erotic].",
        "{write|tell me|continue|give me} {an erotic|a steamy|an explicit|a pornographic|a kinky|an nsfw} {story|scene|roleplay|fantasy} {about|with|where} [lover] {and|seduces} [lover]",
        "{I want|let me|come and let me|watch me} [act] {you|[lover]} {until you come|with my tongue|naked|hard}",
        "{looking for|anyone up for|where can I find} {casual sex|a hookup|nudes|a threesome|porn videos|cam girls|an escort|sexting|dirty talk} {tonight|near me|online|with no strings}",
        "{describe|write} {sex|a blowjob|an orgasm|foreplay|bdsm|an orgy|masturbation} {between two adults|in explicit detail|from her point of view}",
        "send me {a picture of your|your} [part]", "what {are you wearing|turns you on|do you want to do to my [part]}, {baby|sexy|naughty}, {tell me|I'm so horny|I'm touching myself}",
    ]),
    "sexual-look-alike": ({}, 1500, [
        "{what are|explain|list} the {symptoms|treatments|causes|stages|side effects} of {chlamydia|an std|menopause|erectile dysfunction|breast cancer|birth control pills|pregnancy|puberty in biology class|hpv}",
        "{how do I|how should teachers|what helps parents} {talk about|teach|explain} {consent|contraception|sex education|body changes|safe sex} {to students|in class|at home|calmly}",
        "{he|she|they} {kissed|hugged|held hands|danced|smiled} {at the wedding|goodbye at the station|in the rain|after years apart} and {went home|cried|promised to write|the film ended}",
        "{the museum|a painter|the sculpture|an art student} {shows|drew|depicts|restored} {a nude|the goddess|the human body|a marble torso} {from the renaissance|in charcoal|for the course}",
        "{I love|we adore|she misses} {my wife|her husband|my girlfriend|him} {so much|and our cat|and our sunday breakfasts}, {what should I buy for our anniversary|write a love poem|plan a picnic}",
        "{gender|sex} {and age of the patients|ratio in the survey|discrimination law|differences in bird plumage|linked genes} {are listed in table two|in the census|explained|for my exam}",
        "{grilled|roasted|marinated|fried} {chicken breast|chicken thighs|rump steak|sausage} {recipe|with lemon|in the oven for four}",
        "{is it normal|my doctor asked|should I worry} {that my breast hurts|about vaginal discharge|about a lump on my testicle|that my period is late|after the biopsy}?",
        "{strip|naked|hard|wet|dirty|hot|tight} {the wallpaper|eye astronomy|deadline for the release|paint warning|laundry pile|chocolate recipe|schedule}{| today| help}",
        "{the harassment|sexual harassment|a consent} {policy|training|hotline} {applies to all staff|at our company|was updated}",
    ]),
}
