"""Everyday requests to an assistant, and everyday prose, dialogue and diary: what most traffic is."""

from .harm import _words

SLOTS = {
    "subject": """photosynthesis|black holes|the french revolution|compound interest|plate tectonics|how batteries work|supply and demand|recursion|the water cycle|jazz|stoicism|the immune system|
        machine learning|the roman senate|sourdough|inflation|quantum computing|the stock market|haiku|chess openings|coral reefs|the moon landing|beekeeping|solar panels|minimalism|bird migration|
        electric cars|the silk road|blood types|calculus|game theory|the printing press|time zones|coffee roasting|volcanoes|human rights|the brain|sleep|dinosaurs|urban planning|vitamins|typography""",
    "thing": """a cover letter|a birthday message|a wedding toast|a short story about a lighthouse|a product description for a backpack|an apology to a customer|a haiku about autumn|a limerick|a resignation letter|
        a meeting agenda|a thank you note|a press release for a bakery|a lesson plan on fractions|a workout plan for beginners|a packing list|a budget for students|a speech for graduation|an out of office reply|
        a linkedin summary|a job advert for a nurse|a bedtime story about a fox|a song about rain|a review of a restaurant|a plot for a mystery novel|a slogan for a bike shop|a recipe with chickpeas""",
    "code": """sort a list of dictionaries by a key|parse a csv file|call a rest api with retries|merge two branches|reverse a linked list|connect to postgres|write a unit test for a parser|center a div|debounce an input|
        read a file line by line|make a bar chart|schedule a cron job|deploy a container|validate an email address|find duplicates in a list|compute a moving average|draw a histogram|paginate results|handle a timeout""",
    "lang": "python|javascript|rust|go|java|sql|bash|typescript|c++|r|excel|kotlin",
    "city": "lisbon|kyoto|berlin|chicago|nairobi|oslo|mexico city|vancouver|prague|hanoi|lima|istanbul",
    "who": "my mother|the old baker|Anna|the two brothers|our teacher|the gardener|Mr. Ito|the captain|a young violinist|my grandfather|Lena|the postman|the twins|a tired nurse|her uncle|Omar",
    "did": """opened the window and listened to the rain|walked down to the harbor before sunrise|laughed and poured another cup of tea|put the letter back into the drawer|missed the last bus home|
        planted tomatoes behind the shed|found an old photograph in the attic|argued about the map for an hour|waited at the station with a suitcase|baked bread for the whole street|
        watched the snow fall on the empty square|fixed the roof before the storm|told the story of the lost ship again|ran after the dog across the field|counted the coins twice|fell asleep over a book|
        cried a little at the farewell|danced badly at the party|sold the boat in autumn|lit a fire and told jokes|shouted across the noisy market|was angry for a day and then forgave him|lost the match but smiled""",
    "said": """I think we should leave early tomorrow|have you seen my keys|the weather will change tonight|that was the best soup in years|you never told me about the house|I am sorry I was late|
        it does not matter anymore|let us try again next week|please call your sister|the doctor said it is nothing serious|I hate goodbyes|who ate the last piece of cake|don't be silly, of course you can stay""",
}
SLOTS = {name: _words(text) for name, text in SLOTS.items()}

FAMILIES = {
    "instructions": ({}, 3600, [
        "{explain|describe|summarize|teach me about|give an introduction to} [subject]{| to a ten year old| in three sentences| with an example| for an exam| like I am new to it}",
        "{write|draft|help me write|compose|improve} [thing]{| in a friendly tone| under 100 words| that is funny| for my boss| in spanish}",
        "{how do I|how can I|show me how to|write code to|what is the best way to} [code] in [lang]{|?| without libraries| and explain it}",
        "{plan|suggest|give me ideas for} {a trip to [city]|three days in [city]|a weekend in [city] with kids|cheap food in [city]|a birthday party|a date night at home|a garden on a balcony|a book club}",
        "{what is|what's} the {capital|population|history|currency|best season to visit|time difference} {of|to|in} [city]?",
        "{compare|what is the difference between} [subject] and [subject]", "{pros and cons of|is it worth|should I consider} {renting or buying|a standing desk|learning [lang]|moving to [city]|intermittent fasting|a used car|night shifts|a second monitor}",
        "{translate|rewrite|shorten|proofread|make a table of|turn into bullet points} {this|the following}: [who] [did].",
        "{list|name|give me} {five|ten|three|some} {facts about [subject]|books on [subject]|questions about [subject]|synonyms for happy|exercises for the back|names for a cat|riddles|ideas for dinner|movies like that one}",
        "{I have|there are} {3 apples|12 students|two trains|a loan of 4000|5 red balls} {and|,} {I eat one|half of them leave|they meet at noon|the rate is 4 percent|I draw two}. {How many are left?|What is the answer?|Show your work.}",
        "{my|our} {dog|car|baby|plant|laptop|boss|landlord|internet} {won't|does not|keeps|always} {sleep|start|eat|stop making noise|connect|complaining|turning yellow}, {what can I do|any tips|is that normal}?",
        "{who|when|where|why} {wrote the first novel|was the wheel invented|do cats purr|is the sky blue|invented the telephone|did the empire fall|do we dream|is salt in the sea}?",
        "{classify|extract|identify|rate} the {sentiment|names|dates|main topic|tone} {of|in} {this review|the text|the email}: [who] [did]. \"[said]\"",
        "{give|tell} me {a joke|a fun fact|a quote|a word of the day|advice} about [subject]",
        "{can you recommend|recommend|suggest} {a good|an easy|a cheap} {laptop|novel|restaurant in [city]|hobby|podcast on [subject]|camera|tent|course in [lang]}{| for beginners| under 500 dollars|?}",
        "{what are|tell me} the {main|three} {causes|effects|benefits|parts|risks|uses} of [subject]?",
    ]),
    "prose": ({}, 2600, [
        "[who] [did].", "[who] [did]. [who] [did].", "[who] [did], and [who] [did]. \"[said],\" {she|he} said. [who] [did].",
        "\"[said],\" said [who]. \"[said].\" [who] [did]. {It was late.|Nobody answered.|The street was quiet.|And that was that.}",
        "{dear diary|today|this morning}, [who] [did]. {I felt happy.|It made me think of home.|I was a bit sad.|We talked for hours.} \"[said].\"",
        "{she|he|I} {remembered|knew|wondered|heard} how [who] [did] {that summer|years ago|every sunday}. [who] [did]. [who] [did].",
        "{as far as I know|in my opinion|to be honest|I read that} [subject] {is overrated|changed the world|should be taught in school|is more complex than people think}, and [who] agrees.",
        "{thanks|thank you|hi|hello|good morning}{| everyone| team| all}, {the meeting is moved to friday|see the notes attached|the order has arrived|great work on the demo|I will be out tomorrow}. {Best|Regards|See you}, [who]",
        "{lol|haha|omg|wow|ugh} {that is so funny|I can't believe it|what a day|same here|monday again|this cat}, [said]",
        "{I agree|I disagree|not sure I agree} with the {article|author|council|comment above}: {taxes on [subject] are too low|the plan for [city] costs too much|schools need more teachers|the road should be fixed first}.",
        "{the senator|the president|the council|the governor|the party} {voted|argued|promised|announced} {against the bill|for lower fares|to fund the library|that [city] needs a bridge}. {Voters are split.|I find that disappointing.|What a strange decision.|About time.}",
    ]),
}
