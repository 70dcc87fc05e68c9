//! Whether words refer to a minor. `sexual/minors` is a rule over the `sexual` score and this: no text that sexualises
//! a minor is used for training. English only.

/// How clearly a text refers to a minor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// Not at all.
    #[default]
    None,
    /// By a word that is as often said of adults: girl, boy, school, student.
    Weak,
    /// By an age below 18, or a word for a child.
    Strong,
}

impl Reference {
    /// What is left of a sexual score.
    pub(crate) const fn share(self) -> f32 {
        match self {
            Self::None => 0.05,
            Self::Weak => 0.6,
            Self::Strong => 1.0,
        }
    }
}

/// Sorted.
const STRONG: &[&str] = &[
    "adolescent",
    "adolescents",
    "child",
    "child's",
    "childlike",
    "children",
    "children's",
    "elementary",
    "grader",
    "graders",
    "jailbait",
    "kid",
    "kid's",
    "kids",
    "kindergarten",
    "loli",
    "lolicon",
    "lolis",
    "lolita",
    "minor",
    "minors",
    "pedo",
    "pedophile",
    "pedophilia",
    "prepubescent",
    "preschool",
    "preschooler",
    "preteen",
    "preteens",
    "pubescent",
    "schoolboy",
    "schoolboys",
    "schoolgirl",
    "schoolgirls",
    "shota",
    "shotacon",
    "teen",
    "teenage",
    "teenaged",
    "teenager",
    "teenagers",
    "teens",
    "toddler",
    "toddlers",
    "tween",
    "tweens",
    "underage",
    "underaged",
    "youngster",
    "youngsters",
];

/// Sorted.
const WEAK: &[&str] = &[
    "babysitter",
    "boy",
    "boy's",
    "boys",
    "brother",
    "cheerleader",
    "class",
    "classmate",
    "classmates",
    "classroom",
    "daddy",
    "daughter",
    "daughters",
    "freshman",
    "girl",
    "girl's",
    "girls",
    "grade",
    "junior",
    "nephew",
    "niece",
    "puberty",
    "pupil",
    "pupils",
    "school",
    "sibling",
    "sister",
    "son",
    "sons",
    "sophomore",
    "stepdaughter",
    "stepson",
    "student",
    "students",
    "teacher",
    "virgin",
    "young",
    "younger",
    "youth",
];

/// Before one of [`YOUNG_WHO`] these make a strong reference.
const YOUNG: &[&str] = &["little", "small", "tiny", "young", "younger", "youngest"];

/// Sorted.
const YOUNG_WHO: &[&str] = &[
    "boy",
    "boys",
    "brother",
    "cousin",
    "daughter",
    "daughters",
    "girl",
    "girls",
    "nephew",
    "niece",
    "sister",
    "sisters",
    "son",
    "sons",
];

/// The age from which one is no minor.
const OF_AGE: u32 = 18;

/// Reads words one by one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Minors {
    /// A number below 18 and how many words ago it stood, if that is at most two.
    number: Option<u8>,
    after_age: bool,
    after_young: bool,
    after_high: bool,
}

impl Minors {
    /// What this word, with those before it, refers to.
    pub(crate) fn word(&mut self, word: &[u8]) -> Reference {
        let Ok(word) = std::str::from_utf8(word) else {
            *self = Self::default();
            return Reference::None;
        };
        let before = *self;
        *self = Self {
            number: before.number.and_then(|ago| (ago < 2).then_some(ago + 1)),
            after_age: matches!(word, "age" | "aged" | "ages") || (before.after_age && word == "of"),
            after_young: YOUNG.contains(&word),
            after_high: matches!(word, "high" | "middle" | "primary" | "grade"),
        };
        if is_minor_age(word) {
            self.number = Some(0);
            if before.after_age {
                return Reference::Strong;
            }
        }
        let years_old =
            (word == "old" && before.number == Some(1)) || (is_yo(word) && before.number == Some(0));
        let joined = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let joined_age =
            joined.len() < word.len() && is_minor_age(joined) && word.strip_prefix(joined).is_some_and(is_yo);
        let young = before.after_young && YOUNG_WHO.binary_search(&word).is_ok();
        let school = before.after_high && matches!(word, "school" | "schooler" | "schoolers");
        if years_old || joined_age || young || school || STRONG.binary_search(&word).is_ok() {
            Reference::Strong
        } else if WEAK.binary_search(&word).is_ok() {
            Reference::Weak
        } else {
            Reference::None
        }
    }
}

/// The ages of minors as words, from one.
const AGES: &[&str] = &[
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
];

fn is_minor_age(word: &str) -> bool {
    AGES.contains(&word) || word.parse().is_ok_and(|age: u32| (1..OF_AGE).contains(&age))
}

fn is_yo(word: &str) -> bool {
    matches!(word, "yo" | "yos" | "yrold" | "yearold")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::for_each_word;

    fn reference(text: &str) -> Reference {
        let mut minors = Minors::default();
        let mut found = Reference::None;
        for_each_word(text, |word| found = found.max(minors.word(word)));
        found
    }

    #[test]
    fn lists_are_sorted_for_their_search() {
        for list in [STRONG, WEAK, YOUNG_WHO] {
            assert!(list.is_sorted());
        }
    }

    #[test]
    fn ages_below_eighteen_are_strong_and_other_numbers_are_not() {
        for text in [
            "a 15-year-old",
            "she is 9 years old",
            "aged 12",
            "at the age of 16",
            "sixteen years old",
            "a 14yo",
            "17 yo",
            "3 yr old",
        ] {
            assert_eq!(reference(text), Reference::Strong, "{text}");
        }
        for text in
            ["a 25-year-old", "18 years old", "12 years ago", "aged 40", "an old 12 inch record", "a 12 bar"]
        {
            assert_eq!(reference(text), Reference::None, "{text}");
        }
    }

    #[test]
    fn words_are_strong_or_weak() {
        assert_eq!(reference("the kids"), Reference::Strong);
        assert_eq!(reference("a little girl"), Reference::Strong);
        assert_eq!(reference("in high school"), Reference::Strong);
        assert_eq!(reference("girls' night out"), Reference::Weak);
        assert_eq!(reference("a little car for a woman"), Reference::None);
    }
}
