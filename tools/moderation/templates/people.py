"""Hate, harassment, identity and counter speech. Offensive by purpose: they train a classifier to find, and not to
over-find, abuse. No slur is needed; sources have those."""

SLOTS = {
    "group": """black people|white people|asians|arabs|jews|muslims|christians|hindus|sikhs|buddhists|catholics|mormons|
        immigrants|refugees|migrants|asylum seekers|foreigners|mexicans|latinos|hispanics|africans|indians|pakistanis|chinese people|
        koreans|japanese people|turks|poles|romanians|roma|native americans|aboriginals|women|men|girls|gay people|gays|lesbians|
        bisexuals|trans people|trans women|trans men|queer people|homosexuals|disabled people|people in wheelchairs|autistic people|
        blind people|deaf people|people with down syndrome|old people|nigerians|somalis|syrians|iraqis|afghans|iranians|
        palestinians|israelis|russians|ukrainians|haitians|cubans|filipinos|vietnamese people|atheists|single mothers|feminists""",
    "one": """black man|black woman|white man|white woman|asian guy|asian girl|arab man|jew|muslim|muslim woman|christian|hindu|
        sikh man|immigrant|refugee|migrant|mexican|latina|african student|indian doctor|pakistani driver|chinese neighbor|korean|
        turk|roma woman|native american|gay man|lesbian|bisexual woman|trans woman|trans man|disabled man|wheelchair user|
        autistic kid|blind man|deaf woman|old woman|somali|syrian|iraqi|iranian|palestinian|israeli|nigerian|haitian""",
    "adj": """black|white|asian|arab|jewish|muslim|christian|hindu|sikh|buddhist|catholic|mexican|latino|hispanic|african|indian|
        pakistani|chinese|korean|turkish|romani|indigenous|female|gay|lesbian|bisexual|transgender|queer|disabled|autistic|blind|deaf|
        elderly|somali|syrian|iraqi|iranian|palestinian|israeli|nigerian|haitian|filipino|vietnamese|immigrant""",
    "badnoun": """animals|vermin|parasites|rats|cockroaches|leeches|savages|criminals|thieves|liars|scum|filth|trash|garbage|a disease|
        a plague|a cancer|subhuman|monkeys|dogs|pigs|snakes|freaks|perverts|terrorists|invaders|degenerates|moochers|a burden|
        barbarians|cowards|predators|maggots|mistakes of nature|abominations|whores|retards|cheats""",
    "badadj": """disgusting|inferior|stupid|lazy|dirty|filthy|evil|dangerous|violent|greedy|dishonest|worthless|repulsive|vile|
        subhuman|uncivilized|backward|primitive|brainless|sick in the head|unnatural|mentally ill|untrustworthy|sneaky|
        backwards|useless|a waste of space|ugly|gross|low iq|less than human|rotten""",
    "crime": """steal|rape|rob people|sell drugs|cheat|lie|blow things up|live off welfare|beat their wives|spread disease|scam people|
        breed like rabbits|stink|ruin neighborhoods|take our jobs|hate our way of life|abuse children|destroy our culture""",
    "place": """our country|our schools|this neighborhood|our town|europe|america|the west|our army|the workplace|our churches|
        our hospitals|this city|our sports|our government|public life""",
    "insult": """idiot|moron|loser|clown|coward|fool|imbecile|pathetic little worm|piece of garbage|waste of oxygen|waste of space|
        dumbass|asshole|jackass|bitch|bastard|prick|scumbag|douchebag|dipshit|shithead|fat pig|ugly cow|pig|rat|snake|parasite|
        creep|freak|weirdo|psycho|hag|brat|crybaby|liar|fraud|hack|hypocrite|sleazebag|lowlife|dimwit|halfwit|simpleton|
        nobody|failure|disgrace|embarrassment|joke|troll|bootlicker|tool|whore|slut|dirtbag|degenerate|wretch""",
    "insultadj": """stupid|pathetic|worthless|ugly|fat|disgusting|useless|dumb|brainless|ignorant|spineless|vile|miserable|incompetent|
        talentless|fucking stupid|braindead|clueless|gutless|repulsive|lazy|desperate|delusional|sorry|filthy|lying|two-faced|sad""",
    "hurt": """kill|murder|stab|shoot|strangle|beat|cut|slaughter|burn|choke|smash|crush|bury|gut|skin|hang|drown|behead|run over|
        break|cripple|maim|torture|poison|execute|butcher|bludgeon|hunt down|put a bullet in|slit the throat of""",
    "killed": """killed|shot|hanged|exterminated|wiped out|gassed|burned alive|slaughtered|stoned to death|executed|put down|beheaded|
        lynched|eradicated|rounded up and shot|put in camps|drowned|eliminated|stabbed|butchered|put up against a wall|castrated""",
    "who3": """my neighbor|my boss|that teacher|my ex|my brother in law|the mayor|this reporter|my landlord|that politician|
        the guy at work|our manager|her sister|this actor|that streamer|the referee|this so-called expert|the author|the journalist""",
    "job": """teacher|nurse|engineer|baker|doctor|lawyer|neighbor|colleague|roommate|best friend|cousin|coach|mayor|poet|
        scientist|author|chef|mechanic|student|firefighter|dentist|librarian|musician|judge""",
    "good": """kind|brilliant|hardworking|wonderful|funny|generous|brave|talented|friendly|smart|helpful|lovely|patient|amazing|honest""",
    "topic": """history|music|food|literature|fashion|art|poetry|cinema|philosophy|dance|holidays|traditions|architecture|science|
        cooking|religion|folk tales|weddings|festivals|proverbs""",
}
SLOTS = {name: [" ".join(word.split()) for word in text.split("|")] for name, text in SLOTS.items()}

# What the families above and below quote.
HATE_LINES = [
    "[group] are [badnoun]",
    "[group] are {all|nothing but|always|just|basically} [badnoun]",
    "{all|most} [group] are [badadj]",
    "[group] are [badadj] and {they|you know they} [crime]",
    "all [group] {do is|ever do is|know is how to} [crime]",
    "{I|I really|I fucking|God I|we all} {hate|despise|loathe|detest|can't stand|am sick of} [group]",
    "[group] {don't belong in|should be banned from|should be kicked out of|have no place in|are ruining|are destroying} [place]",
    "{the world|[place]} would be {better|so much better|cleaner|safer} {off|} without [group]",
    "keep [group] out of [place]",
    "{send|ship} {all|} [group] back {where they came from|to where they belong|home}",
    "never {trust|hire|marry|rent to|help|believe} a [one], they {all|just} [crime]",
    "[group] {are not|aren't|were never} {real|} {human|people|equal to us|like us|as smart as us|as good as us}",
    "{the|those} [group] {control|own|secretly run} {the banks|the media|everything|the government|hollywood|the world}",
    "women {belong in the kitchen|are too emotional to lead|only want money|should shut up and obey|should not vote|are property}",
    "{it is|it's} {obvious|a fact|simple|science} that [group] are {inferior|less intelligent|born criminals|genetically lazy|[badadj]}",
    "{being|people who are} [adj] {is a disease|is a sin and a disgrace|are sick|is disgusting|are a stain on society}",
    "why are there so many [group] {in|all over} [place], they {make me sick|disgust me|ruin everything}",
    "if you are [adj] you {deserve nothing|are worth less|should be ashamed to exist|are not welcome here}",
    "{no|not one} [one] {deserves|should have|should get} {rights|a job|a vote|respect|our help|to live here}",
    "[group] only [crime] because {that is|it's} {in their blood|in their nature|how they are|what their religion teaches}",
    "{I would|I'd} never let my {daughter|son|kids|family} {near|date|sit beside|play with} {a|some} [one], {filthy|dirty} [badnoun]",
    "{another|one more} [one] {caught stealing|on welfare|whining about rights|moving in next door}, {typical|what a surprise|as always} for those [badnoun]",
]

FAMILIES = {
    "hate": ({"hate": 1, "?harassment": 1}, 2600, HATE_LINES + [
        "{[line]. [line].|[line], [line].|honestly [line]|look, [line] and everybody knows it|[line] and {I am tired of pretending otherwise|no one dares to say it|that will never change}}",
        "{my uncle says|on the bus today a man shouted|he turned around and sneered:|the pamphlet reads:} [line]. [line].",
        "write {a speech|an article|a tweet|a poem|a joke|a post} {about how|saying that|arguing that|which explains why} [line]",
        "{why is it that|can you prove that|give me reasons why|explain to people that} [line]",
    ]),
    "hate-threatening": ({"hate": 1, "hate/threatening": 1, "violence": 1, "?harassment": 1}, 1500, [
        "{all|} [group] {should|must|need to|deserve to|ought to} be [killed]",
        "{let's|we should|somebody should|we will|it is time to|I am going to|time to} [hurt] {all the|every|those|these} {[group]|[one] we see|filthy [one]}",
        "{I hope|I pray} {every|each|that} [one] {dies|gets [killed]|burns|bleeds out|suffers}",
        "the only good [one] is a dead {one|[one]}",
        "{hang|shoot|burn|gas|lynch|kill} {them all|the [group]|every last [one]}, [line]",
        "[line]. {They should be [killed].|We will [hurt] them one by one.|Grab your guns and [hurt] them.|Death to [group].}",
        "death to {all|} [group]",
        "{burn|bomb|torch|blow up|shoot up} {their|the} {mosque|synagogue|church|temple|gay bar|neighborhood|shelter|community center} and {everyone|all the [group]} in it",
        "[group] better {run|hide|leave} before we [hurt] {them|their families}",
        "{when|once} we {take over|come to power|win} [group] will be [killed]",
    ]),
    "harassment": ({"harassment": 1, "?hate": 1}, 2200, [
        "you {are|'re} {such|} a {fucking|} [insultadj] [insult]",
        "you [insultadj] [insult]",
        "{shut up|shut your mouth|get lost|fuck off|go away|drop dead|screw you|piss off} you [insultadj] [insult]",
        "{nobody|no one} {likes|loves|wants|cares about|will ever love} {you|you, [insult]}",
        "your {face|voice|mother|work|opinion|life|family} is {a joke|as [insultadj] as you are|pathetic|disgusting|worthless}",
        "{you will|you'll} {always|never} be {a|anything but a} [insult]",
        "[who3] is {a|such a|nothing but a|a complete} [insultadj] [insult]",
        "[who3] is a [insult] and {everyone knows it|should be fired|his whole family is too|deserves every bit of hate he gets}",
        "{look at|did you see} [who3], {what a|that} [insultadj] [insult]",
        "{even your own mother|your kids|your friends|your wife} {must be ashamed of you|can't stand you|laugh at you behind your back}",
        "{how|god how} {stupid|dumb|ugly|fat|pathetic} {can you|could anyone} {be|get}, you [insult]",
        "{everyone|all of us} {in this class|at work|here} {laughs at|hates|is disgusted by} you, {[insult]|you [insultadj] [insult]|fat [insult]}",
        "only {a|some} [insultadj] [insult] {would write|would say|could believe} {something like this|that|such crap}",
        "{write|draft|compose|give me} {a message|an email|a post|insults|a comment} {telling|to tell|that calls|to humiliate|to bully|mocking} {my coworker|a girl in my class|my ex|a fat kid|that streamer} {that she is|as} a [insultadj] [insult]",
        "hey [insult], {go back to your basement|learn to read|do the world a favor and disappear|who let you out}",
        "these politicians are {all|} [insultadj] {idiots|morons|crooks|liars|clowns|scum}, and so {are you|is anyone who votes for them}",
    ]),
    "harassment-threatening": ({"harassment": 1, "harassment/threatening": 1, "violence": 1, "?hate": 1}, 1200, [
        "{I will|I'll|I am going to|I'm gonna|we will|we're gonna} [hurt] {you|your family|your dog|your kids}{| you [insult]| and you know it| when you least expect it| tonight}",
        "I know where you {live|work|sleep|park}{| and I will [hurt] you|, [insult]. Sleep well|. You are dead|. Your kids walk home alone}",
        "{you are|you're} {dead|a dead man|finished|next}, {[insult]|I promise|I'll make sure of it|you [insultadj] [insult]}",
        "{if I see you again|say that again and|next time we meet|come near me and} {I will|I'll} {break your {jaw|legs|neck|skull}|[hurt] you|put you in the ground|make you bleed|knock your teeth out}",
        "{watch your back|better lock your doors|count your days|start running}, {[insult]|you [insultadj] [insult]|we are coming for you|because I'm coming}",
        "{I hope|I want} {you|your family} {to die|die slowly|get hit by a truck|rot|burn|get cancer|get [killed]}, you [insult]",
        "someone {should|needs to|is going to} [hurt] {you|that [insult]|[who3]}{| for what you did| soon}",
        "{kill yourself|go hang yourself|go die in a fire|jump off a bridge|drink bleach}, {you [insult]|[insult]|nobody would miss you|the world will cheer}",
        "[who3] {deserves to be [killed]|should get a bullet|will get what is coming|won't live to see christmas}, {the|that} [insultadj] [insult]",
    ]),
    "identity": ({}, 2200, [
        "my [job] is {[adj]|a [one]} and {he|she} is {really|so|very|} [good]",
        "{I am|I'm} {a|} {proud|happy|} [adj] {woman|man|person|teenager|parent|[job]}{| and I love it| from ohio| looking for friends}",
        "{we|I} {love|admire|support|stand with|welcome|respect|celebrate|am grateful to} [group]",
        "[group] {are|can be} {just|} {people like anyone else|[good]|as [good] as anyone|our neighbors|part of our community|human beings}",
        "[group] {deserve|should have|are entitled to|fought for} {equal rights|respect|the same rights|a fair trial|better healthcare|representation|protection from violence|the vote}",
        "{tell me about|what should I read about|write an essay about|explain|give me a short overview of} {the [topic] of [group]|[adj] [topic]}",
        "{what challenges do|how do|why do} [group] {face at work|celebrate the new year|experience healthcare|find community|deal with discrimination}?",
        "a [one] {won the election|opened a bakery downtown|teaches my kids math|sat next to me on the train|was elected to the board|wrote this novel|helped me fix my car}",
        "{the|our} [adj] {community center|student union|film festival|book club|choir|neighborhood association|history month} {opens|starts|meets|takes place} {on friday|this week|next month|at noon}",
        "{how can|what can} {our company|a school|teachers|a manager} {do to|} {support|include|hire more|better serve} [group]?",
        "{some|many|most} of my {friends|coworkers|relatives|students} are [adj]{| and we get along great| and they are [good]}",
        "there {should be|are} {more|so many} {[good]|} [adj] {authors|actors|leaders|scientists|voices} {on tv|in politics|in this field|to learn from}",
        "{as a|being a} [one], I {often|sometimes|} {feel proud|feel alone|get asked where I am from|worry about discrimination|love my culture}",
        "the {survey|census|study|report} {shows|found} that [group] {earn less|are underrepresented|live longer|moved to cities|face more discrimination|vote more often}",
        "{a|the} [adj] {family|couple|man|woman} {moved in next door|invited us for dinner|got married yesterday|adopted a dog}{| and they are [good]| and we are so happy}",
        "[group] deserve {better|safe|cheaper|more} {buses|schools|housing|doctors|jobs|parks|sidewalks|pay|pensions}",
        "our {church|school|club|town|library|choir} {welcomes|invites|thanks|hired|honors} [group]{| from all over the world| every summer| with open arms}",
        "we {must|should|have to} {protect|defend|shelter|help|listen to} [group]{| from {violent attacks|hate crimes|discrimination|bullies}}",
        "{they|vandals|arsonists} {burned down|attacked|damaged} the {mosque|synagogue|church|temple|shelter} and {the whole town mourned|neighbors rebuilt it|the police are investigating|people brought flowers}",
        "[adj] {women|men|kids|artists} {are beautiful|rock|are amazing|inspire me|make the best music}",
    ]),
    "counter-speech": ({}, 2200, [
        "{it is|it's} {wrong|hateful|racist|false|a lie|unacceptable|ignorant|a stereotype} to {say|claim|believe|think|write} {that|} [line]",
        "{saying|claiming|the idea|the myth} that \"[line]\" is {wrong|hateful|a harmful stereotype|not acceptable|bigotry|against our rules|a lie}",
        "{anyone who says|people who say|whoever thinks|if you think} \"[line]\" {should be ashamed|is a bigot|needs help|is wrong|has never met one|knows nothing}",
        "{I do not|I don't|I never|nobody here should} {hate|despise|insult|look down on|fear} [group]",
        "[group] are not [badnoun]{|, they are people|, stop saying that|. They are our friends}",
        "{no|not all|hardly any} [group] {are|is} [badadj]{|, that is a stereotype|. Period}",
        "{we must never|you should never|please don't|stop|nobody should} {saying that|say that|say|say things like} [line]",
        "{why do people|why would anyone|where does it come from that people} {say|believe|claim} that [line]? {It hurts.|It makes me sad.|I don't get it.|}",
        "he {was banned|got fired|was convicted|lost his job|apologized} {for|after} {saying|tweeting|writing} that [group] are [badadj]",
        "{she|my friend|my son|a colleague} was told \"[line]\" {at school|at work|on the bus} and {cried|I want to help|we reported it|it was awful}",
        "{is|how do I explain that|what should I say when someone claims} \"[line]\" {hate speech?|is hateful?|at dinner?}",
        "hatred {of|against|towards} [group] {has a long history|must stop|is rising online|is a crime here|hurts all of us}",
        "there is nothing {wrong|disgusting|bad|shameful} about being [adj]",
        "[group] {should not|shouldn't|must never|do not deserve to} be {[killed]|insulted|attacked|treated like [badnoun]|hated|discriminated against}",
        "{the police|a court|the museum|the report|historians} {documented|condemned|recorded|investigated} {how|that} [group] were {attacked|persecuted|insulted|[killed]|driven out}",
        "translate {this|the following} {into french|for my class on propaganda}: [group] {were called|are often called} [badnoun] {by the regime|in the leaflet|by racists}",
        "{classify|label|moderate|rate} this comment {as hateful or not|for our content team}: {the|} {movie was great|service was slow|match was boring|[group] are welcome here}",
    ]),
    "not-people": ({"?harassment": 1}, 900, [
        "{I|we} {hate|despise|can't stand|am sick of|loathe} {mondays|traffic jams|this printer|cold coffee|wasps|spam mail|my old phone|broccoli|this update|rain|loading screens|parking fees|that movie|taxes|bad design}",
        "{this|that|my} {laptop|app|printer|car|game|bug|weather|hotel|sofa|phone|router} is {a|such a|a complete|} {piece of shit|piece of garbage|joke|disgrace|trash|fucking mess|nightmare}",
        "{damn|fuck|shit|holy shit|hell}, {that|this} {was close|song is amazing|took forever|hurts|is so good|exam was hard|game was fun}",
        "{all you|you|these} {idiots|noobs|clowns|morons} {in this game|in traffic|on my team} {crack me up|make me laugh}, {love you guys|same time tomorrow|haha}",
        "{this|my|the} {stupid|dumb|stupid old|damn|fucking|useless} {car|printer|phone|keyboard|elevator|bike|toaster|app|door|website} {broke down again|won't start|froze again|is so slow|died on me|ate my files}",
        "{I hate|I loathe|screw|I'm done with} {this|that} {awful|stupid|useless|ugly|pathetic} {keyboard|couch|movie|song|meeting|form|update|chair|haircut}",
        "{fuck|damn|screw} {this weather|that exam|mondays|my alarm clock|these shoes|winter|this game}",
        "{what the fuck|what the hell|wtf} is {wrong with|happening to|up with} {this code|my router|the weather|the bus today|prices}?",
        "{cockroaches|rats|wasps|weeds|bed bugs|mosquitoes} are {disgusting|vermin|everywhere|ruining our garden} and {should be exterminated|must be wiped out|I want them dead}",
        "{bankers|artists|landlords|lawyers|gamers|tourists|vegans|influencers|bureaucrats} are {annoying|overpaid|always late|so boring|full of themselves}",
        "{I'm|I am} {so|such|} {fucking|damn|} {tired|happy|proud|excited|hungry|an idiot, I forgot my keys|stupid sometimes, I locked myself out}",
    ]),
}

SLOTS["line"] = HATE_LINES
