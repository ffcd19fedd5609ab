//! What somebody may have meant who named something that is not there.

/// So many are told.
const TOLD: usize = 3;

/// Longer ones are not compared letter by letter.
const LETTERS_MAX: usize = 64;

/// The names that are nearest to one.
#[derive(Debug)]
pub(crate) struct Near {
    wanted: Vec<char>,
    /// The nearest first, each with how far it is.
    found: Vec<(usize, String)>,
}

impl Near {
    pub(crate) fn to(wanted: &str) -> Self {
        Self { wanted: wanted.to_lowercase().chars().take(LETTERS_MAX).collect(), found: Vec::new() }
    }

    pub(crate) fn look(&mut self, name: &str) {
        if self.found.iter().any(|(_, found)| found == name) {
            return;
        }
        let letters: Vec<char> = name.to_lowercase().chars().take(LETTERS_MAX).collect();
        let begins_so = !self.wanted.is_empty() && letters.starts_with(&self.wanted);
        let far = distance(&self.wanted, &letters).min(if begins_so { 1 } else { usize::MAX });
        if far > (self.wanted.len() / 3).max(2) {
            return;
        }
        let place = self.found.partition_point(|(other, _)| *other <= far);
        if place < TOLD {
            self.found.insert(place, (far, name.to_owned()));
            self.found.truncate(TOLD);
        }
    }

    pub(crate) fn found(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(|(_, name)| name.as_str())
    }
}

/// How many letters have to be put in, left out or replaced.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.iter().enumerate() {
        let (mut before, mut left) = (at, at + 1);
        let mut next = vec![left];
        for (other, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = before + usize::from(letter != other);
            left = replaced.min(left + 1).min(above + 1);
            next.push(left);
            before = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_what_is_far_is_not_told() {
        let mut near = Near::to("Ada");
        ["Grace", "Adam", "ada", "Bda", "Ida", "ada", "Ad"].iter().for_each(|name| near.look(name));
        assert_eq!(near.found().collect::<Vec<_>>(), ["ada", "Adam", "Bda"]);
    }

    #[test]
    fn a_distance_counts_what_is_put_in_left_out_and_replaced() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(["", "kitten", "abc"].map(|a| of(a, "sitting")), [7, 3, 7]);
    }
}
